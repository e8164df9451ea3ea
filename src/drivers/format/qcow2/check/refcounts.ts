/**
 * The refcounts in the file of an image that is checked, and their comparison with what was counted.
 *
 * Invariants: without a request to repair nothing is written, and nothing over other metadata.
 * Source: qcow2.txt, "Host cluster management"; behaviour of QEMU 7.2's check.
 */
import { BlockError } from "../../../../base/errors.ts";
import { MiB } from "../../../../base/limits.ts";
import { type Inspected, LAST_OFFSET, type Walk } from "./inspected.ts";
import { firstDifference, highestOf } from "./plain.ts";
import { type BlockBytes, readRefcount, refcountBytes, writeRefcount } from "../disk/layout.ts";

interface LoadedBlock extends BlockBytes {
  readonly offset: number;
}

/** A block in the file; none: there is none; outside: it lies behind the file's end, as zeroes; bad: nowhere. */
type Block = LoadedBlock | "none" | "outside" | "bad";

/** Bytes of refcount blocks that are kept in memory. */
const CACHE_BYTES = 16 * MiB;

/** The refcounts of the file; some blocks are kept in memory, always as the file has them. */
export class StoredRefcounts {
  readonly #image: Inspected;
  readonly #clusterSize: number;
  readonly blockEntries: number;
  #table: DataView | undefined;
  readonly #blocks = new Map<number, LoadedBlock>();
  /** The block that was asked last. */
  #near: { readonly index: number; readonly block: LoadedBlock } | undefined;

  constructor(image: Inspected) {
    const { header } = image;
    this.#image = image;
    this.#clusterSize = 2 ** header.clusterBits;
    this.blockEntries = (this.#clusterSize * 8) / 2 ** header.refcountOrder;
  }

  /** The refcount of a cluster; undefined where its block can't be read. */
  async get(cluster: number): Promise<number | undefined> {
    const block = await this.load(Math.floor(cluster / this.blockEntries));
    if (block === "none" || block === "outside") return 0;
    if (block === "bad") return undefined;
    return readRefcount(block, cluster % this.blockEntries, this.#image.header.refcountOrder);
  }

  /** The refcount of a cluster if its block is in memory. */
  peek(cluster: number): number | undefined {
    const index = Math.floor(cluster / this.blockEntries);
    if (index !== this.#near?.index) {
      const block = this.#blocks.get(index);
      if (!block) return undefined;
      this.#near = { index, block };
    }
    const { block } = this.#near;
    return readRefcount(block, cluster - index * this.blockEntries, this.#image.header.refcountOrder);
  }

  /** A refcount just read, in full: one of 64 bits may be more than a number holds. */
  exact(cluster: number, found: number): string {
    const block = this.#blocks.get(Math.floor(cluster / this.blockEntries));
    if (found <= Number.MAX_SAFE_INTEGER || !block) return String(found);
    return String(block.view.getBigUint64((cluster % this.blockEntries) * 8));
  }

  /** Changes the refcount of a cluster whose block exists. Errors: EIO where the block lies over other metadata. */
  async set(cluster: number, count: number): Promise<void> {
    const { header, file, metadata } = this.#image;
    const block = await this.load(Math.floor(cluster / this.blockEntries));
    if (typeof block === "string" || metadata.overlap(block.offset, this.#clusterSize, "refcount block"))
      throw new BlockError({ code: "EIO", op: "check" });
    const index = cluster % this.blockEntries;
    writeRefcount(block, index, header.refcountOrder, count);
    const { from, to } = refcountBytes(index, 1, header.refcountOrder);
    await file.pwrite(block.offset + from, block.bytes.subarray(from, to));
  }

  /** The first run of free clusters outside of `not` that blocks which exist describe, or undefined. */
  async findFree(
    walk: Walk,
    count: number,
    not: { first: number; end: number },
  ): Promise<number | undefined> {
    let start = 1;
    for (let cluster = 1; cluster - start < count; cluster++) {
      const block = await this.load(Math.floor(cluster / this.blockEntries));
      if (typeof block === "string") {
        if (cluster >= walk.clusters) return undefined;
        start = cluster + 1;
      } else if (cluster >= not.first && cluster < not.end) start = cluster + 1;
      else if ((walk.counts[cluster] ?? 0) > 0 || (await this.get(cluster)) !== 0) start = cluster + 1;
    }
    return start;
  }

  /** Forgets what was read: the structures have moved. */
  forget(): void {
    this.#table = undefined;
    this.#drop();
  }

  #drop(): void {
    this.#near = undefined;
    this.#blocks.clear();
  }

  /** A refcount block. Errors: the file's. */
  async load(index: number): Promise<Block> {
    const kept = this.#blocks.get(index);
    if (kept) return kept;
    const { header, file, signal } = this.#image;
    if (!this.#table) {
      const bytes = new Uint8Array(header.refcountTableClusters * this.#clusterSize);
      await file.pread(header.refcountTableOffset, bytes);
      this.#table = new DataView(bytes.buffer);
    }
    signal?.throwIfAborted();
    if (index * 8 >= this.#table.byteLength) return "none";
    const low = this.#table.getUint32(index * 8 + 4);
    const offset = this.#table.getUint32(index * 8) * 2 ** 32 + low - (low % 512);
    if (offset === 0) return "none";
    if (offset % this.#clusterSize !== 0 || offset > LAST_OFFSET) return "bad";
    if (offset >= file.length) return "outside";
    const bytes = new Uint8Array(this.#clusterSize);
    await file.pread(offset, bytes);
    const block = { offset, bytes, view: new DataView(bytes.buffer) };
    if (this.#blocks.size * this.#clusterSize >= CACHE_BYTES) this.#drop();
    this.#blocks.set(index, block);
    return block;
  }
}

/** Compares all refcounts with what was counted. Resolves with the highest cluster in use. */
export async function compareRefcounts(
  image: Inspected,
  walk: Walk,
  stored: StoredRefcounts,
  fix: Inspected["fix"],
): Promise<number> {
  const { result, say, header } = image;
  let highest = 0;
  for (let cluster = 0; cluster < walk.clusters; cluster++) {
    const block = await stored.load(Math.floor(cluster / stored.blockEntries));
    const end = Math.min(walk.clusters, cluster - (cluster % stored.blockEntries) + stored.blockEntries);
    const base = cluster;
    const plain = header.refcountOrder === 4 && typeof block !== "string" ? block : undefined;
    if (plain) highest = highestOf(walk.counts, { base, end }) ?? highest;
    for (; cluster < end; cluster++) {
      if (plain) cluster = firstDifference(plain.view, walk.counts, { base, from: cluster, end });
      if (cluster === end) break;
      if (block === "bad") {
        say(`Can't get refcount for cluster ${cluster}: Input/output error`);
        result.checkErrors += 1;
        continue;
      }
      const index = cluster % stored.blockEntries;
      const found = typeof block === "string" ? 0 : readRefcount(block, index, header.refcountOrder);
      const wanted = walk.counts[cluster] ?? 0;
      if (found > 0 || wanted > 0) highest = Math.max(highest, cluster);
      if (found !== wanted) await differs({ image, walk, stored, fix }, { cluster, found, wanted });
    }
    cluster -= 1;
  }
  return highest;
}

async function differs(
  {
    image,
    walk,
    stored,
    fix,
  }: {
    image: Inspected;
    walk: Walk;
    stored: StoredRefcounts;
    fix: Inspected["fix"];
  },
  { cluster, found, wanted }: { cluster: number; found: number; wanted: number },
): Promise<void> {
  const { result, say } = image;
  const isLeak = found > wanted;
  if (found === 0) walk.rebuild = true;
  const mends = found !== 0 && (isLeak ? fix.leaks : fix.errors);
  const word = mends ? "Repairing" : isLeak ? "Leaked" : "ERROR";
  say(`${word} cluster ${cluster} refcount=${stored.exact(cluster, found)} reference=${wanted}`);
  if (mends) await stored.set(cluster, wanted);
  if (isLeak) result[mends ? "leaksFixed" : "leaks"] += 1;
  else result[mends ? "corruptionsFixed" : "corruptions"] += 1;
}
