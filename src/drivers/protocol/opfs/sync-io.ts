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

/**
 * Fills `buffer` from `offset`. `least`: bytes that the file must have there; the rest reads as zeroes. Throws EIO where the
 * file is shorter (the site's data were cleared), or where the count is none, as for one that is larger than the buffer.
 */
export function readWhole(file: SyncFile, buffer: Uint8Array, { offset, least }: ReadRange): void {
  const count = file.read(buffer, offset);
  if (count === buffer.byteLength) return;
  if (!(count >= least && count < buffer.byteLength))
    throw readError({ count, offset, bytes: buffer.byteLength });
  buffer.fill(0, count);
}

/** Where a read begins, and what the file is known to have from there on, bytes. */
export interface ReadRange {
  offset: number;
  least: number;
}

function readError(read: { count: number; offset: number; bytes: number }): BlockError {
  const { count, offset, bytes } = read;
  const message =
    count >= 0 && count < bytes
      ? "what was written is not there any more: the browser has cleared the site's data"
      : `the browser says that it has read ${count} of ${bytes} bytes`;
  return new BlockError({ code: "EIO", op: "pread", offset, bytes, message });
}
