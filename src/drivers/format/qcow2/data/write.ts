/**
 * Writing guest data. Clusters that belong to the image alone are written in place. For all others a request gets one
 * adjacent run of new clusters per L2 slice: allocated under the lock, filled without it (one write for the caller's
 * buffer, copy on write only at a ragged head or tail), then entered in the L2 table in one update.
 *
 * Invariants: an L2 entry is changed only after the data it points to was written (write-back.ts adds the barrier); two
 * requests never allocate the same guest cluster, since each claims it first.
 */
import { assert } from "../../../../base/assert.ts";
import {
  type Answer,
  andThen,
  ending,
  guarded,
  isPromise,
  rejected,
  together,
} from "../../../../base/answer.ts";
import { blockError } from "../../../../base/errors.ts";
import type { FilePart } from "../../../../base/host.ts";
import { valuesOrFailure } from "../../../../base/signals.ts";
import type { FileZeroes, HeldRange } from "../../../../base/ranges.ts";
import type { Image, DataPlace } from "../metadata/image.ts";
import { makeRoom, withRoom } from "../metadata/write-back.ts";
import { writeCompressedCluster } from "./compressed.ts";
import { type FileSource, copiesRanges, copySegments } from "./copy-segment.ts";
import { finish } from "./link.ts";
import { type GuestRange, planAll, planInPlace, type Segment } from "./plan.ts";
import { readGuest } from "./read.ts";

/** Up to this many bytes a ragged write is assembled into one request. */
const MERGE_BYTES = 256 * 1024;

/** What is written, from the guest offset on. */
export interface Source {
  readonly offset: number;
  readonly buffer: Uint8Array;
}

/** Writes all segments; the first error is thrown when none is under way any more. */
export function writeSegments(image: Image, segments: readonly Segment[], source: Source): Answer<void> {
  const only = segments.length === 1 ? segments[0] : undefined;
  if (only) return writeSegment(image, only, source);
  return together(segments.map((segment) => () => writeSegment(image, segment, source)));
}

/** Begins to write a segment. Never throws: its failure is looked at when all have ended. */
export function beginSegment(image: Image, segment: Segment, source: Source): Answer<void> {
  try {
    return writeSegment(image, segment, source);
  } catch (error) {
    return rejected(error);
  }
}

function writeSegment(image: Image, segment: Segment, { offset, buffer }: Source): Answer<void> {
  const { guest, bytes } = segment;
  const start = guest - offset;
  const whole = start === 0 && bytes === buffer.byteLength;
  const data = whole ? buffer : buffer.subarray(start, start + bytes);
  const isRagged = segment.head !== 0 || segment.tail !== 0;
  return isRagged ? writeRagged(image, segment, data) : writeData(image, segment, data);
}

function writeRagged(
  image: Image,
  { guest, bytes, host, head, tail }: Segment,
  data: Uint8Array,
): Answer<void> {
  assert(data.byteLength === bytes, "a segment has its data");
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
  return wait ? wait.then(() => writeStored(image, place, data)) : writeStored(image, place, data);
}

/** Writes `buffer` at `offset`; the range lies within the virtual disk. */
export function writeGuest(image: Image, offset: number, buffer: Uint8Array): Answer<void> {
  image.checkAlive();
  const { from, bytes } = clusterRange(image, offset, buffer.byteLength);
  const shared = image.claims.tryShared(from, bytes);
  if (!shared) return writeExclusive(image, { offset, buffer });
  const written = claimed(image, shared, () => writeInPlace(image, { offset, buffer }));
  if (isPromise(written))
    return written.then((done) => (done ? undefined : writeExclusive(image, { offset, buffer })));
  return written ? undefined : writeExclusive(image, { offset, buffer });
}

/** Whether all could be written in place, and was. */
function writeInPlace(image: Image, source: Source): Answer<boolean> {
  const direct = planInPlace(image, source.offset, source.buffer.byteLength);
  return isPromise(direct)
    ? direct.then((segments) => writeDirect(image, segments, source))
    : writeDirect(image, direct, source);
}

function writeDirect(image: Image, segments: Segment[] | undefined, source: Source): Answer<boolean> {
  const writing = segments && writeSegments(image, segments, source);
  return isPromise(writing) ? writing.then(() => true) : segments !== undefined;
}

/** Writes where clusters must be allocated, or may have to be. */
function writeExclusive(image: Image, source: Source | FileSource): Answer<void> {
  const ranges = rangesOf(source);
  const [first, last] = [ranges[0]!, ranges.at(-1)!];
  const { from, bytes } = clusterRange(image, first.guest, last.guest + last.bytes - first.guest);
  const claim = image.claims.exclusive(from, bytes);
  const allocating = (): Answer<void> => withRoom(image, () => writeAllocating(image, source, ranges));
  return isPromise(claim)
    ? claim.then((held) => claimed(image, held, allocating))
    : claimed(image, claim, allocating);
}

/** What is written of the disk, the lowest first. */
function rangesOf(source: Source | FileSource): GuestRange[] {
  if ("buffer" in source) return [{ guest: source.offset, bytes: source.buffer.byteLength }];
  return source.parts.map(({ offset, source: { bytes } }) => ({ guest: offset, bytes }));
}

function claimed<T>(image: Image, claim: HeldRange, body: () => Answer<T>): Answer<T> {
  return ending(body, () => image.claims.end(claim));
}

function clusterRange(image: Image, offset: number, bytes: number): { from: number; bytes: number } {
  const { clusterSize } = image.geometry;
  const from = offset - (offset % clusterSize);
  return { from, bytes: Math.ceil((offset + bytes) / clusterSize) * clusterSize - from };
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
    const claim = await image.claims.exclusive(at, clusterSize);
    await claimed(image, claim, async () => {
      const whole = part.byteLength === clusterSize ? part : padded(part, clusterSize);
      await withRoom(image, async () => {
        if (!(await writeCompressedCluster(image, at, whole)))
          await writeAllocating(image, { offset: at, buffer: part }, [{ guest: at, bytes: part.byteLength }]);
      });
    });
  }
}

function padded(part: Uint8Array, bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  whole.set(part);
  return whole;
}

/**
 * Has the host copy what lies in files into new clusters, which are allocated in this turn if they can be; see
 * DataPath.copyRanges(). Undefined for parts of clusters, and encrypted images.
 */
export function copyIntoGuest(
  image: Image,
  parts: readonly FilePart[],
  zeroes: FileZeroes,
): Promise<readonly number[]> | undefined {
  if (!copiesRanges(image, parts)) return undefined;
  const source: FileSource = { parts, zeroes, counts: [] };
  const copying = guarded(() => {
    image.checkAlive();
    return writeExclusive(image, source);
  });
  return Promise.resolve(copying).then(
    () => source.counts,
    // The clusters are given back.
    () => parts.map(() => 0),
  );
}

/** Allocates, writes, links. Clusters whose write failed are given back; the first error is thrown. */
function writeAllocating(
  image: Image,
  source: Source | FileSource,
  ranges: readonly GuestRange[],
): Answer<void> {
  const segments: Segment[] = [];
  const planned = image.locked(() => planAllocating(image, ranges, segments));
  return isPromise(planned)
    ? planned.then(() => writePlanned(image, segments, source))
    : writePlanned(image, segments, source);
}

function planAllocating(image: Image, ranges: readonly GuestRange[], segments: Segment[]): Answer<void> {
  try {
    const room = makeRoom(image);
    const planned = room
      ? room.then(() => planAll(image, ranges, segments))
      : planAll(image, ranges, segments);
    return isPromise(planned) ? planned.catch((error) => unplan(image, segments, error)) : undefined;
  } catch (error) {
    return unplan(image, segments, error);
  }
}

/** Gives back what was planned before `error`, which is thrown then. */
async function unplan(image: Image, segments: readonly Segment[], error: unknown): Promise<never> {
  await finish(image, segments, () => false);
  throw error;
}

function writePlanned(image: Image, segments: readonly Segment[], source: Source | FileSource): Answer<void> {
  if ("parts" in source)
    return copySegments(image, segments, source).then((isCopied) => linkWritten(image, segments, isCopied));
  const joined = joinSegments(segments);
  const writes: Answer<void>[] = [];
  let waits = false;
  for (const { whole } of joined) {
    const writing = beginSegment(image, whole, source);
    writes.push(writing);
    waits ||= isPromise(writing);
  }
  if (waits) return linkLater(image, segments, { joined, writes });
  return image.locked(() => finish(image, segments, () => true));
}

/** Once all writes have ended: enters what was written. */
async function linkLater(
  image: Image,
  segments: readonly Segment[],
  { joined, writes }: { joined: readonly Joined[]; writes: readonly Answer<void>[] },
): Promise<void> {
  const results = await Promise.allSettled(writes.map((write) => Promise.resolve(write)));
  const written = joined.flatMap(({ parts }, index) =>
    Array.from({ length: parts }, () => results[index]?.status === "fulfilled"),
  );
  await linkWritten(image, segments, written);
  valuesOrFailure(results);
}

/** Enters the segments that were written, and gives the clusters of the others back. */
async function linkWritten(
  image: Image,
  segments: readonly Segment[],
  written: readonly boolean[],
): Promise<void> {
  assert(written.length === segments.length, "each segment's write has ended");
  for (const [index, segment] of segments.entries())
    if (!written[index] && segment.action === "new") await giveRoom(image, segment);
  await image.locked(() => finish(image, segments, (index) => written[index] === true));
}

/** The part of a failed write that had room on the disk would take it from those who come next. */
async function giveRoom(image: Image, { host, bytes }: Segment): Promise<void> {
  const end = Math.min(host + bytes, image.data.length);
  if (host < end) await Promise.resolve(image.data.pdiscard(host, end - host)).catch(() => undefined);
}

/** Segments that are written by one request. */
interface Joined {
  whole: Segment;
  parts: number;
}

/** Segments whose bytes follow each other in the file too are written by one request. */
function joinSegments(segments: readonly Segment[]): Joined[] {
  const joined: Joined[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    const follows = last && last.whole.tail === 0 && segment.head === 0;
    if (!follows || last.whole.host + last.whole.bytes !== segment.host) {
      joined.push({ whole: segment, parts: 1 });
      continue;
    }
    const bytes = last.whole.bytes + segment.bytes;
    const fresh = last.whole.fresh && segment.fresh;
    last.whole = { ...last.whole, bytes, tail: segment.tail, fresh };
    last.parts += 1;
  }
  return joined;
}
