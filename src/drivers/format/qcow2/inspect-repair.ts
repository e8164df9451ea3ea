/**
 * The second half of a check: compares the counted references with the refcounts and the COPIED flags, mends them where
 * that is asked for, and writes new refcount structures where the old ones can't be mended.
 *
 * Invariants: without a request to repair nothing is written. New structures are durable before the header names them.
 * Source: qcow2.txt; behaviour of QEMU 7.2's check.
 */
import { ImageError } from "../../../base/errors.ts";
import { hex, type Inspected, type ReferenceWalk } from "./inspect-walk.ts";
import { COPIED_HIGH, entryKind, entryOffset, Incompatible, Kind, readU64, writeU64 } from "./layout.ts";
import {
  type BlockBytes,
  maxRefcount,
  readRefcount,
  refcountBytes,
  writeRefcount,
} from "./refcount-widths.ts";

interface LoadedBlock extends BlockBytes {
  readonly index: number;
  readonly offset: number;
}

/** The refcounts of the file, one block in memory. */
export class StoredRefcounts {
  readonly #image: Inspected;
  readonly #clusterSize: number;
  readonly blockEntries: number;
  #table: DataView | undefined;
  #block: LoadedBlock | undefined;

  constructor(image: Inspected) {
    const { header } = image;
    this.#image = image;
    this.#clusterSize = 2 ** header.clusterBits;
    this.blockEntries = (this.#clusterSize * 8) / 2 ** header.refcountOrder;
  }

  /** The refcount of a cluster; undefined where its block can't be read. */
  async get(cluster: number): Promise<number | undefined> {
    const block = await this.#load(Math.floor(cluster / this.blockEntries));
    if (block === "none") return 0;
    if (block === "bad") return undefined;
    return readRefcount(block, cluster % this.blockEntries, this.#image.header.refcountOrder);
  }

  /** Changes the refcount of a cluster whose block exists. */
  async set(cluster: number, count: number): Promise<void> {
    const { header, file } = this.#image;
    const block = await this.#load(Math.floor(cluster / this.blockEntries));
    if (typeof block === "string" || count > maxRefcount(header.refcountOrder)) {
      throw new ImageError({ structure: "refcount block", message: "a refcount can't be set" });
    }
    const index = cluster % this.blockEntries;
    writeRefcount(block, index, header.refcountOrder, count);
    const { from, to } = refcountBytes(index, 1, header.refcountOrder);
    await file.pwrite(block.offset + from, block.bytes.subarray(from, to));
  }

  /** Forgets what was read: the structures have moved. */
  forget(): void {
    this.#table = undefined;
    this.#block = undefined;
  }

  async #load(index: number): Promise<LoadedBlock | "none" | "bad"> {
    if (this.#block?.index === index) return this.#block;
    const { header, file } = this.#image;
    if (!this.#table) {
      const bytes = new Uint8Array(header.refcountTableClusters * this.#clusterSize);
      await file.pread(header.refcountTableOffset, bytes);
      this.#table = new DataView(bytes.buffer);
    }
    const offset = index * 8 < this.#table.byteLength ? readU64(this.#table, index * 8) : 0;
    if (offset === 0) return "none";
    if (offset % this.#clusterSize !== 0 || !Number.isSafeInteger(offset)) return "bad";
    const bytes = new Uint8Array(this.#clusterSize);
    await file.pread(offset, bytes);
    this.#block = { index, offset, bytes, view: new DataView(bytes.buffer) };
    return this.#block;
  }
}

/** Compares all refcounts with what was counted. Resolves with the highest cluster in use. */
export async function compareRefcounts(
  image: Inspected,
  walk: ReferenceWalk,
  stored: StoredRefcounts,
  fix: Inspected["fix"],
): Promise<number> {
  const { result, say, signal } = image;
  let highest = 0;
  for (let cluster = 0; cluster < walk.clusters; cluster++) {
    const found = await stored.get(cluster);
    if (found === undefined) {
      say(`Can't get refcount for cluster ${cluster}: Input/output error`);
      result.checkErrors += 1;
      continue;
    }
    const wanted = walk.counts[cluster] ?? 0;
    if (found > 0 || wanted > 0) highest = cluster;
    if (found === wanted) continue;
    signal?.throwIfAborted();
    const isLeak = found > wanted;
    if (found === 0) walk.rebuild = true;
    const mends = found !== 0 && (isLeak ? fix.leaks : fix.errors);
    const word = mends ? "Repairing" : isLeak ? "Leaked" : "ERROR";
    say(`${word} cluster ${cluster} refcount=${found} reference=${wanted}`);
    if (mends) await stored.set(cluster, wanted);
    if (isLeak) result[mends ? "leaksFixed" : "leaks"] += 1;
    else result[mends ? "corruptionsFixed" : "corruptions"] += 1;
  }
  return highest;
}

/** Compares the COPIED flags of the active tables with the refcounts, which are right by now if they were repaired. */
export async function checkCopiedFlags(image: Inspected, stored: StoredRefcounts): Promise<void> {
  const { header, file, result, fix } = image;
  // Without repair of errors, flags follow refcounts that are known to be right.
  const right = result.checkErrors + result.corruptions + result.leaks === 0;
  const mends = fix.errors || (fix.leaks && right);
  const l1 = new Uint8Array(header.l1Size * 8);
  await file.pread(header.l1Offset, l1);
  const view = new DataView(l1.buffer);
  for (let index = 0; index < header.l1Size; index++) {
    const high = view.getUint32(index * 8);
    const low = view.getUint32(index * 8 + 4);
    const offset = entryOffset(high, low);
    if (offset === 0) continue;
    image.signal?.throwIfAborted();
    const words = `OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${hex(high, low)}`;
    const right = await rightFlag(image, { stored, offset, high, words, mends });
    if (right !== undefined) {
      view.setUint32(index * 8, right);
      await file.pwrite(header.l1Offset + index * 8, l1.subarray(index * 8, index * 8 + 8));
    }
    await checkL2Flags(image, { stored, offset, mends });
  }
}

async function checkL2Flags(
  image: Inspected,
  { stored, offset, mends }: { stored: StoredRefcounts; offset: number; mends: boolean },
): Promise<void> {
  const { header, file } = image;
  const bits = Number(header.incompatible);
  // Clusters of a data file have no refcounts.
  if (bits & Incompatible.dataFile || offset >= file.length) return;
  const bytes = new Uint8Array(2 ** header.clusterBits);
  const view = new DataView(bytes.buffer);
  await file.pread(offset, bytes);
  let changed = false;
  for (let at = 0; at < bytes.byteLength; at += bits & Incompatible.extendedL2 ? 16 : 8) {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const kind = entryKind(high, low);
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
    const words = `OFLAG_COPIED data cluster: l2_entry=${hex(high, low)}`;
    const right = await rightFlag(image, { stored, offset: entryOffset(high, low), high, words, mends });
    if (right === undefined) continue;
    view.setUint32(at, right);
    changed = true;
  }
  if (changed) await file.pwrite(offset, bytes);
}

interface FlagPlace {
  stored: StoredRefcounts;
  /** What the entry points to. */
  offset: number;
  high: number;
  words: string;
  mends: boolean;
}

/** The entry's high word as it should be, if it is to be changed. */
async function rightFlag(image: Inspected, place: FlagPlace): Promise<number | undefined> {
  const { high, words, mends } = place;
  const count = await place.stored.get(Math.floor(place.offset / 2 ** image.header.clusterBits));
  if (count === undefined || (count === 1) === ((high & COPIED_HIGH) !== 0)) return undefined;
  image.say(`${mends ? "Repairing" : "ERROR"} ${words} refcount=${count}`);
  image.result[mends ? "corruptionsFixed" : "corruptions"] += 1;
  return mends ? ((high & ~COPIED_HIGH) | (count === 1 ? COPIED_HIGH : 0)) >>> 0 : undefined;
}

/** Writes new refcount blocks and a new refcount table into free clusters, then lets the header name them. */
export async function rebuildStructures(image: Inspected, walk: ReferenceWalk): Promise<void> {
  const { header, file } = image;
  const { clusterSize } = walk;
  const plan = new StructurePlan(image, walk);
  plan.make();
  await file.truncate(Math.max(file.length, walk.clusters * clusterSize), {
    exact: false,
    preallocation: "off",
  });
  const bytes = new Uint8Array(clusterSize);
  const view = new DataView(bytes.buffer);
  for (const [index, cluster] of plan.blocks) {
    bytes.fill(0);
    const first = index * plan.blockEntries;
    const end = Math.min(walk.clusters, first + plan.blockEntries);
    for (let at = first; at < end; at++)
      writeRefcount({ bytes, view }, at - first, header.refcountOrder, walk.counts[at] ?? 0);
    await file.pwrite(cluster * clusterSize, bytes);
  }
  const table = new Uint8Array(plan.tableClusters * clusterSize);
  const entries = new DataView(table.buffer);
  for (const [index, cluster] of plan.blocks) writeU64(entries, index * 8, cluster * clusterSize);
  await file.pwrite(plan.table * clusterSize, table);
  await file.flush();
  const fields = new Uint8Array(12);
  const fieldView = new DataView(fields.buffer);
  writeU64(fieldView, 0, plan.table * clusterSize);
  fieldView.setUint32(8, plan.tableClusters);
  await file.pwrite(48, fields);
  await file.flush();
  header.refcountTableOffset = plan.table * clusterSize;
  header.refcountTableClusters = plan.tableClusters;
}

/** Where new refcount structures go. */
class StructurePlan {
  readonly #walk: ReferenceWalk;
  readonly #maxCount: number;
  readonly blockEntries: number;
  /** Block index -> cluster. */
  readonly blocks = new Map<number, number>();
  table = 0;
  tableClusters = 0;
  #firstFree = 0;

  constructor(image: Inspected, walk: ReferenceWalk) {
    const { refcountOrder } = image.header;
    this.#walk = walk;
    this.#maxCount = maxRefcount(refcountOrder);
    this.blockEntries = (walk.clusterSize * 8) / 2 ** refcountOrder;
  }

  /** Finds room until everything in use, the new structures too, is counted by a block that has a place. */
  make(): void {
    const { counts, clusterSize } = this.#walk;
    if (counts.some((count) => count > this.#maxCount)) {
      throw new ImageError({ structure: "refcount block", message: "more references than a refcount holds" });
    }
    this.#blocksFor();
    for (;;) {
      const highest = Math.max(...this.blocks.keys());
      const clusters = Math.ceil(((highest + 1) * 8) / clusterSize);
      if (clusters === this.tableClusters && !this.#blocksFor()) return;
      if (clusters === this.tableClusters) continue;
      for (let at = 0; at < this.tableClusters; at++) this.#walk.counts[this.table + at] = 0;
      if (this.tableClusters > 0) this.#firstFree = Math.min(this.#firstFree, this.table);
      this.table = this.#take(clusters);
      this.tableClusters = clusters;
      this.#blocksFor();
    }
  }

  /** Gives a place to every block that has something to count; says whether there was one without. */
  #blocksFor(): boolean {
    const walk = this.#walk;
    let found = false;
    for (let cluster = 0; cluster < walk.clusters; cluster++) {
      if ((walk.counts[cluster] ?? 0) === 0) continue;
      const index = Math.floor(cluster / this.blockEntries);
      if (!this.blocks.has(index)) {
        this.blocks.set(index, this.#take(1));
        found = true;
        // The block may have taken a cluster that an earlier block counts: that one is there already.
      }
      cluster = (index + 1) * this.blockEntries - 1;
    }
    return found;
  }

  /** The first run of that many free clusters, marked as used. */
  #take(count: number): number {
    const walk = this.#walk;
    let start = this.#firstFree;
    for (let at = start; at - start < count; at++)
      if (at < walk.clusters && (walk.counts[at] ?? 0) > 0) start = at + 1;
    walk.grow(start + count);
    walk.counts.fill(1, start, start + count);
    if (count === 1) this.#firstFree = start + 1;
    return start;
  }
}
