/**
 * Firmware in flash memory, `-drive if=pflash`: what a `pc` demands of the drives before it starts.
 * Source: behaviour of QEMU 7.2's pc_sysfw.c.
 */
import { CommandError } from "../../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../../base/limits.ts";
import { alignUp } from "../../base/ranges.ts";
import type { Drive } from "./drive.ts";

const PAGE_BYTES = 4096;
const MOST_BYTES = 8 * MiB;

/** Throws CommandError, of one or more lines, unless the machine could map them all. */
export function checkFlash(drives: Iterable<Drive>): void {
  const flash = [...drives].filter(({ place }) => place?.interface === "pflash");
  const at = (unit: number): Drive | undefined => flash.find(({ place }) => place?.unit === unit);
  if (at(1) && !at(0)) throw new CommandError("pflash1 requires pflash0");
  let total = 0;
  for (const { name, node } of flash.sort((a, b) => a.place!.unit - b.place!.unit)) {
    if (!node) throw new CommandError(`can't get size of block device ${name}: No medium found`);
    const length = alignUp(node.length, SECTOR_SIZE);
    if (length === 0 || length % PAGE_BYTES !== 0)
      throw new CommandError(
        `system firmware block device ${name} has invalid size ${length}\ninfo: its size must be a non-zero multiple of 0x1000`,
      );
    total += length;
    if (total > MOST_BYTES)
      throw new CommandError(`combined size of system firmware exceeds ${MOST_BYTES} bytes`);
  }
}
