/**
 * Writing guest data. Clusters that belong to the image alone are written in place. For all others a request gets one
 * adjacent run of new clusters per L2 slice: allocated under the lock, filled without it (one write for the caller's
 * buffer, copy on write only at a ragged head or tail), then entered in the L2 table in one update.
 *
 * Invariants: an L2 entry is changed only after the data it points to was written (write-back.ts adds the barrier); two
 * requests never allocate the same guest cluster, since each claims it first (in-flight.ts).
 */
import {
  type Answer,
  andThen,
  ending,
  guarded,
  isPromise,
  repeat,
  rescue,
  together,
} from "../../../../base/answer.ts";
import { blockError } from "../../../../base/errors.ts";
import { valuesOrFailure } from "../../../../base/signals.ts";
import type { Claim } from "../metadata/in-flight.ts";
import type { DataPlace, Image } from "../metadata/image.ts";
import { allocate, free, unallocate } from "../metadata/allocate.ts";
import { freeCompressed, writeCompressedCluster } from "./compressed.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind, writeEntry } from "../disk/layout.ts";
import { checkedExtent, entryPlace, type Extent, findExtent, sliceReach } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import { readGuest } from "./read.ts";
import { ALL, readExtended, subclusterMask, writeBits } from "../metadata/subclusters.ts";
import { writableSlice } from "../metadata/tables.ts";
import { makeRoom, withRoom } from "../metadata/write-back.ts";

/** A part of a write that goes to adjacent bytes of the file. */
interface Segment {
  readonly guest: number;
  readonly bytes: number;
  /** Where the first byte goes. */
  readonly host: number;
  /** in-place: nothing else to do. new: clusters to enter. reuse: allocated zero clusters, to enter without the zero flag. */
  readonly action: "in-place" | "new" | "reuse";
  /** The rest of the first and last cluster must be filled: the bytes before and after, 0 where nothing is to be done. */
  readonly head: number;
  readonly tail: number;
  /** Where the clusters are entered, kept in memory until they are; undefined: in-place. */
  readonly slice: CachedTable | undefined;
}

/** Up to this many bytes a ragged write is assembled into one request. */
const MERGE_BYTES = 256 * 1024;

/** Writes `buffer` at `offset`; the range lies within the virtual disk. */
export function writeGuest(image: Image, offset: number, buffer: Uint8Array): Answer<void> {
  image.checkAlive();
  const { from, to } = clusterRange(image, offset, buffer.byteLength);
  const shared = image.claims.tryShared(from, to);
  if (!shared) return writeExclusive(image, offset, buffer);
  const written = claimed(image, shared, () =>
    andThen(planInPlace(image, offset, buffer.byteLength), (direct) =>
      direct ? andThen(writeSegments(image, direct, { offset, buffer }), () => true) : false,
    ),
  );
  return andThen(written, (done) => (done ? undefined : writeExclusive(image, offset, buffer)));
}

/** Writes where clusters must be allocated, or may have to be. */
function writeExclusive(image: Image, offset: number, buffer: Uint8Array): Answer<void> {
  const { from, to } = clusterRange(image, offset, buffer.byteLength);
  return andThen(image.claims.exclusive(from, to), (claim) =>
    claimed(image, claim, () => withRoom(image, () => writeAllocating(image, offset, buffer))),
  );
}

function claimed<T>(image: Image, claim: Claim, body: () => Answer<T>): Answer<T> {
  return ending(body, () => image.claims.end(claim));
}

function clusterRange(image: Image, offset: number, bytes: number): { from: number; to: number } {
  const { clusterSize } = image.geometry;
  const from = offset - (offset % clusterSize);
  return { from, to: Math.ceil((offset + bytes) / clusterSize) * clusterSize };
}

/**
 * Stores `buffer` compressed, cluster by cluster; `offset` is at a cluster's start and the end at one's end or the disk's.
 * What does not get smaller, or overwrites data, is written as it is. Errors: EINVAL if not whole clusters.
 */
export async function writeCompressed(image: Image, offset: number, buffer: Uint8Array): Promise<void> {
  image.checkAlive();
  if (image.hasDataFile) throw blockError("ENOTSUP", "pwrite");
  // QEMU would store the stream for everybody to read.
  if (image.encryption) {
    throw blockError("ENOTSUP", "pwrite", "Compression and encryption not supported at the same time");
  }
  const { clusterSize } = image.geometry;
  const end = offset + buffer.byteLength;
  if (offset % clusterSize !== 0 || (end % clusterSize !== 0 && end !== image.size)) {
    throw blockError("EINVAL", "pwrite", "compressed writes must cover whole clusters");
  }
  for (let at = offset; at < end; at += clusterSize) {
    const part = buffer.subarray(at - offset, Math.min(at + clusterSize, end) - offset);
    const claim = await image.claims.exclusive(at, at + clusterSize);
    await claimed(image, claim, async () => {
      const whole = part.byteLength === clusterSize ? part : padded(part, clusterSize);
      await withRoom(image, async () => {
        if (!(await writeCompressedCluster(image, at, whole))) await writeAllocating(image, at, part);
      });
    });
  }
}

function padded(part: Uint8Array, bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  whole.set(part);
  return whole;
}

/** The segments if every cluster can be written in place. The caller's claim keeps the mapping as it is. */
function planInPlace(image: Image, offset: number, bytes: number): Answer<Segment[] | undefined> {
  const segments: Segment[] = [];
  let done = 0;
  const look = repeat(() => {
    const guest = offset + done;
    return andThen(findExtent(image, guest, bytes - done), (extent) => {
      if (extent.kind !== Kind.normal || !extent.copied) return false;
      segments.push(inPlace(guest, extent));
      done += extent.bytes;
      return done < bytes;
    });
  });
  return andThen(look, () => (done < bytes ? undefined : segments));
}

function inPlace(guest: number, { bytes, host }: Extent): Segment {
  return { guest, bytes, host, action: "in-place", head: 0, tail: 0, slice: undefined };
}

/** Allocates, writes, links. Clusters whose write failed are given back; the first error is thrown. */
function writeAllocating(image: Image, offset: number, buffer: Uint8Array): Answer<void> {
  const segments: Segment[] = [];
  const planned = image.locked(() =>
    rescue(
      () => andThen(makeRoom(image), () => plan(image, { offset, bytes: buffer.byteLength, segments })),
      async (error) => {
        await finish(image, segments, () => false);
        throw error;
      },
    ),
  );
  return andThen(planned, () => {
    const joined = joinSegments(segments);
    const writes = joined.map(({ whole }) => guarded(() => writeSegment(image, whole, { offset, buffer })));
    if (!writes.some((write) => isPromise(write)))
      return image.locked(() => finish(image, segments, () => true));
    return Promise.allSettled(writes.map((write) => Promise.resolve(write))).then(async (results) => {
      const written = joined.flatMap(({ parts }, index) =>
        Array.from({ length: parts }, () => results[index]?.status === "fulfilled"),
      );
      for (const [index, segment] of segments.entries())
        if (!written[index] && segment.action === "new") await giveRoom(image, segment);
      await image.locked(() => finish(image, segments, (index) => written[index] === true));
      valuesOrFailure(results);
    });
  });
}

/** The part of a failed write that had room on the disk would take it from those who come next. */
async function giveRoom(image: Image, { host, bytes }: Segment): Promise<void> {
  const end = Math.min(host + bytes, image.data.length);
  if (host < end) await Promise.resolve(image.data.pdiscard(host, end - host)).catch(() => undefined);
}

/** Segments whose bytes follow each other in the file too are written by one request. */
function joinSegments(segments: readonly Segment[]): { whole: Segment; parts: number }[] {
  const joined: { whole: Segment; parts: number }[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    const follows = last && last.whole.tail === 0 && segment.head === 0;
    if (!follows || last.whole.host + last.whole.bytes !== segment.host) {
      joined.push({ whole: segment, parts: 1 });
      continue;
    }
    last.whole = { ...last.whole, bytes: last.whole.bytes + segment.bytes, tail: segment.tail };
    last.parts += 1;
  }
  return joined;
}

/** Enters what was written, and gives the other clusters back; all of them, whatever fails. Runs under the lock. */
function finish(
  image: Image,
  segments: readonly Segment[],
  isWritten: (index: number) => boolean,
): Answer<void> {
  return together(
    segments.map((segment, index) => () => {
      if (segment.slice) segment.slice.users -= 1;
      if (isWritten(index)) link(image, segment);
      return isWritten(index) ? undefined : giveBack(image, segment);
    }),
  );
}

function plan(
  image: Image,
  { offset, bytes, segments }: { offset: number; bytes: number; segments: Segment[] },
): Answer<void> {
  let done = 0;
  return repeat(() =>
    andThen(planSegment(image, offset + done, bytes - done), (segment) => {
      if (segment.slice) segment.slice.users += 1;
      segments.push(segment);
      done += segment.bytes;
      return done < bytes;
    }),
  );
}

/** Plans the next part of a write. The L2 table is made here, so that nothing can fail for want of space after the write. */
function planSegment(image: Image, guest: number, bytes: number): Answer<Segment> {
  return andThen(writableSlice(image, guest), (slice) =>
    andThen(checkedExtent(image, slice, guest, bytes), (first): Answer<Segment> => {
      if (first.kind === Kind.normal && first.copied) return inPlace(guest, first);
      if (isReusable(first)) return planReuse(image, slice, guest, first);
      return andThen(lastOfRun(image, slice, { guest, bytes, first }), (last) =>
        planNew(image, slice, { guest, first, ...last }),
      );
    }),
  );
}

function planReuse(image: Image, slice: CachedTable, guest: number, { bytes, host }: Extent): Segment {
  const { subclusterSize } = image.geometry;
  const tail = (subclusterSize - ((guest + bytes) % subclusterSize)) % subclusterSize;
  return { guest, bytes, host, action: "reuse", head: guest % subclusterSize, tail, slice };
}

/** How far the clusters go that need new ones, and the last extent of them. */
function lastOfRun(
  image: Image,
  slice: CachedTable,
  { guest, bytes, first }: { guest: number; bytes: number; first: Extent },
): Answer<{ last: Extent; length: number }> {
  let last = first;
  let length = first.bytes;
  const look = repeat(() => {
    if (length >= bytes || length >= sliceReach(image, guest)) return false;
    return andThen(checkedExtent(image, slice, guest + length, bytes - length), (next) => {
      if ((next.kind === Kind.normal && next.copied) || isReusable(next)) return false;
      last = next;
      length += next.bytes;
      return true;
    });
  });
  return andThen(look, () => ({ last, length }));
}

function planNew(
  image: Image,
  slice: CachedTable,
  { guest, first, last, length }: { guest: number; first: Extent; last: Extent; length: number },
): Answer<Segment> {
  const { clusterSize } = image.geometry;
  const inCluster = guest % clusterSize;
  const count = Math.ceil((inCluster + length) / clusterSize);
  const allocated = image.hasDataFile
    ? { cluster: (guest - inCluster) / clusterSize, fresh: false }
    : allocate(image, count);
  return andThen(allocated, ({ cluster, fresh }) => {
    // What was never written reads as zeroes only if it is not decrypted.
    const zeroes = fresh && !image.encryption;
    const head = guest % copyUnit(image, first);
    const end = guest + length;
    const tail = Math.ceil(end / copyUnit(image, last)) * copyUnit(image, last) - end;
    return {
      guest,
      bytes: length,
      host: cluster * clusterSize + inCluster,
      action: "new",
      head: zeroes && readsZero(image, first, guest - head) ? 0 : head,
      tail: zeroes && readsZero(image, last, end) ? 0 : tail,
      slice,
    };
  });
}

/** What of a cluster goes along into a new one: all of it if it held anything, else the subclusters that are touched. */
function copyUnit(image: Image, { kind }: Extent): number {
  const { clusterSize, subclusterSize } = image.geometry;
  return kind === Kind.unallocated || kind === Kind.zeroPlain ? subclusterSize : clusterSize;
}

function isReusable(extent: Extent): boolean {
  return (extent.kind === Kind.zeroAllocated || extent.kind === Kind.reserved) && extent.copied;
}

/** Whether the part of a cluster from `guest` on reads as zeroes, judged by the kind of its extent. */
function readsZero(image: Image, extent: Extent, guest: number): boolean {
  if (extent.kind === Kind.zeroPlain) return true;
  // Other subclusters of the cluster may hold data.
  if (extent.kind === Kind.zeroAllocated) return image.geometry.entryBytes === 8;
  if (extent.kind !== Kind.unallocated) return false;
  const { backing } = image.node;
  return !backing || guest >= backing.length;
}

interface Source {
  readonly offset: number;
  readonly buffer: Uint8Array;
}

function writeSegments(image: Image, segments: readonly Segment[], source: Source): Answer<void> {
  const only = segments.length === 1 ? segments[0] : undefined;
  if (only) return writeSegment(image, only, source);
  return together(segments.map((segment) => () => writeSegment(image, segment, source)));
}

function writeSegment(image: Image, segment: Segment, { offset, buffer }: Source): Answer<void> {
  const { guest, bytes, host, head, tail } = segment;
  const start = guest - offset;
  const whole = start === 0 && bytes === buffer.byteLength;
  const data = whole ? buffer : buffer.subarray(start, start + bytes);
  if (head === 0 && tail === 0) return writeData(image, { guest, host }, data);
  if (head + bytes + tail <= MERGE_BYTES) {
    const merged = new Uint8Array(head + bytes + tail);
    merged.set(data, head);
    const reads = together([
      () => copyOnWriteRead(image, guest - head, merged.subarray(0, head)),
      () => copyOnWriteRead(image, guest + bytes, merged.subarray(head + bytes)),
    ]);
    return andThen(reads, () => writeData(image, { guest: guest - head, host: host - head }, merged));
  }
  return together([
    () => copyOnWrite(image, { guest: guest - head, host: host - head, bytes: head }),
    () => writeData(image, { guest, host }, data),
    () => copyOnWrite(image, { guest: guest + bytes, host: host + bytes, bytes: tail }),
  ]);
}

function copyOnWrite(
  image: Image,
  { guest, host, bytes }: { guest: number; host: number; bytes: number },
): Answer<void> {
  if (bytes === 0) return undefined;
  const buffer = new Uint8Array(bytes);
  return andThen(copyOnWriteRead(image, guest, buffer), () =>
    andThen(image.event("cow_write"), () =>
      andThen(image.checkDataOverlap(host, bytes), () => writeStored(image, { guest, host }, buffer)),
    ),
  );
}

/** The old content around a write; beyond the end of the disk it is zeroes. */
function copyOnWriteRead(image: Image, guest: number, buffer: Uint8Array): Answer<void> {
  const bytes = Math.min(buffer.byteLength, Math.max(0, image.size - guest));
  if (bytes === 0) return undefined;
  return andThen(image.event("cow_read"), () =>
    readGuest(image, { offset: guest, buffer: buffer.subarray(0, bytes), flags: 0 }),
  );
}

function writeStored(image: Image, place: DataPlace, data: Uint8Array): Answer<void> {
  if (image.encryption) return image.encryption.write(image, place, data);
  return image.data.pwrite(place.host, data);
}

function writeData(image: Image, place: DataPlace, data: Uint8Array): Answer<void> {
  const wait = image.checkDataOverlap(place.host, data.byteLength) ?? image.event("write_aio");
  return andThen(wait, () => writeStored(image, place, data));
}

function giveBack(image: Image, segment: Segment): Answer<void> {
  if (segment.action !== "new" || image.hasDataFile) return undefined;
  const { clusterSize } = image.geometry;
  const inCluster = segment.host % clusterSize;
  const count = Math.ceil((inCluster + segment.bytes) / clusterSize);
  return unallocate(image, { cluster: (segment.host - inCluster) / clusterSize, count });
}

/** Enters a segment's clusters in the L2 table and drops what was there. Runs under the lock. */
function link(image: Image, segment: Segment): void {
  const { slice } = segment;
  if (!slice) return;
  const { clusterSize, entryBytes } = image.geometry;
  const inCluster = segment.host % clusterSize;
  const count = Math.ceil((inCluster + segment.bytes) / clusterSize);
  const first = entryPlace(image, segment.guest);
  for (let index = 0; index < count; index++) {
    const at = first + index * entryBytes;
    if (entryBytes > 8) linkSubclusters(image, { slice, segment, at, from: index * clusterSize - inCluster });
    const high = slice.view.getUint32(at);
    const low = slice.view.getUint32(at + 4);
    if (segment.action === "new" && (high | low) !== 0) dropEntry(image, high, low);
    writeEntry(slice.view, at, segment.host - inCluster + index * clusterSize, COPIED_HIGH);
  }
  image.l2.markDirty(slice, first, first + count * entryBytes);
  image.barrierBeforeL2 = true;
}

/** Sets the bits of the entry at `at`, whose cluster begins `from` bytes after the segment. Comes before the entry's words. */
function linkSubclusters(
  image: Image,
  { slice, segment, at, from }: { slice: CachedTable; segment: Segment; at: number; from: number },
): void {
  const { clusterSize } = image.geometry;
  const old = readExtended(image, slice.view, at);
  const isCopied = segment.action === "new" && (old.hasCluster || old.compressed);
  const covered = isCopied
    ? ALL
    : subclusterMask(image, Math.max(0, -from), Math.min(clusterSize, segment.bytes - from));
  const allocated = segment.action === "new" ? covered : old.allocated | covered;
  writeBits(slice.view, at, { zero: old.zero & ~covered, allocated });
}

function dropEntry(image: Image, high: number, low: number): void {
  if (image.hasDataFile) return;
  const kind = entryKind(high, low);
  if (kind === Kind.compressed) freeCompressed(image, { high, low }, "never");
  if (kind !== Kind.normal && kind !== Kind.zeroAllocated) return;
  free(image, { cluster: entryOffset(high, low) / image.geometry.clusterSize, count: 1 }, "never");
}
