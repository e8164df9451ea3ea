/**
 * Planning a write: into which bytes of the file each part of it goes. Clusters that belong to the image alone are written
 * in place; the others get an adjacent run of new ones per L2 slice.
 *
 * Invariant: every step is known at once where the tables are in memory, and makes nothing then that only others need.
 */
import { assert } from "../../../../base/assert.ts";
import { type Answer, andThen, isPromise, repeat } from "../../../../base/answer.ts";
import { allocate } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";
import { Kind } from "../disk/layout.ts";
import { checkedExtent, type Extent, findExtent, sliceReach, writableSlice } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";

/** A run of guest bytes. */
export interface GuestRange {
  readonly guest: number;
  readonly bytes: number;
}

/** A part of a write that goes to adjacent bytes of the file. */
export interface Segment {
  readonly guest: number;
  readonly bytes: number;
  /** Where the first byte goes. */
  readonly host: number;
  /** in-place: nothing else to do. new: clusters to enter. reuse: allocated zero clusters, to enter without the zero flag. */
  readonly action: "in-place" | "new" | "reuse";
  /** The rest of the first and last cluster must be filled: the bytes before and after, 0 where nothing is to be done. */
  readonly head: number;
  readonly tail: number;
  /** The file reads as zeroes there until it is written. */
  readonly fresh: boolean;
  /** Where the clusters are entered, kept in memory until they are; undefined: in-place. */
  readonly slice: CachedTable | undefined;
}

/** The segments if every cluster can be written in place. The caller's claim keeps the mapping as it is. */
export function planInPlace(image: Image, guest: number, bytes: number): Answer<Segment[] | undefined> {
  const first = findExtent(image, guest, bytes);
  return isPromise(first)
    ? first.then((found) => planAllInPlace(image, { guest, bytes }, found))
    : planAllInPlace(image, { guest, bytes }, first);
}

/** The same, once the first extent is known. */
function planAllInPlace(
  image: Image,
  { guest, bytes }: GuestRange,
  first: Extent,
): Answer<Segment[] | undefined> {
  if (!isInPlace(first)) return undefined;
  const segments = [inPlace(guest, first)];
  return first.bytes === bytes ? segments : planRestInPlace(image, { guest, bytes }, segments);
}

function planRestInPlace(
  image: Image,
  { guest, bytes }: GuestRange,
  segments: Segment[],
): Answer<Segment[] | undefined> {
  let done = segments[0]!.bytes;
  const look = repeat(() =>
    andThen(findExtent(image, guest + done, bytes - done), (extent) => {
      if (!isInPlace(extent)) return false;
      segments.push(inPlace(guest + done, extent));
      done += extent.bytes;
      return done < bytes;
    }),
  );
  return andThen(look, () => (done < bytes ? undefined : segments));
}

function inPlace(guest: number, { bytes, host }: Extent): Segment {
  return { guest, bytes, host, action: "in-place", head: 0, tail: 0, fresh: false, slice: undefined };
}

/**
 * Plans a write into `segments`, and allocates what it needs; the slices that it changes get one user more for each segment.
 * Runs under the lock. After a failure the segments hold what was planned before.
 */
function plan(image: Image, { guest, bytes }: GuestRange, segments: Segment[]): Answer<void> {
  for (let done = 0; done < bytes;) {
    const planned = planSegment(image, guest + done, bytes - done);
    if (isPromise(planned))
      return planRest(image, { guest: guest + done, bytes: bytes - done }, segments, planned);
    done += entered(segments, planned);
  }
}

/** Plans several ranges, one after the other. */
export function planAll(
  image: Image,
  ranges: readonly GuestRange[],
  segments: Segment[],
  from = 0,
): Answer<void> {
  for (let index = from; index < ranges.length; index++) {
    const planned = plan(image, ranges[index]!, segments);
    if (isPromise(planned)) return planned.then(() => planAll(image, ranges, segments, index + 1));
  }
}

/** Plans what is left, of which the first segment is under way. */
async function planRest(
  image: Image,
  { guest, bytes }: GuestRange,
  segments: Segment[],
  first: Promise<Segment>,
): Promise<void> {
  const done = entered(segments, await first);
  if (done < bytes) await plan(image, { guest: guest + done, bytes: bytes - done }, segments);
}

/** Adds a segment; answers with its length. */
function entered(segments: Segment[], segment: Segment): number {
  assert(segment.bytes > 0, "a segment of something");
  if (segment.slice) segment.slice.users += 1;
  segments.push(segment);
  return segment.bytes;
}

/** Plans the next part of a write. The L2 table is made here, so that nothing can fail for want of space after the write. */
function planSegment(image: Image, guest: number, bytes: number): Answer<Segment> {
  const slice = writableSlice(image, guest);
  return isPromise(slice)
    ? slice.then((own) => planIn(image, own, { guest, bytes }))
    : planIn(image, slice, { guest, bytes });
}

function planIn(image: Image, slice: CachedTable, range: GuestRange): Answer<Segment> {
  const first = checkedExtent(image, slice, range.guest, range.bytes);
  return isPromise(first)
    ? first.then((found) => planExtent(image, slice, range, found))
    : planExtent(image, slice, range, first);
}

function planExtent(image: Image, slice: CachedTable, range: GuestRange, first: Extent): Answer<Segment> {
  const { guest } = range;
  if (isInPlace(first)) return inPlace(guest, first);
  if (isReusable(first)) return planReuse(image, slice, guest, first);
  const run = longestRun(image, slice, range, { last: first, length: first.bytes });
  return isPromise(run)
    ? run.then(({ last, length }) => planNew(image, slice, { guest, first, last, length }))
    : planNew(image, slice, { guest, first, last: run.last, length: run.length });
}

function planReuse(image: Image, slice: CachedTable, guest: number, { bytes, host }: Extent): Segment {
  const { subclusterSize } = image.geometry;
  assert(bytes <= sliceReach(image, guest), "a segment within its table");
  const tail = (subclusterSize - ((guest + bytes) % subclusterSize)) % subclusterSize;
  return { guest, bytes, host, action: "reuse", head: guest % subclusterSize, tail, fresh: false, slice };
}

/** How far the clusters go that need new ones, and the last extent of them. */
interface Run {
  readonly last: Extent;
  readonly length: number;
}

/** How far a run of clusters goes that need new ones, which begins with what `run` tells of. */
function longestRun(image: Image, slice: CachedTable, { guest, bytes }: GuestRange, run: Run): Answer<Run> {
  let { last, length } = run;
  const reach = Math.min(bytes, sliceReach(image, guest));
  while (length < reach) {
    const next = checkedExtent(image, slice, guest + length, bytes - length);
    // It is refused.
    if (isPromise(next)) return next.then(() => run);
    if (isInPlace(next) || isReusable(next)) break;
    last = next;
    length += next.bytes;
  }
  assert(length <= reach, "a run within its table");
  return { last, length };
}

interface NewRun extends Run {
  readonly guest: number;
  readonly first: Extent;
}

function planNew(image: Image, slice: CachedTable, run: NewRun): Answer<Segment> {
  const { clusterSize } = image.geometry;
  const inCluster = run.guest % clusterSize;
  if (image.hasDataFile) {
    return newSegment(image, slice, run, { cluster: (run.guest - inCluster) / clusterSize, fresh: false });
  }
  const allocated = allocate(image, Math.ceil((inCluster + run.length) / clusterSize));
  return isPromise(allocated)
    ? allocated.then((place) => newSegment(image, slice, run, place))
    : newSegment(image, slice, run, allocated);
}

function newSegment(
  image: Image,
  slice: CachedTable,
  { guest, first, last, length }: NewRun,
  { cluster, fresh }: { readonly cluster: number; readonly fresh: boolean },
): Segment {
  const { clusterSize } = image.geometry;
  assert(cluster > 0 || image.hasDataFile, "the header's cluster was handed out");
  // What was never written reads as zeroes only if it is not decrypted.
  const zeroes = fresh && !image.encryption;
  const end = guest + length;
  const head = guest % copyUnit(image, first);
  const tail = Math.ceil(end / copyUnit(image, last)) * copyUnit(image, last) - end;
  return {
    guest,
    bytes: length,
    host: cluster * clusterSize + (guest % clusterSize),
    action: "new",
    head: zeroes && readsZero(image, first, guest - head) ? 0 : head,
    tail: zeroes && readsZero(image, last, end) ? 0 : tail,
    fresh,
    slice,
  };
}

/** What of a cluster goes along into a new one: all of it if it held anything, else the subclusters that are touched. */
function copyUnit(image: Image, { kind }: Extent): number {
  const { clusterSize, subclusterSize } = image.geometry;
  return kind === Kind.unallocated || kind === Kind.zeroPlain ? subclusterSize : clusterSize;
}

function isInPlace({ kind, copied }: Extent): boolean {
  return kind === Kind.normal && copied;
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
