/**
 * Changing L1 and L2 tables: an L2 table of our own for every guest range that is written. Runs under the metadata lock.
 * A table that a snapshot shares is copied first. Source: qcow2.txt, "Cluster mapping", "Snapshots".
 */
import { type Answer, isPromise } from "../../../../base/answer.ts";
import { assert } from "../../../../base/assert.ts";
import { allocateTable, free, reserveTable, unallocate } from "./allocate.ts";
import type { Image } from "./image.ts";
import { COPIED_HIGH, entryOffset, writeEntry } from "../disk/layout.ts";
import { checkL2Offset, entryPlace, type L1Slot, loadL1Slot, loadSlice } from "./mapping.ts";
import type { CachedTable } from "./metadata-cache.ts";
import { writeBits } from "./subclusters.ts";

/** The slice that maps `guest`, in a table that only the active L1 table refers to; made if there is none. */
export function writableSlice(image: Image, guest: number): Answer<CachedTable> {
  const slot = loadL1Slot(image, guest);
  return isPromise(slot)
    ? slot.then((loaded) => ownSlice(image, loaded, guest))
    : ownSlice(image, slot, guest);
}

function ownSlice(image: Image, slot: L1Slot, guest: number): Answer<CachedTable> {
  const high = slot.table.view.getUint32(slot.at);
  const old = entryOffset(high, slot.table.view.getUint32(slot.at + 4));
  const refusal = old === 0 ? undefined : checkL2Offset(image, old, slot.index);
  if (refusal) return refusal;
  if (old === 0 || (high & COPIED_HIGH) === 0)
    return newTable(image, slot, old).then(() => presentSlice(image, guest));
  return presentSlice(image, guest);
}

function presentSlice(image: Image, guest: number): Answer<CachedTable> {
  const slice = loadSlice(image, guest);
  return isPromise(slice) ? slice.then(present) : present(slice);
}

function present(slice: CachedTable | null): CachedTable {
  assert(slice, "there is an L2 table, or one was just made");
  return slice;
}

/** Makes an L2 table with the content of the one at `old` (0: empty) and enters it in the L1 table. */
async function newTable(image: Image, slot: L1Slot, old: number): Promise<void> {
  const { clusterSize, sliceBytes } = image.geometry;
  await image.event("l2_alloc_write");
  const { offset } = await allocateTable(image);
  try {
    await reserveTable(image, offset);
    for (let at = 0; at < clusterSize; at += sliceBytes) {
      if (old !== 0) await image.event("l2_alloc_cow_read");
      const source = old === 0 ? undefined : await image.l2.load(old + at);
      const slice = image.l2.create(offset + at);
      if (source) slice.bytes.set(source.bytes);
    }
  } catch (error) {
    image.l2.drop(offset, clusterSize);
    await unallocate(image, { cluster: offset / clusterSize, count: 1 });
    throw error;
  }
  writeEntry(slot.table.view, slot.at, offset, COPIED_HIGH);
  image.l1.markDirty(slot.table, slot.at, slot.at + 8);
  image.barrierBeforeL2 = true;
  image.metadata.addTable("active L2 table", offset);
  if (old === 0) return;
  image.metadata.removeTable(old);
  free(image, { cluster: old / clusterSize, count: 1 }, "other");
}

/** Sets the entry for `guest`, without bits for subclusters. */
export function setEntry(
  image: Image,
  { slice, guest, high, low }: { slice: CachedTable; guest: number; high: number; low: number },
): void {
  const at = entryPlace(image, guest);
  slice.view.setUint32(at, high);
  slice.view.setUint32(at + 4, low);
  if (image.geometry.entryBytes > 8) writeBits(slice.view, at, { zero: 0, allocated: 0 });
  image.l2.markDirty(slice, at, at + image.geometry.entryBytes);
}
