/**
 * Writing guest data. Clusters that belong to the image alone are written in place. For all others a request gets one
 * adjacent run of new clusters per L2 slice: allocated under the lock, filled without it (one write for the caller's
 * buffer, copy on write only at a ragged head or tail), then entered in the L2 table in one update.
 *
 * Invariants: an L2 entry is changed only after the data it points to was written (write-back.ts adds the barrier); two
 * requests never allocate the same guest cluster, since each claims it first (in-flight.ts).
 */
import { blockError } from "../../../../base/errors.ts";
import type { Claim } from "../metadata/in-flight.ts";
import type { DataPlace, Image } from "../metadata/image.ts";
import { allocate, free, unallocate } from "../metadata/allocate.ts";
import { freeCompressed, writeCompressedCluster } from "./compressed.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind, writeEntry } from "../disk/layout.ts";
import {
  entryPlace,
  type Extent,
  extentAt,
  isImpossible,
  loadSlice,
  peekSlice,
  refuseExtent,
  sliceReach,
} from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import { readGuest } from "./read.ts";
import { ALL, readExtended, subclusterMask, writeBits } from "../metadata/subclusters.ts";
import { writableSlice } from "../metadata/tables.ts";
import { makeRoom } from "../metadata/write-back.ts";

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
}

/** Up to this many bytes a ragged write is assembled into one request. */
const MERGE_BYTES = 256 * 1024;

/** Writes `buffer` at `offset`; the range lies within the virtual disk. */
export async function writeGuest(image: Image, offset: number, buffer: Uint8Array): Promise<void> {
  image.checkAlive();
  if (peekSlice(image, offset) === undefined) await loadSlice(image, offset);
  const direct = planInPlace(image, offset, buffer.byteLength);
  if (direct) {
    const { from, to } = clusterRange(image, offset, buffer.byteLength);
    const claim = image.claims.tryShared(from, to);
    if (claim) return writeClaimed(image, claim, () => writeSegments(image, direct, { offset, buffer }));
  }
  const { from, to } = clusterRange(image, offset, buffer.byteLength);
  const claim = await image.claims.exclusive(from, to);
  await writeClaimed(image, claim, () => writeAllocating(image, offset, buffer));
}

async function writeClaimed(image: Image, claim: Claim, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } finally {
    image.claims.end(claim);
  }
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
    await writeClaimed(image, claim, async () => {
      const whole = part.byteLength === clusterSize ? part : padded(part, clusterSize);
      if (!(await writeCompressedCluster(image, at, whole))) await writeAllocating(image, at, part);
    });
  }
}

function padded(part: Uint8Array, bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  whole.set(part);
  return whole;
}

/** The segments if every cluster can be written in place and is known to be so without I/O. */
function planInPlace(image: Image, offset: number, bytes: number): Segment[] | undefined {
  const segments: Segment[] = [];
  for (let done = 0; done < bytes;) {
    const guest = offset + done;
    const slice = peekSlice(image, guest);
    if (!slice) return undefined;
    const extent = extentAt(image, slice, guest, bytes - done);
    if (extent.kind !== Kind.normal || !extent.copied || isImpossible(image, extent, guest)) return undefined;
    segments.push({ guest, bytes: extent.bytes, host: extent.host, action: "in-place", head: 0, tail: 0 });
    done += extent.bytes;
  }
  return segments;
}

/** Allocates, writes, links. Clusters whose write failed are given back; the first error is thrown. */
async function writeAllocating(image: Image, offset: number, buffer: Uint8Array): Promise<void> {
  const segments: Segment[] = [];
  await image.locked(async () => {
    try {
      await makeRoom(image);
      await plan(image, { offset, bytes: buffer.byteLength, segments });
    } catch (error) {
      for (const segment of segments) await giveBack(image, segment);
      throw error;
    }
  });
  const writes = segments.map((segment) => writeSegment(image, segment, { offset, buffer }));
  const results = await Promise.allSettled(writes);
  await image.locked(async () => {
    for (const [index, segment] of segments.entries()) {
      if (segment.action === "in-place") continue;
      if (results[index]?.status === "fulfilled") await link(image, segment);
      else await giveBack(image, segment);
    }
  });
  for (const result of results) if (result.status === "rejected") throw result.reason as Error;
}

async function plan(
  image: Image,
  { offset, bytes, segments }: { offset: number; bytes: number; segments: Segment[] },
): Promise<void> {
  for (let done = 0; done < bytes;) {
    const segment = await planSegment(image, offset + done, bytes - done);
    segments.push(segment);
    done += segment.bytes;
  }
}

/** Plans the next part of a write. The L2 table is made here, so that nothing can fail for want of space after the write. */
async function planSegment(image: Image, guest: number, bytes: number): Promise<Segment> {
  const slice = await writableSlice(image, guest);
  const first = await checkedExtent(image, slice, guest, bytes);
  if (first.kind === Kind.normal && first.copied) {
    return { guest, bytes: first.bytes, host: first.host, action: "in-place", head: 0, tail: 0 };
  }
  const { clusterSize, subclusterSize } = image.geometry;
  const inCluster = guest % clusterSize;
  if (isReusable(first)) {
    const rest = (subclusterSize - ((guest + first.bytes) % subclusterSize)) % subclusterSize;
    const head = guest % subclusterSize;
    return { guest, bytes: first.bytes, host: first.host, action: "reuse", head, tail: rest };
  }
  let last = first;
  let length = first.bytes;
  while (length < bytes && length < sliceReach(image, guest)) {
    const next = await checkedExtent(image, slice, guest + length, bytes - length);
    if ((next.kind === Kind.normal && next.copied) || isReusable(next)) break;
    last = next;
    length += next.bytes;
  }
  const count = Math.ceil((inCluster + length) / clusterSize);
  const { cluster, fresh } = image.hasDataFile
    ? { cluster: (guest - inCluster) / clusterSize, fresh: false }
    : await allocate(image, count);
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
  };
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

async function checkedExtent(
  image: Image,
  slice: CachedTable,
  guest: number,
  bytes: number,
): Promise<Extent> {
  const extent = extentAt(image, slice, guest, bytes);
  if (isImpossible(image, extent, guest)) await refuseExtent(image, extent, guest);
  return extent;
}

interface Source {
  readonly offset: number;
  readonly buffer: Uint8Array;
}

async function writeSegments(image: Image, segments: readonly Segment[], source: Source): Promise<void> {
  const only = segments.length === 1 ? segments[0] : undefined;
  if (only) return writeSegment(image, only, source);
  const results = await Promise.allSettled(segments.map((segment) => writeSegment(image, segment, source)));
  for (const result of results) if (result.status === "rejected") throw result.reason as Error;
}

async function writeSegment(image: Image, segment: Segment, { offset, buffer }: Source): Promise<void> {
  const { guest, bytes, host, head, tail } = segment;
  const start = guest - offset;
  const whole = start === 0 && bytes === buffer.byteLength;
  const data = whole ? buffer : buffer.subarray(start, start + bytes);
  if (head === 0 && tail === 0) return writeData(image, { guest, host }, data);
  if (head + bytes + tail <= MERGE_BYTES) {
    const merged = new Uint8Array(head + bytes + tail);
    merged.set(data, head);
    const reads = [
      copyOnWriteRead(image, guest - head, merged.subarray(0, head)),
      copyOnWriteRead(image, guest + bytes, merged.subarray(head + bytes)),
    ];
    await settle(reads);
    return writeData(image, { guest: guest - head, host: host - head }, merged);
  }
  await settle([
    copyOnWrite(image, { guest: guest - head, host: host - head, bytes: head }),
    writeData(image, { guest, host }, data),
    copyOnWrite(image, { guest: guest + bytes, host: host + bytes, bytes: tail }),
  ]);
}

async function copyOnWrite(
  image: Image,
  { guest, host, bytes }: { guest: number; host: number; bytes: number },
): Promise<void> {
  if (bytes === 0) return;
  const buffer = new Uint8Array(bytes);
  await copyOnWriteRead(image, guest, buffer);
  await image.event("cow_write");
  await image.checkDataOverlap(host, bytes);
  await writeStored(image, { guest, host }, buffer);
}

/** The old content around a write; beyond the end of the disk it is zeroes. */
async function copyOnWriteRead(image: Image, guest: number, buffer: Uint8Array): Promise<void> {
  const bytes = Math.min(buffer.byteLength, Math.max(0, image.size - guest));
  if (bytes === 0) return;
  await image.event("cow_read");
  await readGuest(image, { offset: guest, buffer: buffer.subarray(0, bytes), flags: 0 });
}

async function settle(parts: readonly Promise<void>[]): Promise<void> {
  await Promise.allSettled(parts);
  await Promise.all(parts);
}

function writeStored(image: Image, place: DataPlace, data: Uint8Array): Promise<void> {
  if (image.encryption) return image.encryption.write(image, place, data);
  return image.data.pwriteNow(place.host, data) ? Promise.resolve() : image.data.pwrite(place.host, data);
}

function writeData(image: Image, place: DataPlace, data: Uint8Array): Promise<void> {
  const wait = image.checkDataOverlap(place.host, data.byteLength) ?? image.event("write_aio");
  return wait ? wait.then(() => writeStored(image, place, data)) : writeStored(image, place, data);
}

async function giveBack(image: Image, segment: Segment): Promise<void> {
  if (segment.action !== "new" || image.hasDataFile) return;
  const { clusterSize } = image.geometry;
  const inCluster = segment.host % clusterSize;
  const count = Math.ceil((inCluster + segment.bytes) / clusterSize);
  await unallocate(image, { cluster: (segment.host - inCluster) / clusterSize, count });
}

/** Enters a segment's clusters in the L2 table and drops what was there. Runs under the lock. */
async function link(image: Image, segment: Segment): Promise<void> {
  const { clusterSize, entryBytes } = image.geometry;
  const slice = await writableSlice(image, segment.guest);
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
