/**
 * How a mirror cuts what is dirty into pieces: runs of at most a buffer, pieces of at most a part of it, all of them whole
 * granules. Source: behaviour of QEMU 7.2's block/mirror.c; the sizes are ours.
 */
import { assert } from "../../base/assert.ts";
import { MiB } from "../../base/limits.ts";
import { type ByteRange, alignDown, alignUp, isAligned } from "../../base/ranges.ts";
import type { RangeLock } from "../../base/range-lock.ts";
import type { CopyExtent } from "../../block/copy/range-copy.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";

/** A buffer is copied in this many pieces, all of them in flight; more make the page cache no faster. */
export const MAX_IN_FLIGHT = 4;
/** Zeroes are written in pieces of at most this much. */
export const MAX_ZERO_BYTES = 1024 * MiB;
/** Limits of one piece, bytes: 4 MiB each of the default buffer measured best, into qcow2 above all. */
const MIN_PIECE_BYTES = MiB;
const MAX_PIECE_BYTES = 4 * MiB;

/** The sizes of one mirror, bytes. */
export interface Cutting {
  granularity: number;
  bufBytes: number;
  diskBytes: number;
}

/** The dirty bytes from `first` (a dirty granule) that nothing in flight touches, at most a buffer's worth; perhaps none. */
export function dirtyRun(
  bitmap: Bitmap,
  inFlight: RangeLock,
  { first, granularity: unit, bufBytes, diskBytes }: Cutting & { first: number },
): ByteRange {
  assert(isAligned(first, unit), "a dirty run begins within a granule");
  const most = Math.min(diskBytes, first + alignUp(bufBytes, unit));
  const clean = bitmap.nextZero(first, most);
  let end = clean < 0 ? most : Math.min(clean, most);
  while (end > first && inFlight.overlaps({ offset: first, bytes: end - first })) {
    end = end - first <= unit ? first : first + alignDown(Math.floor((end - first) / 2) + unit - 1, unit);
    if (end - first === unit && inFlight.overlaps({ offset: first, bytes: unit })) end = first;
  }
  return { offset: first, bytes: end - first };
}

/** How much of an extent with `left` bytes of its run to go is one piece. */
export function pieceBytes(
  extent: CopyExtent,
  left: number,
  { granularity: unit, bufBytes }: Cutting,
): number {
  const most = extent.kind === "data" ? mostPerPiece(bufBytes) : extent.bytes;
  const wanted = Math.min(extent.bytes, most, left);
  return Math.min(left, Math.max(unit, alignDown(wanted, unit)));
}

/** Largest piece of data of a mirror with such a buffer, bytes. */
export function mostPerPiece(bufBytes: number): number {
  return Math.min(Math.max(Math.floor(bufBytes / MAX_IN_FLIGHT), MIN_PIECE_BYTES), MAX_PIECE_BYTES);
}
