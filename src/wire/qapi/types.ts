/**
 * All types of the schema, put together: by themselves, so that who reads descriptions only has no commands with it.
 */
import type { EnumDef } from "./schema.ts";
import { blockdevTypes } from "./types-blockdev.ts";
import { commonTypes } from "./types-common.ts";
import { cryptoTypes } from "./types-crypto.ts";
import { jobTypes } from "./types-job.ts";
import { queryTypes } from "./types-query.ts";

/** The types by name. */
export const typeTable = {
  ...commonTypes,
  ...blockdevTypes,
  ...cryptoTypes,
  ...jobTypes,
  ...queryTypes,
} as const;

/** The enumerations' names. */
export type EnumName = {
  [N in keyof typeof typeTable]: (typeof typeTable)[N] extends EnumDef ? N : never;
}[keyof typeof typeTable];

/** The values of an enumeration, in the table's order: the one list of them. */
export function valuesOf<N extends EnumName>(name: N): (typeof typeTable)[N]["values"] {
  return typeTable[name].values;
}
