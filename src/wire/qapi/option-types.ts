/**
 * The types of options, of nodes, images and jobs: what the library checks its arguments by. A page that has no monitor
 * has no more of the schema than this.
 */
import { type EnumDef, tableOf } from "./schema.ts";
import { blkdebugTypes } from "./types-blkdebug.ts";
import { blockdevTypes } from "./types-blockdev.ts";
import { cryptoTypes } from "./types-crypto.ts";
import { networkTypes } from "./types-network.ts";
import { sharedTypes } from "./types-options.ts";

/** The types by name. */
export const optionTypes = tableOf(blockdevTypes, blkdebugTypes, cryptoTypes, networkTypes, sharedTypes);

/** The enumerations' names. */
export type EnumName = {
  [N in keyof typeof optionTypes]: (typeof optionTypes)[N] extends EnumDef ? N : never;
}[keyof typeof optionTypes];

/** The values of an enumeration, in the table's order: the one list of them. */
export function valuesOf<N extends EnumName>(name: N): (typeof optionTypes)[N]["values"] {
  return optionTypes[name].values;
}
