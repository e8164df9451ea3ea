/**
 * Finding and taking free clusters, and growing the refcount structures that describe them. Everything here runs under the
 * metadata lock and changes only cached metadata, save for a move of the refcount table.
 *
 * Invariants: a cluster that was freed is taken again only after its freeing is durable (write-back.ts lowers its refcount
 * then), so no table in the file ever points to a cluster that already holds something else.
 * Source: qcow2.txt, "Host cluster management".
 */
import { assert } from "../../../../base/assert.ts";
import { type Answer, andThen, isPromise } from "../../../../base/answer.ts";
import { blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import { updateHeader } from "./header-update.ts";
import type { Image } from "./image.ts";
import { readU64, writeU64, writeRefcount } from "../disk/layout.ts";
import { isWorthReuse, writeBackLocked } from "./write-back.ts";
import type { FreeReason } from "./options.ts";
import type { CachedTable } from "./metadata-cache.ts";
import {
  addRefcounts,
  blockOffset,
  freeWithin,
  loadBlock,
  refcountTableEntries,
  setBlockOffset,
} from "./refcounts.ts";

/** Clusters handed out. Indices in the file. */
export interface Allocation {
  readonly cluster: number;
  readonly count: number;
  /** The clusters were never written and read as zeroes. */
  readonly fresh: boolean;
}

/** Takes `count` adjacent clusters, refcount 1 each. Errors: EFBIG beyond the limits, ENOSPC and EIO of the file. */
export function allocate(image: Image, count: number): Answer<Allocation> {
  assert(count > 0, "no cluster was asked for");
  const told = image.event("cluster_alloc");
  return told ? told.then(() => take(image, count)) : take(image, count);
}

function take(image: Image, count: number): Answer<Allocation> {
  const found = findRun(image, image.freeHint, count);
  return isPromise(found)
    ? found.then((cluster) => takeAt(image, cluster, count))
    : takeAt(image, found, count);
}

/** Takes the run of free clusters that was found, or another one where something has to be made for it first. */
function takeAt(image: Image, cluster: number, count: number): Answer<Allocation> {
  const end = (cluster + count) * image.geometry.clusterSize;
  if (end > image.file.length && isWorthReuse(image, count))
    return writeBackLocked(image).then(() => take(image, count));
  if (end > limits.maxImageBytes) throw blockError("EFBIG", "allocate");
  const made = ensureBlocks(image, cluster, count);
  if (made) return made.then((there) => (there ? counted(image, cluster, count) : take(image, count)));
  return counted(image, cluster, count);
}

function counted(image: Image, cluster: number, count: number): Answer<Allocation> {
  const adding = addRefcounts(image, { cluster, count }, 1);
  return isPromise(adding) ? adding.then(() => taken(image, cluster, count)) : taken(image, cluster, count);
}

function taken(image: Image, cluster: number, count: number): Allocation {
  image.freeHint = cluster + count;
  return takeFresh(image, cluster, count);
}

function takeFresh(image: Image, cluster: number, count: number): Allocation {
  assert(cluster > 0, "the header's cluster was handed out");
  const { clusterSize } = image.geometry;
  const fresh = cluster * clusterSize >= image.untouchedFrom;
  // From its end on nobody has written anything; before it clusters may hold anything.
  image.untouchedFrom = Math.max(image.untouchedFrom, (cluster + count) * clusterSize);
  return { cluster, count, fresh };
}

/** Takes one cluster for a table. */
export function allocateTable(image: Image): Answer<{ offset: number; fresh: boolean }> {
  return andThen(allocate(image, 1), ({ cluster, fresh }) => ({
    offset: cluster * image.geometry.clusterSize,
    fresh,
  }));
}

/**
 * Takes the room of a new table on the disk below, before anything refers to it: a full disk fails the request that needs
 * the table, under its policy, and not the write-back, with all that the table maps by then.
 */
export function reserveTable(image: Image, offset: number): Answer<void> {
  assert(offset > 0 && offset % image.geometry.clusterSize === 0, "a table lies on a cluster");
  return image.file.pwrite(offset, new Uint8Array(image.geometry.clusterSize));
}

/** Removes one reference of each cluster once that is safe: after the tables without them are durable. */
export function free(image: Image, run: { cluster: number; count: number }, reason: FreeReason): void {
  assert(run.count > 0, "an empty run was freed");
  const last = image.freed.at(-1);
  image.freedClusters += run.count;
  if (last && last.reason === reason && last.cluster + last.count === run.cluster) {
    image.freed[image.freed.length - 1] = { cluster: last.cluster, count: last.count + run.count, reason };
  } else {
    image.freed.push({ ...run, reason });
  }
}

/** Gives back clusters that no table ever pointed to. */
export function unallocate(image: Image, run: { cluster: number; count: number }): Answer<void> {
  return addRefcounts(image, run, -1);
}

/** The first index >= `from` at which `count` clusters are free. Clusters without a refcount block are free. */
function findRun(image: Image, from: number, count: number): Answer<number> {
  // Cluster 0 is the header, whatever its refcount says.
  const start = Math.max(from, 1);
  return growRun(image, { start, checked: start }, count);
}

/** A run under examination: from `start` on, the clusters before `checked` are free. */
interface FreeRun {
  start: number;
  checked: number;
}

/** Goes on until `count` clusters are free. */
function growRun(image: Image, run: FreeRun, count: number): Answer<number> {
  const { blockEntries } = image.geometry;
  const end = refcountTableEntries(image) * blockEntries;
  while (run.checked < run.start + count && run.checked < end) {
    const block = loadBlock(image, Math.floor(run.checked / blockEntries));
    if (isPromise(block)) return growRunLater(image, run, { count, block });
    checkBlock(image, run, count, block);
  }
  return run.start;
}

async function growRunLater(
  image: Image,
  run: FreeRun,
  { count, block }: { count: number; block: Promise<CachedTable | undefined> },
): Promise<number> {
  checkBlock(image, run, count, await block);
  return growRun(image, run, count);
}

/** Takes into account what one block says of the run; behind a cluster in use it begins anew. */
function checkBlock(image: Image, run: FreeRun, count: number, block: CachedTable | undefined): void {
  const { blockEntries, refcountOrder } = image.geometry;
  const { checked } = run;
  const first = checked % blockEntries;
  const length = Math.min(run.start + count - checked, blockEntries - first);
  const used = block ? freeWithin(block, { first, length, order: refcountOrder }) : first;
  assert(length > 0 && used <= first + length, "what is looked at is in the block");
  if (used > first) run.start = checked - first + used;
  run.checked = used > first ? run.start : checked + length;
}

/**
 * Creates the refcount blocks that the run lacks, if any, behind the run, which so stays where it was found (and in one
 * piece), as QEMU lays them out. False: something was created, so look for a run again.
 */
function ensureBlocks(image: Image, cluster: number, count: number): Promise<boolean> | undefined {
  const { blockEntries } = image.geometry;
  const last = Math.floor((cluster + count - 1) / blockEntries);
  for (let block = Math.floor(cluster / blockEntries); block <= last; block++) {
    if (block >= refcountTableEntries(image)) return growRefcountTable(image, last + 1).then(() => false);
    const offset = blockOffset(image, block);
    // The refcount table stays in memory once it was read.
    if (isPromise(offset)) return offset.then(() => ensureBlocks(image, cluster, count) ?? true);
    if (offset === 0) return createBlock(image, block, cluster + count).then(() => false);
  }
  return undefined;
}

/**
 * Makes a refcount block in the first free cluster from `from` on, described by itself or by another one. It may come out
 * that another block had to come first.
 */
async function createBlock(image: Image, block: number, from: number): Promise<void> {
  const { blockEntries, clusterSize, refcountOrder } = image.geometry;
  await image.event("refblock_alloc");
  const cluster = await findRun(image, from, 1);
  const home = Math.floor(cluster / blockEntries);
  if (home >= refcountTableEntries(image)) return growRefcountTable(image, home + 1);
  if (home !== block && (await blockOffset(image, home)) === 0) return createBlock(image, home, from);
  const offset = cluster * clusterSize;
  assert(cluster >= from, "a block lies behind the run that needs it");
  await reserveTable(image, offset);
  await image.event("refblock_alloc_hookup");
  if (home !== block) await addRefcounts(image, { cluster, count: 1 }, 1);
  const table = image.refcountBlocks.create(offset);
  if (home === block) writeRefcount(table, cluster % blockEntries, refcountOrder, 1);
  takeFresh(image, cluster, 1);
  await setBlockOffset(image, block, offset);
}

/** A refcount table under construction. */
interface NewTable {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly cluster: number;
  readonly clusters: number;
}

/**
 * Moves the refcount table to a larger one of at least `entries` entries. The new table and the blocks that describe it
 * are durable before the header names it, and the header is durable before the old table is given up.
 */
async function growRefcountTable(image: Image, entries: number): Promise<void> {
  const { clusterSize } = image.geometry;
  const old = {
    cluster: image.header.refcountTableOffset / clusterSize,
    count: image.header.refcountTableClusters,
  };
  await image.event("reftable_grow");
  const table = await buildTable(image, entries);
  assert(table.bytes.byteLength / 8 > refcountTableEntries(image), "the refcount table did not grow");
  await image.event("refblock_alloc_write_table");
  await image.refcountBlocks.writeDirty();
  await image.checkOverlap(table.cluster * clusterSize, table.bytes.byteLength);
  await image.file.pwrite(table.cluster * clusterSize, table.bytes);
  await image.file.flush();
  await image.event("refblock_alloc_switch_table");
  await updateHeader(image, (header) => {
    header.refcountTableOffset = table.cluster * clusterSize;
    header.refcountTableClusters = table.clusters;
  });
  await image.file.flush();
  image.refcountTable.clear();
  image.noteRefcountTable();
  await addRefcounts(image, old, -1);
}

/** Lays out the new table with the blocks that its own clusters need; those blocks are left dirty in the cache. */
async function buildTable(image: Image, entries: number): Promise<NewTable> {
  const { blockEntries, clusterSize, refcountOrder } = image.geometry;
  const oldEntries = refcountTableEntries(image);
  const wanted = Math.max(entries, Math.ceil(oldEntries * 1.5));
  // All new clusters go beyond what the old table covers: their blocks are all new, and describe themselves.
  const first = oldEntries * blockEntries;
  let clusters = 0;
  let blocks = 0;
  for (;;) {
    const total = clusters + blocks;
    const needBlocks = Math.ceil(total / blockEntries) || 1;
    const needClusters = Math.ceil((Math.max(wanted, oldEntries + needBlocks) * 8) / clusterSize);
    if (needBlocks === blocks && needClusters === clusters) break;
    blocks = needBlocks;
    clusters = needClusters;
  }
  assert(blocks * blockEntries >= blocks + clusters, "new refcount blocks don't count themselves");
  if (clusters * clusterSize > limits.qcow2MaxRefcountTableBytes) throw blockError("EFBIG", "refcount table");
  const bytes = new Uint8Array(clusters * clusterSize);
  const table = { bytes, view: new DataView(bytes.buffer), cluster: first + blocks, clusters };
  for (let block = 0; block < oldEntries; block++) {
    writeU64(table.view, block * 8, await blockOffset(image, block));
  }
  for (let index = 0; index < blocks; index++) {
    const block = image.refcountBlocks.create((first + index) * clusterSize);
    for (let at = 0; at < blockEntries && index * blockEntries + at < blocks + clusters; at++) {
      writeRefcount(block, at, refcountOrder, 1);
    }
    writeU64(table.view, (oldEntries + index) * 8, block.offset);
    image.metadata.addTable("refcount block", block.offset);
  }
  takeFresh(image, first, blocks + clusters);
  return table;
}

/** The last cluster in use plus one: where a full file ends. Reads refcount blocks from the end. */
export async function lastUsedCluster(image: Image): Promise<number> {
  const { blockEntries, refcountOrder } = image.geometry;
  for (let block = refcountTableEntries(image) - 1; block >= 0; block--) {
    const table = await loadBlock(image, block);
    if (!table) continue;
    const used = freeWithin(table, { first: 0, length: blockEntries, order: refcountOrder });
    if (used > 0) return block * blockEntries + used;
  }
  return 1;
}

/** Reads the whole refcount table, for those who need every block. */
export async function blockOffsets(image: Image): Promise<number[]> {
  const offsets: number[] = [];
  for (let at = 0; at < refcountTableEntries(image); at += image.refcountTable.tableBytes / 8) {
    const table = await image.refcountTable.load(image.header.refcountTableOffset + at * 8);
    const end = Math.min(refcountTableEntries(image) - at, image.refcountTable.tableBytes / 8);
    for (let index = 0; index < end; index++) offsets.push(readU64(table.view, index * 8));
  }
  return offsets;
}
