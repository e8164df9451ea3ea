/**
 * Reading and changing refcounts through the cached refcount table and blocks. All functions that change something are
 * called under the metadata lock. Source: qcow2.txt, "Host cluster management".
 */
import { assert } from "../../../../base/assert.ts";
import { blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { Image } from "./image.ts";
import { readU64, writeU64 } from "../disk/layout.ts";
import type { CachedTable } from "./metadata-cache.ts";
import { addToRefcount, readRefcount, refcountBytes, refcountFits } from "../disk/refcount-widths.ts";

/** Entries of the refcount table. */
export function refcountTableEntries(image: Image): number {
  return (image.header.refcountTableClusters * image.geometry.clusterSize) / 8;
}

async function tableSlot(image: Image, block: number): Promise<{ table: CachedTable; at: number }> {
  const byte = block * 8;
  const at = byte % image.refcountTable.tableBytes;
  return { table: await image.refcountTable.load(image.header.refcountTableOffset + byte - at), at };
}

/** The offset of refcount block number `block`, 0 if there is none. Errors: EIO for a corrupt entry. */
export async function blockOffset(image: Image, block: number): Promise<number> {
  if (block >= refcountTableEntries(image)) return 0;
  const { table, at } = await tableSlot(image, block);
  const offset = readU64(table.view, at) - (readU64(table.view, at) % 512);
  if (offset % image.geometry.clusterSize !== 0 || !Number.isSafeInteger(offset)) {
    const words = `Refblock offset 0x${offset.toString(16)} unaligned (reftable index: 0x${block.toString(16)})`;
    await image.corrupted(words, { fatal: true });
  }
  return offset;
}

/** Points the refcount table at a block. */
export async function setBlockOffset(image: Image, block: number, offset: number): Promise<void> {
  const { table, at } = await tableSlot(image, block);
  writeU64(table.view, at, offset);
  image.refcountTable.markDirty(table, at, at + 8);
  image.metadata.addTable("refcount block", offset);
}

/** Refcount block number `block`; undefined if there is none. Errors: EIO for one that can't be. */
export async function loadBlock(image: Image, block: number): Promise<CachedTable | undefined> {
  const offset = await blockOffset(image, block);
  if (offset === 0) return undefined;
  const cached = image.refcountBlocks.peek(offset);
  // A block is in the file before the table names it: one behind the file's end would count everything as free.
  if (!cached && offset >= image.file.length) {
    const words = `Refblock offset 0x${offset.toString(16)} behind the end of the file (reftable index: 0x${block.toString(16)})`;
    await image.corrupted(words, { fatal: false });
  }
  return cached ?? image.refcountBlocks.load(offset);
}

/** The refcount of a cluster; 0 where no block covers it. */
export async function getRefcount(image: Image, cluster: number): Promise<number> {
  const { blockEntries, refcountOrder } = image.geometry;
  const table = await loadBlock(image, Math.floor(cluster / blockEntries));
  return table ? readRefcount(table, cluster % blockEntries, refcountOrder) : 0;
}

/** Refcount block number `block`, if there is one and it is in memory. */
export function peekBlock(image: Image, block: number): CachedTable | undefined {
  if (block >= refcountTableEntries(image)) return undefined;
  const at = (block * 8) % image.refcountTable.tableBytes;
  const table = image.refcountTable.peek(image.header.refcountTableOffset + block * 8 - at);
  const offset = table && readU64(table.view, at);
  return offset ? image.refcountBlocks.peek(offset) : undefined;
}

/** The refcount of a cluster if its block is in memory. */
export function peekRefcount(image: Image, cluster: number): number | undefined {
  const { blockEntries, refcountOrder } = image.geometry;
  const number = Math.floor(cluster / blockEntries);
  if (number >= refcountTableEntries(image)) return 0;
  const block = peekBlock(image, number);
  return block && readRefcount(block, cluster % blockEntries, refcountOrder);
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
export async function addRefcounts(
  image: Image,
  { cluster, count }: { cluster: number; count: number },
  delta: 1 | -1,
): Promise<void> {
  const { blockEntries, refcountOrder: order } = image.geometry;
  const parts: Part[] = [];
  for (let at = cluster; at < cluster + count;) {
    const first = at % blockEntries;
    const length = Math.min(cluster + count - at, blockEntries - first);
    const number = Math.floor(at / blockEntries);
    const block = await loadBlock(image, number);
    if (!block) throw uncounted(number, delta);
    for (let index = first; index < first + length; index++) {
      if (!refcountFits(block, { index, order }, delta))
        throw blockError("EINVAL", "refcount", "a refcount would leave its range");
    }
    parts.push({ block, cluster: at, first, length });
    at += length;
  }
  for (const { block, cluster: at, first, length } of parts) {
    for (let index = 0; index < length; index++) {
      const value = addToRefcount(block, { index: first + index, order }, delta);
      if (value === 0) noteFree(image, at + index);
    }
    const { from, to } = refcountBytes(first, length, order);
    image.refcountBlocks.markDirty(block, from, to);
  }
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
