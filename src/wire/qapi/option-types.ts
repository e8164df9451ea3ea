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

/** Whether all drivers in a description are the table's own. What others add to the table takes longer to put together than a check takes. */
export function isOfTable(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  if (Array.isArray(value)) return value.every(isOfTable);
  if (!("driver" in value)) return true;
  const known: readonly unknown[] = optionTypes.BlockdevDriver.values;
  return known.includes(value.driver) && Object.values(value).every(isOfTable);
}
