/**
 * How a copy is cut: what is dirty into runs and pieces, and a piece that failed into its granules.
 *
 * A run is at most a buffer, a piece at most a part of it, both whole granules. Source: behaviour of QEMU 7.2's block/mirror.c;
 * the sizes are ours.
 *
 * An error costs its granule, not its piece: what a failed piece of a copy is split into, until what fails is alone and all
 * else of it has been copied.
 *
 * Invariants: parts are cut at multiples of the granule, and tried one after the other, the lowest first; a broken invariant
 * ends the search at once. An error that does not come again leaves no granule to blame: the whole piece counts as failed, so
 * that no error is lost.
 */
import { MiB } from "../../base/limits.ts";
import { type RangeLock, type ByteRange, alignDown, alignUp, isAligned } from "../../base/ranges.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import { AssertionError, assert } from "../../base/assert.ts";
import type { Errno } from "../../base/errno.ts";
import { errnoOf } from "../../base/errors.ts";
import { type CopyExtent, sideOf } from "./range-copy.ts";

/** Bytes that could not be copied, and why. */
export interface FailedRange extends ByteRange {
  readonly error: unknown;
}

/** How a failed piece is split. */
export interface GranuleSearch {
  /** What is never split, bytes. */
  granule: number;
  /** Tries a part once more. */
  copy(part: ByteRange): unknown;
  /** After an error, before each try. False: what was not tried counts as failed (the job is cancelled, or ends with the error). */
  goesOn(error: unknown): boolean;
}

/** Errors that are the same wherever one asks: of a connection, of rights, of a node as a whole. */
const everywhere: ReadonlySet<Errno> = new Set<Errno>([
  "EPERM",
  "EACCES",
  "EBADF",
  "ENOENT",
  "ENXIO",
  "ENODEV",
  "ENOMEDIUM",
  "EROFS",
  "EPIPE",
  "ENOTSUP",
  "ECONNREFUSED",
  "ECONNRESET",
  "ETIMEDOUT",
  "ENOTCONN",
  "ESHUTDOWN",
  "ECANCELED",
  "ESTALE",
]);

/**
 * Splits `piece`, which failed with `error`. Resolves to what fails still, the lowest first and never nothing; neighbours that
 * fail alike are one range. Rejects with a broken invariant only.
 */
export async function failedGranules(
  piece: ByteRange,
  error: unknown,
  search: GranuleSearch,
): Promise<FailedRange[]> {
  if (error instanceof AssertionError) throw error;
  const failed: FailedRange[] = [];
  const isOfPlace = !everywhere.has(errnoOf(error)) && search.goesOn(error);
  const left = isOfPlace ? halves(piece, search.granule) : [];
  let last = error;
  for (let part = left.pop(); part; part = left.pop()) {
    const failure = search.goesOn(last) ? await attempt(part, search) : { error: last };
    if (!failure) continue;
    last = failure.error;
    const parts = search.goesOn(last) ? halves(part, search.granule) : [];
    if (parts.length > 0) left.push(...parts);
    else note(failed, { offset: part.offset, bytes: part.bytes, error: last });
  }
  assert(bytesOf(failed) <= piece.bytes, "parts within their whole");
  return failed.length > 0 ? failed : [{ offset: piece.offset, bytes: piece.bytes, error }];
}

/** Bytes of all ranges together. */
export function bytesOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { bytes }) => sum + bytes, 0);
}

async function attempt(part: ByteRange, search: GranuleSearch): Promise<{ error: unknown } | undefined> {
  try {
    await search.copy(part);
    return undefined;
  } catch (error) {
    if (error instanceof AssertionError) throw error;
    return { error };
  }
}

/** Both halves of a part, the higher one first; nothing of what lies within one granule. */
function halves({ offset, bytes }: ByteRange, granule: number): ByteRange[] {
  const end = offset + bytes;
  const first = alignDown(offset, granule);
  const granules = Math.ceil((end - first) / granule);
  if (granules <= 1) return [];
  const middle = first + Math.ceil(granules / 2) * granule;
  assert(middle > offset && middle < end, "a piece is split");
  return [
    { offset: middle, bytes: end - middle },
    { offset, bytes: middle - offset },
  ];
}

function note(failed: FailedRange[], next: FailedRange): void {
  const last = failed.at(-1);
  assert(!last || last.offset + last.bytes <= next.offset, "failures ascend");
  if (last && last.offset + last.bytes === next.offset && isAlike(last.error, next.error))
    failed[failed.length - 1] = { ...last, bytes: last.bytes + next.bytes };
  else failed.push(next);
}

function isAlike(a: unknown, b: unknown): boolean {
  return errnoOf(a) === errnoOf(b) && sideOf(a) === sideOf(b);
}

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
  assert(end >= first && end <= most, "a run within its buffer");
  return { offset: first, bytes: end - first };
}

/** How much of an extent with `left` bytes of its run to go is one piece. */
export function pieceBytes(
  extent: CopyExtent,
  left: number,
  { granularity: unit, bufBytes }: Cutting,
): number {
  assert(extent.bytes > 0 && left > 0, "a piece of something");
  const most = extent.kind === "data" ? mostPerPiece(bufBytes) : extent.bytes;
  const wanted = Math.min(extent.bytes, most, left);
  return Math.min(left, Math.max(unit, alignDown(wanted, unit)));
}

/** Largest piece of data of a mirror with such a buffer, bytes. */
export function mostPerPiece(bufBytes: number): number {
  return Math.min(Math.max(Math.floor(bufBytes / MAX_IN_FLIGHT), MIN_PIECE_BYTES), MAX_PIECE_BYTES);
}
