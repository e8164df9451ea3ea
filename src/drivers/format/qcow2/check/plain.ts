/**
 * The entries of an L2 table with which nothing is wrong, counted in one loop without an object or a call for each: most are, and a
 * check runs once, before the engine has compiled it. What is odd in any way is left for walk.ts, which says what it is.
 * Source: qcow2.txt, "Cluster mapping".
 */
import { assert } from "../../../../base/assert.ts";
import { COMPRESSED_HIGH, COPIED_HIGH, ZERO_LOW } from "../disk/layout.ts";

/** What is counted of the tables so far, and its bounds. */
export interface PlainCount {
  /** References per cluster. */
  readonly counts: Uint32Array;
  /** Only clusters below this are counted here. */
  readonly end: number;
  /** No count gets larger than this. */
  readonly most: number;
  readonly clusterBits: number;
  /** Normal and compressed clusters. */
  normal: number;
  compressed: number;
  /** Normal clusters that do not follow the one before. */
  apart: number;
  /** The cluster that would follow; 0: any. */
  next: number;
}

const PLAIN_HIGH = 0x00ffffff;

/** Counts entries of 8 bytes from `at` on; answers where the first one lies that is left, or the end. */
export function countPlain(view: DataView, from: number, tally: PlainCount): number {
  const { counts, end, most, clusterBits } = tally;
  assert(end <= counts.length && from % 8 === 0, "clusters are counted that have no count");
  const clusterMask = 2 ** clusterBits - 1;
  const sectorBits = clusterBits - 9;
  const sectorMask = 2 ** sectorBits - 1;
  const shift = 62 - (clusterBits - 8) - 32;
  const placeMask = 2 ** shift - 1;
  const lengthMask = 2 ** (clusterBits - 8) - 1;
  const scale = 2 ** (32 - clusterBits);
  let at = from;
  for (; at < view.byteLength; at += 8) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    if ((high | low) === 0) continue;
    if (high & COMPRESSED_HIGH) {
      const first = (high & placeMask) * scale + (low >>> clusterBits);
      const sectors = ((low >>> 9) & sectorMask) + ((high >>> shift) & lengthMask);
      const last = first + (sectors >>> sectorBits);
      if (high & COPIED_HIGH || last >= end || last - first > 1) break;
      if (counts[first]! >= most || counts[last]! >= most) break;
      counts[first]! += 1;
      if (last > first) counts[last]! += 1;
      tally.compressed += 1;
      continue;
    }
    // Reserved bits, or a place within a cluster.
    if ((high & ~(COPIED_HIGH | PLAIN_HIGH)) !== 0 || (low & clusterMask & ~ZERO_LOW) !== 0) break;
    const cluster = (high & PLAIN_HIGH) * scale + (low >>> clusterBits);
    if (cluster === 0) continue;
    if (cluster >= end || counts[cluster]! >= most) break;
    counts[cluster]! += 1;
    tally.normal += 1;
    if (tally.next > 0 && cluster !== tally.next) tally.apart += 1;
    tally.next = cluster + 1;
  }
  return at;
}

/** The first of the clusters [from, end) whose refcount of 16 bits in `view`, which begins with that of `base`, is not its count. */
export function firstDifference(
  view: DataView,
  counts: Uint32Array,
  { base, from, end }: { base: number; from: number; end: number },
): number {
  let cluster = from;
  while (cluster < end && view.getUint16((cluster - base) * 2) === counts[cluster]) cluster += 1;
  return cluster;
}

/** The highest of the clusters [base, end) that is referred to. */
export function highestOf(
  counts: Uint32Array,
  { base, end }: { base: number; end: number },
): number | undefined {
  for (let cluster = end - 1; cluster >= base; cluster--) if (counts[cluster]! > 0) return cluster;
  return undefined;
}
