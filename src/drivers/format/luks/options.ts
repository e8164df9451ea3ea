/**
 * What is said of a new LUKS volume, and how large it becomes. Source: behaviour and words of QEMU 7.2.
 */
import { SECTOR_SIZE } from "../../../base/limits.ts";
import { alignUp } from "../../../base/ranges.ts";
import type { CreateOption, MeasureRequest, MeasureResult } from "../../../block/model/contract.ts";
import { parseLuksCreateOptions, payloadOffset } from "../../../crypto/luks-options.ts";
import { cipherOptions, keySlotOptions } from "../../../crypto/luks-rows.ts";

/** In the order in which `create` repeats them. */
export const createOptions: readonly CreateOption[] = [
  { name: "size", type: "size", wire: "size", help: "Virtual disk size" },
  {
    name: "key-secret",
    type: "str",
    wire: "key-secret",
    help: "ID of the secret that provides the keyslot passphrase",
    isSecret: true,
    isNeededToMeasure: () => true,
  },
  ...cipherOptions.map((row) => ({ ...row, wire: row.name })),
  {
    name: "detached-header",
    type: "bool",
    wire: "detached-header",
    help: "Create a detached LUKS header",
    isNewer: true,
    isNoDisk: true,
  },
];

/** The key slots. */
export const amendOptions: readonly CreateOption[] = keySlotOptions.map((row) => ({
  ...row,
  wire: row.name,
}));

/** The header and the disk behind it. As QEMU counts: a length that was given need not be whole sectors. */
export function measure({ options, bytes, source }: MeasureRequest): MeasureResult {
  const header = payloadOffset(parseLuksCreateOptions(options).keyBytes);
  const all = header + (source ? alignUp(bytes, SECTOR_SIZE) : bytes);
  return { requiredBytes: all, fullyAllocatedBytes: all };
}
