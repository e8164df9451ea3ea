/**
 * The last step of a write: entering the clusters that were written in the L2 table, and giving the others back.
 *
 * Invariant: an L2 entry is changed only after the data it points to was written (write-back.ts adds the barrier).
 */
import { assert } from "../../../../base/assert.ts";
import { type Answer, together } from "../../../../base/answer.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind, writeEntry } from "../disk/layout.ts";
import { free, unallocate } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";
import { entryPlace } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import { ALL, readExtended, subclusterMask, writeBits } from "../metadata/subclusters.ts";
import { freeCompressed } from "./compressed.ts";
import type { Segment } from "./plan.ts";

/** Enters what was written, and gives the other clusters back; all of them, whatever fails. Runs under the lock. */
export function finish(
  image: Image,
  segments: readonly Segment[],
  isWritten: (index: number) => boolean,
): Answer<void> {
  const lost: Segment[] = [];
  for (const { slice } of segments) {
    if (!slice) continue;
    assert(slice.users > 0, "a table was let go that nobody used");
    slice.users -= 1;
  }
  for (let index = 0; index < segments.length; index++) {
    const segment = segments[index]!;
    if (isWritten(index)) link(image, segment);
    else lost.push(segment);
  }
  return lost.length > 0 ? together(lost.map((segment) => () => giveBack(image, segment))) : undefined;
}

function giveBack(image: Image, segment: Segment): Answer<void> {
  if (segment.action !== "new" || image.hasDataFile) return undefined;
  const { clusterSize } = image.geometry;
  const inCluster = segment.host % clusterSize;
  const count = Math.ceil((inCluster + segment.bytes) / clusterSize);
  assert(segment.host > 0 && count > 0, "the header's cluster is given back");
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
  const end = first + count * entryBytes;
  assert(count > 0 && end <= slice.bytes.byteLength, "a write leaves the table that maps it");
  for (let index = 0; index < count; index++) {
    const at = first + index * entryBytes;
    if (entryBytes > 8) linkSubclusters(image, { slice, segment, at, from: index * clusterSize - inCluster });
    const high = slice.view.getUint32(at);
    const low = slice.view.getUint32(at + 4);
    if (segment.action === "new" && (high | low) !== 0) dropEntry(image, high, low);
    writeEntry(slice.view, at, segment.host - inCluster + index * clusterSize, COPIED_HIGH);
  }
  image.l2.markDirty(slice, first, end);
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
  assert(from < segment.bytes && from > -clusterSize, "a cluster of the segment");
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
