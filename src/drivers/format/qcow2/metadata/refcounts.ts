/**
 * Reading and changing refcounts through the cached refcount table and blocks. All functions that change something are
 * called under the metadata lock. Source: qcow2.txt, "Host cluster management".
 */
import { type Answer, andThen, isPromise } from "../../../../base/answer.ts";
import { assert } from "../../../../base/assert.ts";
import { blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { Image } from "./image.ts";
import {
  readU64,
  writeU64,
  addToRefcount,
  readRefcount,
  refcountBytes,
  refcountFits,
  hexText,
} from "../disk/layout.ts";
import type { CachedTable } from "./metadata-cache.ts";

/** Entries of the refcount table. */
export function refcountTableEntries(image: Image): number {
  return (image.header.refcountTableClusters * image.geometry.clusterSize) / 8;
}

/** The piece of the refcount table that names the block. */
function tableOf(image: Image, block: number): Answer<CachedTable> {
  assert(block < refcountTableEntries(image), "a block within the refcount table");
  return image.refcountTable.load(image.header.refcountTableOffset + block * 8 - slotOf(image, block));
}

/** Where in its piece of the refcount table the block is named. */
function slotOf(image: Image, block: number): number {
  return (block * 8) % image.refcountTable.tableBytes;
}

/** The offset of refcount block number `block`, 0 if there is none. Errors: EIO for a corrupt entry. */
export function blockOffset(image: Image, block: number): Answer<number> {
  if (block >= refcountTableEntries(image)) return 0;
  const table = tableOf(image, block);
  return isPromise(table)
    ? table.then((loaded) => namedOffset(image, loaded, block))
    : namedOffset(image, table, block);
}

function namedOffset(image: Image, table: CachedTable, block: number): Answer<number> {
  const entry = readU64(table.view, slotOf(image, block));
  const offset = entry - (entry % 512);
  if (offset % image.geometry.clusterSize === 0 && Number.isSafeInteger(offset)) return offset;
  const words = `Refblock offset ${hexText(offset)} unaligned (reftable index: ${hexText(block)})`;
  return image.corrupted(words);
}

/** Points the refcount table at a block. */
export async function setBlockOffset(image: Image, block: number, offset: number): Promise<void> {
  const table = await tableOf(image, block);
  const at = slotOf(image, block);
  assert(offset > 0 && offset % image.geometry.clusterSize === 0, "a refcount block lies on no cluster");
  writeU64(table.view, at, offset);
  image.refcountTable.markDirty(table, at, at + 8);
  image.metadata.addTable("refcount block", offset);
}

/** Takes a block out of the refcount table: nothing is counted there any more. */
export async function forgetBlock(image: Image, block: number): Promise<void> {
  assert(block > 0 && image.mutex.locked, "the first block stays");
  const table = await tableOf(image, block);
  const at = slotOf(image, block);
  writeU64(table.view, at, 0);
  image.refcountTable.markDirty(table, at, at + 8);
}

/** Whether a block counts nothing, but for the cluster at index `but` in it. */
export async function countsNothing(image: Image, block: number, but?: number): Promise<boolean> {
  const { blockEntries, refcountOrder: order } = image.geometry;
  const table = await loadBlock(image, block);
  if (!table) return true;
  for (let index = 0; index < blockEntries; index++)
    if (index !== but && readRefcount(table, index, order) !== 0) return false;
  return true;
}

/** Refcount block number `block`; undefined if there is none. Errors: EIO for one that can't be. */
export function loadBlock(image: Image, block: number): Answer<CachedTable | undefined> {
  const offset = blockOffset(image, block);
  return isPromise(offset)
    ? offset.then((known) => blockAt(image, block, known))
    : blockAt(image, block, offset);
}

function blockAt(image: Image, block: number, offset: number): Answer<CachedTable | undefined> {
  if (offset === 0) return undefined;
  const cached = image.refcountBlocks.peek(offset);
  if (cached) return cached;
  if (offset < image.file.length) return image.refcountBlocks.load(offset);
  // A block is in the file before the table names it: one behind the file's end would count everything as free.
  const words = `Refblock offset ${hexText(offset)} behind the end of the file (reftable index: ${hexText(block)})`;
  return image.corrupted(words, { fatal: false });
}

/** The refcount of a cluster; 0 where no block covers it. */
export function getRefcount(image: Image, cluster: number): Answer<number> {
  const { blockEntries, refcountOrder } = image.geometry;
  return andThen(loadBlock(image, Math.floor(cluster / blockEntries)), (table) =>
    table ? readRefcount(table, cluster % blockEntries, refcountOrder) : 0,
  );
}

/** A part of a run of clusters whose counts lie in one block. */
interface Part {
  readonly block: CachedTable;
  /** The first cluster, its place in the block, and how many. */
  readonly cluster: number;
  readonly first: number;
  readonly length: number;
}

/**
 * Adds `delta` (+1 or -1) to the refcounts of `count` clusters, all or none. Errors: EINVAL where a count would leave its
 * range or nothing counts the clusters; for +1 then EFBIG where no table can, and EAGAIN where one could, as QEMU has it.
 */
export function addRefcounts(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
  delta: 1 | -1,
): Answer<void> {
  const parts: Part[] = [];
  const found = partsOf(image, { cluster, count }, { parts, delta });
  return isPromise(found)
    ? found.then(() => addToParts(image, parts, delta))
    : addToParts(image, parts, delta);
}

function addToParts(image: Image, parts: readonly Part[], delta: 1 | -1): void {
  for (const part of parts) addToPart(image, part, delta);
}

/** Finds the blocks of a run, and checks that each count can take the change. */
function partsOf(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
  change: Change,
): Answer<void> {
  const { blockEntries } = image.geometry;
  const end = cluster + count;
  for (let at = cluster; at < end;) {
    const block = loadBlock(image, Math.floor(at / blockEntries));
    if (isPromise(block)) return restOfParts(image, { cluster: at, count: end - at }, change, block);
    at += notePart(image, { cluster: at, count: end - at }, change, block);
  }
}

/** Finds what is left, of which the first block is under way. */
async function restOfParts(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
  change: Change,
  block: Promise<CachedTable | undefined>,
): Promise<void> {
  const done = notePart(image, { cluster, count }, change, await block);
  if (done < count) await partsOf(image, { cluster: cluster + done, count: count - done }, change);
}

interface Change {
  readonly parts: Part[];
  readonly delta: 1 | -1;
}

/** Notes the clusters of a run whose counts are in `block`, the first one's; answers with how many. Throws as addRefcounts(). */
function notePart(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
  { parts, delta }: Change,
  block: CachedTable | undefined,
): number {
  const { blockEntries, refcountOrder: order } = image.geometry;
  if (!block) throw uncounted(Math.floor(cluster / blockEntries), delta);
  const first = cluster % blockEntries;
  const length = Math.min(count, blockEntries - first);
  for (let index = first; index < first + length; index++) {
    if (!refcountFits(block, { index, order }, delta))
      throw blockError("EINVAL", "refcount", "a refcount would leave its range");
  }
  assert(length > 0 && length <= count, "parts within their whole");
  parts.push({ block, cluster, first, length });
  return length;
}

function addToPart(image: Image, { block, cluster, first, length }: Part, delta: 1 | -1): void {
  const { refcountOrder: order, blockEntries } = image.geometry;
  assert(length > 0 && first + length <= blockEntries, "a part of a run leaves its refcount block");
  for (let index = 0; index < length; index++) {
    const value = addToRefcount(block, { index: first + index, order }, delta);
    if (value === 0) noteFree(image, cluster + index);
  }
  const { from, to } = refcountBytes(first, length, order);
  image.refcountBlocks.markDirty(block, from, to);
}

function uncounted(block: number, delta: 1 | -1): Error {
  if (delta < 0) return blockError("EINVAL", "refcount", "no refcount block covers the cluster");
  return blockError(block * 8 >= limits.qcow2MaxRefcountTableBytes ? "EFBIG" : "EAGAIN", "refcount");
}

/** A cluster is free again: it may be handed out, and no compressed data is added to it any more. */
function noteFree(image: Image, cluster: number): void {
  if (cluster < image.freeHint) image.freeHint = cluster;
  if (Math.floor(image.compressedTail / image.geometry.clusterSize) === cluster) image.compressedTail = 0;
}

/** Clusters of the runs whose refcount is 0, as runs of file bytes: what may be discarded below. */
export async function unusedParts(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
): Promise<{ cluster: number; count: number }[]> {
  const runs: { cluster: number; count: number }[] = [];
  for (let at = cluster; at < cluster + count; at++) {
    if ((await getRefcount(image, at)) !== 0) continue;
    const last = runs.at(-1);
    if (last && last.cluster + last.count === at) last.count += 1;
    else runs.push({ cluster: at, count: 1 });
  }
  return runs;
}

/** Whether the block's `length` refcounts from `first` on are all 0; else the index of the last one that is not, plus one. */
export function freeWithin(
  block: CachedTable,
  { first, length, order }: { first: number; length: number; order: number },
): number {
  assert(length > 0, "an empty range has no refcounts");
  for (let index = first + length - 1; index >= first; index--) {
    if (readRefcount(block, index, order) !== 0) return index + 1;
  }
  return first;
}
