/**
 * Whole writes to a file with synchronous calls. A count that is not the length asked for is a full disk: browsers
 * have been seen to write less, and to return numbers that are no counts, where the quota was used up.
 */
import { BlockError } from "../../../base/errors.ts";
import type { SyncFile } from "../../../base/host.ts";

/** Writes all of `buffer` at `offset`, or throws: ENOSPC for any other count, else the file's own error. */
export function writeWhole(file: SyncFile, buffer: Uint8Array, offset: number): void {
  const count = file.write(buffer, offset);
  if (count === buffer.byteLength) return;
  throw new BlockError({ code: "ENOSPC", op: "pwrite", offset, bytes: buffer.byteLength });
}

/** Fills all of `buffer` from `offset`; what the file does not have reads as zeroes. */
export function readWhole(file: SyncFile, buffer: Uint8Array, offset: number): void {
  const count = file.read(buffer, offset);
  if (count < buffer.byteLength) buffer.fill(0, Math.max(0, count));
}
