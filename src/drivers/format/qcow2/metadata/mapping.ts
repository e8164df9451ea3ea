/**
 * From guest offsets to L2 entries. Lookups are synchronous while the tables are in memory; what is not there is loaded.
 * What is written to gets an L2 table of the active L1 table's own, under the metadata lock: one that a snapshot shares is copied
 * first. Source: qcow2.txt, "Cluster mapping", "Snapshots".
 */
import { type Answer, isPromise } from "../../../../base/answer.ts";
import { assert } from "../../../../base/assert.ts";
import type { Image } from "./image.ts";
import { COPIED_HIGH, entryKind, entryOffset, hexText, Kind, ZERO_LOW, writeEntry } from "../disk/layout.ts";
import { type CachedTable, emptyWords } from "./metadata-cache.ts";
import { extendedRun, writeBits } from "./subclusters.ts";
import { allocateTable, free, reserveTable, unallocate } from "./allocate.ts";

/** A run of guest bytes that are mapped alike. */
export interface Extent {
  readonly kind: Kind;
  /** Guest bytes from the offset asked for. */
  readonly bytes: number;
  /** Where the first byte lies in the file (normal, zeroAllocated, reserved); else 0. */
  readonly host: number;
  /** The clusters are referenced once: they may be written in place. */
  readonly copied: boolean;
  /** The words of the first cluster's entry. */
  readonly high: number;
  readonly low: number;
}

/** Where an L1 entry lies: the piece of the table and the byte in it. */
export interface L1Slot {
  readonly table: CachedTable;
  readonly at: number;
  readonly index: number;
}

function l1Place(image: Image, index: number): { offset: number; at: number } {
  const byte = index * 8;
  const at = byte % image.l1.tableBytes;
  return { offset: image.header.l1Offset + byte - at, at };
}

function l1Index(image: Image, guest: number): number {
  const index = Math.floor(guest / image.geometry.l2Coverage);
  assert(index < image.header.l1Size, "guest offset beyond the L1 table");
  return index;
}

/** The L1 entry that covers `guest`, from memory or file. `guest` must lie within the L1 table. */
export function loadL1Slot(image: Image, guest: number): Answer<L1Slot> {
  const index = l1Index(image, guest);
  const { offset, at } = l1Place(image, index);
  const table = image.l1.load(offset);
  return isPromise(table) ? table.then((loaded) => ({ table: loaded, at, index })) : { table, at, index };
}

/** The offset of the L2 slice for `guest` in its L2 table at `l2Offset`. */
function sliceOffset(image: Image, l2Offset: number, guest: number): number {
  const { clusterSize, entryBytes, l2Coverage, sliceBytes } = image.geometry;
  const index = Math.floor((guest % l2Coverage) / clusterSize);
  const byte = index * entryBytes;
  return l2Offset + byte - (byte % sliceBytes);
}

/** The L2 slice for `guest`, read if need be; null: there is no L2 table. Errors: EIO for a corrupt L1 entry. */
export function loadSlice(image: Image, guest: number): Answer<CachedTable | null> {
  const index = l1Index(image, guest);
  const { offset, at } = l1Place(image, index);
  // Every request comes this way, most of them with all tables in memory: nothing is made for those that wait.
  const table = image.l1.load(offset);
  return isPromise(table) ? sliceLater(image, table, at, guest) : sliceBelow(image, table, at, guest);
}

async function sliceLater(
  image: Image,
  table: Promise<CachedTable>,
  at: number,
  guest: number,
): Promise<CachedTable | null> {
  return sliceBelow(image, await table, at, guest);
}

/** The slice that the L1 entry at `at` leads to. */
function sliceBelow(image: Image, table: CachedTable, at: number, guest: number): Answer<CachedTable | null> {
  const l2Offset = entryOffset(table.view.getUint32(at), table.view.getUint32(at + 4));
  if (l2Offset === 0) return null;
  const refusal = checkL2Offset(image, l2Offset, l1Index(image, guest));
  if (refusal) return refusal;
  const slice = image.l2.load(sliceOffset(image, l2Offset, guest));
  return isPromise(slice) ? trimmed(image, slice) : slice;
}

/** After a table was read there may be too many. */
async function trimmed(image: Image, slice: Promise<CachedTable>): Promise<CachedTable> {
  const loaded = await slice;
  if (!image.mutex.locked) image.trim();
  return loaded;
}

/** Rejects with EIO, and reports the corruption, for an L2 table that is not on a cluster; undefined: it is on one. */
export function checkL2Offset(image: Image, l2Offset: number, index: number): Promise<never> | undefined {
  if (l2Offset % image.geometry.clusterSize === 0 && Number.isSafeInteger(l2Offset)) return undefined;
  const words = `L2 table offset ${hexText(l2Offset)} unaligned (L1 index: ${hexText(index)})`;
  return image.corrupted(words);
}

/** The byte of the entry for `guest` in its slice. */
export function entryPlace(image: Image, guest: number): number {
  const { clusterSize, entryBytes, sliceEntries } = image.geometry;
  return (Math.floor(guest / clusterSize) % sliceEntries) * entryBytes;
}

/** How far the L2 slice that maps `guest` reaches, in guest bytes from `guest`. */
export function sliceReach(image: Image, guest: number): number {
  const coverage = image.geometry.sliceEntries * image.geometry.clusterSize;
  return coverage - (guest % coverage);
}

/** The extent at `guest`, at most `maxBytes` long and within one slice, if there is one. Unchecked: see isImpossible. */
export function extentAt(image: Image, slice: CachedTable | null, guest: number, maxBytes: number): Extent {
  const limit = Math.min(maxBytes, sliceReach(image, guest));
  if (slice === null) {
    // The tables that are missing side by side are told at once: a large disk has many.
    const bytes = Math.max(limit, unmappedBytes(image, guest, maxBytes));
    return { kind: Kind.unallocated, bytes, host: 0, copied: false, high: 0, low: 0 };
  }
  const { clusterSize, entryBytes } = image.geometry;
  if (entryBytes > 8) return extendedExtentAt(image, slice, guest, limit);
  const at = entryPlace(image, guest);
  const { view } = slice;
  const high = view.getUint32(at);
  const low = view.getUint32(at + 4);
  const kind = entryKind(high, low, image.hasDataFile);
  const inCluster = guest % clusterSize;
  const mapped = kind === Kind.normal || kind === Kind.zeroAllocated;
  const clusters =
    kind === Kind.compressed
      ? 1
      : runLength(view, at, Math.ceil((inCluster + limit) / clusterSize), {
          kind,
          hasDataFile: image.hasDataFile,
          step: mapped ? clusterSize : 0,
        });
  return {
    kind,
    bytes: Math.min(limit, clusters * clusterSize - inCluster),
    host: mapped ? entryOffset(high, low) + inCluster : 0,
    copied: (high & COPIED_HIGH) !== 0,
    high,
    low,
  };
}

function extendedExtentAt(image: Image, slice: CachedTable, guest: number, limit: number): Extent {
  const inCluster = guest % image.geometry.clusterSize;
  const at = entryPlace(image, guest);
  const { entry, kind, bytes } = extendedRun(image, slice.view, { at, inCluster, limit });
  const { high, low, hasCluster } = entry;
  const host = hasCluster ? entryOffset(high, low) + inCluster : 0;
  return { kind, bytes, host, copied: (high & COPIED_HIGH) !== 0, high, low };
}

/** How many guest bytes from `guest` on have no entry, as far as the tables in memory say; at most `maxBytes`. */
export function unmappedBytes(image: Image, guest: number, maxBytes: number): number {
  const { clusterSize, entryBytes, l2Coverage } = image.geometry;
  // Nothing is made on the way: each layer of a chain is asked so for each extent of the disk.
  const index = Math.floor(guest / l2Coverage);
  if (entryBytes > 8 || index >= image.header.l1Size) return 0;
  const byte = index * 8;
  const inPiece = byte % image.l1.tableBytes;
  const table = image.l1.peek(image.header.l1Offset + byte - inPiece);
  if (!table) return 0;
  const l2Offset = entryOffset(table.view.getUint32(inPiece), table.view.getUint32(inPiece + 4));
  if (l2Offset === 0) {
    const tables = Math.max(1, Math.floor(emptyWords(table, inPiece / 4) / 2));
    return Math.min(maxBytes, tables * l2Coverage - (guest % l2Coverage));
  }
  const isSound = l2Offset % clusterSize === 0;
  const slice = isSound ? image.l2.peek(sliceOffset(image, l2Offset, guest)) : undefined;
  if (!slice) return 0;
  const inCluster = guest % clusterSize;
  const limit = Math.min(maxBytes, sliceReach(image, guest));
  const entries = Math.floor(emptyWords(slice, entryPlace(image, guest) / 4) / 2);
  return Math.min(limit, Math.max(0, entries * clusterSize - inCluster));
}

/** How many entries from `at` on continue the first one: the same flags, and offsets `step` apart. */
function runLength(
  view: DataView,
  at: number,
  max: number,
  { kind, hasDataFile, step }: { kind: Kind; hasDataFile: boolean; step: number },
): number {
  const high = view.getUint32(at);
  let low = view.getUint32(at + 4);
  let count = 1;
  while (count < max) {
    const nextHigh = view.getUint32(at + count * 8);
    const nextLow = view.getUint32(at + count * 8 + 4);
    if (step > 0) {
      low += step;
      if (nextHigh !== high || nextLow !== low) break;
    } else if (entryKind(nextHigh, nextLow, hasDataFile) !== kind) {
      break;
    }
    count += 1;
  }
  return count;
}

/** Whether an extent's entry is impossible; checked on every lookup, so cheap. */
export function isImpossible(image: Image, extent: Extent, guest: number): boolean {
  const { kind, host } = extent;
  if (kind === Kind.unallocated) return false;
  if (kind === Kind.compressed) return image.hasDataFile;
  if (kind === Kind.invalid) return true;
  if (image.header.version < 3 && (extent.low & ZERO_LOW) !== 0) return true;
  if (kind === Kind.zeroPlain) return false;
  if (image.hasDataFile && host !== guest) return true;
  return (host - guest) % image.geometry.clusterSize !== 0 || !Number.isSafeInteger(host + extent.bytes);
}

/** Reports the corruption of an impossible extent and throws EIO. */
export async function refuseExtent(image: Image, extent: Extent, guest: number): Promise<never> {
  const { offset, at } = l1Place(image, l1Index(image, guest));
  const { view } = await image.l1.load(offset);
  const table = entryOffset(view.getUint32(at), view.getUint32(at + 4));
  return image.corrupted(impossible(image, extent, { guest, table }));
}

/** What is wrong with an extent, in QEMU's words; its L2 table lies at `table`. */
function impossible(
  { geometry, header, hasDataFile }: Image,
  { kind, low, host }: Extent,
  { guest, table }: { guest: number; table: number },
): string {
  const inCluster = guest % geometry.clusterSize;
  const index = `L2 index: ${hexText(Math.floor(guest / geometry.clusterSize) % geometry.l2Entries)}`;
  const where = `(L2 offset: ${hexText(table)}, ${index})`;
  if (header.version < 3 && (low & ZERO_LOW) !== 0)
    return `Zero cluster entry found in pre-v3 image ${where}`;
  if (kind === Kind.invalid) return `Invalid cluster entry found ${where}`;
  if (kind === Kind.compressed)
    return `Compressed cluster entry found in image with external data file ${where}`;
  const offset = hexText(host - inCluster);
  if (!hasDataFile) return `Cluster allocation offset ${offset} unaligned ${where}`;
  // The parenthesis that nothing opens is QEMU's.
  return `External data file host cluster offset ${offset} does not match guest cluster offset: ${hexText(guest - inCluster)}, ${index})`;
}

/** The extent at `guest` in its slice. Errors: EIO, reported, for an impossible one. */
export function checkedExtent(
  image: Image,
  slice: CachedTable | null,
  guest: number,
  maxBytes: number,
): Answer<Extent> {
  const extent = extentAt(image, slice, guest, maxBytes);
  return isImpossible(image, extent, guest) ? refuseExtent(image, extent, guest) : extent;
}

/** The extent at `guest`, loading tables as needed. Errors: EIO, reported, for an impossible one. */
export function findExtent(image: Image, guest: number, maxBytes: number): Answer<Extent> {
  const slice = loadSlice(image, guest);
  return isPromise(slice)
    ? extentLater(image, slice, guest, maxBytes)
    : checkedExtent(image, slice, guest, maxBytes);
}

async function extentLater(
  image: Image,
  slice: Promise<CachedTable | null>,
  guest: number,
  maxBytes: number,
): Promise<Extent> {
  return checkedExtent(image, await slice, guest, maxBytes);
}

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
  assert(image.mutex.locked, "metadata changes under the lock");
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
