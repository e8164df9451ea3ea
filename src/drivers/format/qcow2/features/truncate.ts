/**
 * Changing the virtual size: the L1 table grows into new clusters, the header names the new size last; shrinking drops the
 * clusters beyond the end first. Each step is durable before the next one relies on it. Source: qcow2.txt, "Header".
 */
import { assert } from "../../../../base/assert.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import { limits, SECTOR_SIZE } from "../../../../base/limits.ts";
import type { TruncateOptions } from "../../../../block/model/contract.ts";
import { allocate, free, lastUsedCluster, unallocate } from "../metadata/allocate.ts";
import { isRawDataFile } from "../data/data-file.ts";
import { hasSubclusters } from "../disk/header.ts";
import { updateHeader } from "../metadata/header-update.ts";
import type { Image } from "../metadata/image.ts";
import { COPIED_HIGH, entryOffset, Kind, l1EntriesFor, writeEntry } from "../disk/layout.ts";
import { entryPlace, findExtent, loadL1Slot, writableSlice } from "../metadata/mapping.ts";
import {
  addRefcounts,
  blockOffset,
  countsNothing,
  forgetBlock,
  refcountTableEntries,
} from "../metadata/refcounts.ts";
import { isDirty, makeRoom, writeBackLocked } from "../metadata/write-back.ts";
import { writeGuest } from "../data/write.ts";
import { discardFully, zeroClusters } from "../data/zeroes-discard.ts";

function refuse(message: string, code: "EINVAL" | "ENOTSUP" | "EFBIG" = "EINVAL"): never {
  throw new BlockError({ code, op: "truncate", message });
}

/** Sets the virtual size, bytes. Errors in QEMU's words; the size is unchanged after one. */
export async function truncate(image: Image, size: number, options: TruncateOptions): Promise<void> {
  image.checkAlive();
  if (size % SECTOR_SIZE !== 0) refuse("The new size must be a multiple of 512");
  if (size > limits.maxImageBytes)
    refuse(`offset(${size}) exceeds maximum(${limits.maxImageBytes})`, "EFBIG");
  if (image.header.snapshotCount > 0 && image.header.version < 3) {
    refuse("Can't resize a v2 image which has snapshots", "ENOTSUP");
  }
  const { clusterSize } = image.geometry;
  const first = Math.min(size, image.size);
  if (size > image.size) await clearTail(image, size);
  const claim = await image.claims.exclusive(first - (first % clusterSize), Infinity);
  try {
    if (size < image.size) await shrink(image, size, options);
    else await grow(image, size, growOptions(image, options));
    await truncateDataFile(image, options);
  } finally {
    image.claims.end(claim);
  }
}

/** A raw data file is of use only if all of it is mapped. */
function growOptions(image: Image, options: TruncateOptions): TruncateOptions {
  const isRaw = options.preallocation === "off" && isRawDataFile(image.header);
  return isRaw ? { ...options, preallocation: "metadata" } : options;
}

/** The data file gets the disk's length; one that must be met only if the data file stands for the disk. */
async function truncateDataFile(image: Image, options: TruncateOptions): Promise<void> {
  if (!image.hasDataFile || options.preallocation === "falloc" || options.preallocation === "full") return;
  const exact = options.exact && isRawDataFile(image.header);
  await image.data.truncate(image.size, { exact, preallocation: "off" });
}

async function shrink(image: Image, size: number, options: TruncateOptions): Promise<void> {
  if (options.preallocation !== "off") refuse("Preallocation can't be used for shrinking an image");
  const { clusterSize, l2Coverage } = image.geometry;
  assert(size < image.size, "a disk shrinks to more than it is");
  const keep = Math.ceil(size / clusterSize) * clusterSize;
  const oldSize = image.size;
  const end = Math.ceil(oldSize / clusterSize) * clusterSize;
  if (keep < end) await discardFully(image, { from: keep, to: end }, "always");
  await image.locked(async () => {
    await dropTables(image, Math.ceil(keep / l2Coverage), Math.ceil(end / l2Coverage));
    await writeBackLocked(image);
    await setSize(image, size);
    await dropBlocks(image);
    await cutFile(image);
  });
}

/** Gives up the refcount blocks that count nothing but themselves, from the last one on: they would hold the file's end. */
async function dropBlocks(image: Image): Promise<void> {
  const { blockEntries, clusterSize } = image.geometry;
  for (let number = refcountTableEntries(image) - 1; number > 0; number--) {
    const offset = await blockOffset(image, number);
    if (offset === 0) continue;
    const own = offset / clusterSize;
    const isOwn = Math.floor(own / blockEntries) === number;
    if (!(await countsNothing(image, number, isOwn ? own % blockEntries : undefined))) continue;
    await forgetBlock(image, number);
    image.refcountBlocks.drop(offset, clusterSize);
    image.metadata.removeTable(offset);
    // A block before this one counts it, and may have nothing else to count then.
    if (!isOwn) free(image, { cluster: own, count: 1 }, "other");
    if (!isOwn) await writeBackLocked(image);
    image.trim();
  }
  await writeBackLocked(image);
}

/** Gives up the L2 tables of L1 entries `from` … `to - 1`, which map nothing any more. */
async function dropTables(image: Image, from: number, to: number): Promise<void> {
  const { clusterSize, l2Coverage } = image.geometry;
  for (let index = from; index < to; index++) {
    const { table, at } = await loadL1Slot(image, index * l2Coverage);
    const offset = entryOffset(table.view.getUint32(at), table.view.getUint32(at + 4));
    if (offset === 0) continue;
    writeEntry(table.view, at, 0, 0);
    image.l1.markDirty(table, at, at + 8);
    image.l2.drop(offset, clusterSize);
    image.metadata.removeTable(offset);
    free(image, { cluster: offset / clusterSize, count: 1 }, "always");
  }
}

/** Shortens the file to its last cluster in use. A file that can't be shortened stays long. */
async function cutFile(image: Image): Promise<void> {
  const end = (await lastUsedCluster(image)) * image.geometry.clusterSize;
  if (end >= image.file.length) return;
  assert(end > 0, "the header stays");
  try {
    await image.file.truncate(end, { exact: false, preallocation: "off" });
    image.untouchedFrom = end;
    image.freeHint = Math.min(image.freeHint, end / image.geometry.clusterSize);
  } catch {
    // Only space is lost.
  }
}

async function grow(image: Image, size: number, options: TruncateOptions): Promise<void> {
  const old = image.size;
  const { clusterSize } = image.geometry;
  await image.locked(async () => {
    await makeRoom(image);
    await growL1(image, l1EntriesFor(size, image.geometry));
  });
  const from = Math.ceil(old / clusterSize) * clusterSize;
  const to = Math.ceil(size / clusterSize) * clusterSize;
  const { preallocation: mode } = options;
  // What is reserved in the file reads as zeroes there: nothing need say so, and it counts as data, as QEMU's does.
  const inFile = (mode === "falloc" || mode === "full") && !image.hasDataFile;
  const asZeroes = options.zeroNew && from < to && !inFile;
  if (asZeroes && image.header.version < 3)
    refuse("Failed to zero out new clusters: Operation not supported", "ENOTSUP");
  const isShown = inFile && options.zeroNew === true;
  try {
    if (mode !== "off") await preallocate(image, { from, to, mode, isShown });
    if (asZeroes) await zeroClusters(image, from, to);
  } catch (error) {
    // Nothing may stay mapped beyond the disk's end, and least of all beyond the end of a file that could not grow.
    await discardFully(image, { from, to });
    throw error;
  }
  await image.locked(async () => {
    await writeBackLocked(image);
    await setSize(image, size);
  });
}

/** Everything before is durable first, and the size is when this returns. */
async function setSize(image: Image, size: number): Promise<void> {
  assert(!isDirty(image), "the disk's size is changed before what it maps is written");
  await image.file.flush();
  await updateHeader(image, (header) => {
    header.size = size;
  });
  image.size = size;
  await image.file.flush();
}

/** What is beyond the end of the disk in its last cluster becomes visible by growing: it must read as zeroes before. */
async function clearTail(image: Image, size: number): Promise<void> {
  const { clusterSize } = image.geometry;
  const from = image.size;
  assert(size > from, "a disk grows to less than it is");
  const to = Math.min(size, Math.ceil(from / clusterSize) * clusterSize);
  if (from >= to) return;
  const { kind } = await findExtent(image, from, to - from);
  const isUnallocated = kind === Kind.unallocated || kind === Kind.reserved;
  const backed = isUnallocated && image.node.backing && image.node.backing.length > from;
  if (kind === Kind.normal || kind === Kind.compressed || backed) {
    await writeGuest(image, from, new Uint8Array(to - from));
  }
}

/** Moves the L1 table to a larger place if it has fewer than `entries` entries. */
export async function growL1(image: Image, entries: number): Promise<void> {
  const { header, geometry } = image;
  if (entries <= header.l1Size) return;
  if (entries * 8 > limits.qcow2MaxL1Bytes) refuse("Failed to grow the L1 table: File too large", "EFBIG");
  const { clusterSize } = geometry;
  await image.event("l1_grow_alloc_table");
  const count = Math.ceil((entries * 8) / clusterSize);
  const { cluster, fresh } = await allocate(image, count);
  const offset = cluster * clusterSize;
  try {
    // The entries in the cache go along; what they point to must be in the file before them.
    await writeBackLocked(image);
    await image.event("l1_grow_write_table");
    await image.checkOverlap(offset, count * clusterSize);
    await copyL1(image, { to: offset, bytes: entries * 8, fresh });
    await image.file.flush();
  } catch (error) {
    await unallocate(image, { cluster, count });
    throw error;
  }
  await image.event("l1_grow_activate_table");
  const old = { cluster: header.l1Offset / clusterSize, count: Math.ceil((header.l1Size * 8) / clusterSize) };
  await updateHeader(image, (changed) => {
    changed.l1Offset = offset;
    changed.l1Size = entries;
  });
  await image.file.flush();
  assert(image.l1.dirtyTables === 0, "L1 entries are copied");
  image.l1.clear();
  image.noteL1();
  if (old.count > 0) await addRefcounts(image, old, -1);
}

/** Copies the table and fills the rest with zeroes; of clusters that are zeroes already only the last part, for the file's length. */
async function copyL1(
  image: Image,
  { to, bytes, fresh }: { to: number; bytes: number; fresh: boolean },
): Promise<void> {
  const old = image.header.l1Size * 8;
  assert(bytes > old, "an L1 table grows");
  const chunk = new Uint8Array(Math.min(bytes, image.l1.tableBytes));
  for (let done = 0; done < bytes; done += chunk.byteLength) {
    const part = chunk.subarray(0, Math.min(chunk.byteLength, bytes - done));
    const isLast = done + part.byteLength === bytes;
    if (done >= old && fresh && !isLast) continue;
    part.fill(0);
    if (done < old) {
      const table = await image.l1.load(image.header.l1Offset + done);
      part.set(table.bytes.subarray(0, Math.min(part.byteLength, old - done)));
    }
    await image.file.pwrite(to + done, part);
  }
}

/** Clusters that get their places before anything is written to them. */
interface Reserved {
  readonly from: number;
  readonly to: number;
  readonly mode: TruncateOptions["preallocation"];
  /** Subclusters count as written: their zeroes are seen, and no backing file behind them. */
  readonly isShown: boolean;
}

/** Gives every cluster of the range a place in the file; falloc and full reserve the space below too. */
async function preallocate(image: Image, { from, to, mode, isShown }: Reserved): Promise<void> {
  const { clusterSize, sliceEntries } = image.geometry;
  const sliceCoverage = sliceEntries * clusterSize;
  for (let at = from; at < to;) {
    const end = Math.min(to, at - (at % sliceCoverage) + sliceCoverage);
    await image.locked(async () => {
      await makeRoom(image);
      await preallocateSlice(image, { from: at, to: end, mode, isShown });
      // Slice by slice: the tables of the next one come behind what is reserved, and not before it.
      if (mode !== "metadata") await growBelow(image, image.hasDataFile ? end : image.untouchedFrom, mode);
    });
    at = end;
  }
  const end = image.hasDataFile ? to : image.untouchedFrom;
  // QEMU says of this one nothing but what the file says.
  if (mode === "metadata" && end > image.data.length)
    await image.data.truncate(end, { exact: false, preallocation: "off" });
}

/** Makes the file that holds the data `end` bytes long at least; how what is added is reserved. */
async function growBelow(
  image: Image,
  end: number,
  preallocation: TruncateOptions["preallocation"],
): Promise<void> {
  try {
    assert(end > 0, "something is reserved");
    await image.data.truncate(Math.max(end, image.data.length), { exact: false, preallocation });
  } catch (cause) {
    const message = `Failed to resize underlying file: ${messageOf(cause)}`;
    throw new BlockError({ code: errnoOf(cause), op: "truncate", message, cause });
  }
}

async function preallocateSlice(image: Image, { from, to, isShown }: Reserved): Promise<void> {
  const { clusterSize, entryBytes } = image.geometry;
  const slice = await writableSlice(image, from);
  const count = (to - from) / clusterSize;
  assert(count > 0 && Number.isInteger(count), "whole clusters");
  const { cluster, fresh } = image.hasDataFile
    ? { cluster: from / clusterSize, fresh: isRawDataFile(image.header) }
    : await allocate(image, count);
  if (!fresh) {
    const used = Math.min((cluster + count) * clusterSize, image.data.length) - cluster * clusterSize;
    if (used > 0) await image.data.pwriteZeroes(cluster * clusterSize, used);
  }
  const at = entryPlace(image, from);
  for (let index = 0; index < count; index++) {
    const place = at + index * entryBytes;
    if (slice.view.getUint32(place + 4) !== 0 || slice.view.getUint32(place) !== 0) {
      throw blockError("EIO", "truncate", "clusters beyond the end of the disk are mapped");
    }
    writeEntry(slice.view, place, (cluster + index) * clusterSize, COPIED_HIGH);
    if (isShown && hasSubclusters(image.header)) slice.view.setUint32(place + 12, 0xffff_ffff);
  }
  image.l2.markDirty(slice, at, at + count * entryBytes);
  image.barrierBeforeL2 = true;
}
