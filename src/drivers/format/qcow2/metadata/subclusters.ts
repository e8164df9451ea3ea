/**
 * Extended L2 entries: after the words of an ordinary entry (whose zero flag is of no meaning) come 32 bits that say which
 * subclusters read as zeroes, and 32 that say which are allocated in the entry's cluster. Subcluster 0 is the lowest bit.
 * Source: qcow2.txt, "Extended L2 Entries".
 */
import { assert } from "../../../../base/assert.ts";
import type { Image } from "./image.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, entryOffset, Kind } from "../disk/layout.ts";

/** Subclusters of a cluster. */
export const SUBCLUSTERS = 32;
/** Byte of the zero bits and of the allocation bits in an entry. */
const ZERO_AT = 8;
const ALLOCATED_AT = 12;
/** All subclusters. */
export const ALL = 0xffffffff;

/** An entry, taken apart. */
export interface ExtendedEntry {
  readonly high: number;
  readonly low: number;
  /** Bit masks, unsigned. */
  readonly zero: number;
  readonly allocated: number;
  readonly compressed: boolean;
  /** It has a cluster in the file, used or not. */
  readonly hasCluster: boolean;
}

/** The entry at byte `at` of a slice. */
export function readExtended(image: Image, view: DataView, at: number): ExtendedEntry {
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  const compressed = (high & COMPRESSED_HIGH) !== 0;
  const hasOffset = entryOffset(high, low) !== 0 || (image.hasDataFile && (high & COPIED_HIGH) !== 0);
  return {
    high,
    low,
    zero: view.getUint32(at + ZERO_AT),
    allocated: view.getUint32(at + ALLOCATED_AT),
    compressed,
    hasCluster: !compressed && hasOffset,
  };
}

/** Writes the bits of an entry. */
export function writeBits(view: DataView, at: number, bits: { zero: number; allocated: number }): void {
  view.setUint32(at + ZERO_AT, bits.zero >>> 0);
  view.setUint32(at + ALLOCATED_AT, bits.allocated >>> 0);
}

/** The bits of the subclusters that [from, to) touches; both are bytes in a cluster. */
export function subclusterMask(image: Image, from: number, to: number): number {
  const { subclusterSize } = image.geometry;
  const first = Math.floor(from / subclusterSize);
  const count = Math.ceil(to / subclusterSize) - first;
  assert(count > 0 && first + count <= SUBCLUSTERS, "subclusters of one cluster");
  return count >= SUBCLUSTERS ? ALL : ((2 ** count - 1) * 2 ** first) >>> 0;
}

/** The kind of one subcluster. */
export function subclusterKind(entry: ExtendedEntry, index: number): Kind {
  if (entry.compressed) return Kind.compressed;
  const zero = (entry.zero >>> index) & 1;
  const allocated = (entry.allocated >>> index) & 1;
  if (allocated && (zero || !entry.hasCluster)) return Kind.invalid;
  if (allocated) return Kind.normal;
  if (zero) return entry.hasCluster ? Kind.zeroAllocated : Kind.zeroPlain;
  return entry.hasCluster ? Kind.reserved : Kind.unallocated;
}

/** How far from `inCluster` on subclusters are alike, at most `limit` bytes, on into clusters that lie behind in the file. */
export function extendedRun(
  image: Image,
  view: DataView,
  { at, inCluster, limit }: { at: number; inCluster: number; limit: number },
): { entry: ExtendedEntry; kind: Kind; bytes: number } {
  const { clusterSize, entryBytes, subclusterSize } = image.geometry;
  const entry = readExtended(image, view, at);
  let index = Math.floor(inCluster / subclusterSize);
  const kind = subclusterKind(entry, index);
  if (kind === Kind.compressed) return { entry, kind, bytes: Math.min(limit, clusterSize - inCluster) };
  let bytes = subclusterSize - (inCluster % subclusterSize);
  let current = entry;
  for (let place = at; bytes < limit; bytes += subclusterSize) {
    index = (index + 1) % SUBCLUSTERS;
    if (index === 0) {
      place += entryBytes;
      const next = readExtended(image, view, place);
      if (!isAdjacent(current, next, clusterSize)) break;
      current = next;
    }
    if (subclusterKind(current, index) !== kind) break;
  }
  return { entry, kind, bytes: Math.min(limit, bytes) };
}

function isAdjacent(one: ExtendedEntry, next: ExtendedEntry, clusterSize: number): boolean {
  if (one.hasCluster !== next.hasCluster || next.compressed) return false;
  if (!one.hasCluster) return true;
  const isSameState = ((one.high ^ next.high) & COPIED_HIGH) === 0;
  return isSameState && entryOffset(next.high, next.low) === entryOffset(one.high, one.low) + clusterSize;
}
