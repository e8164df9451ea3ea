/**
 * New refcount structures for an image whose old ones can't be mended in place.
 *
 * Invariants: new structures take clusters that nothing refers to, and are durable before the header names them.
 * Source: qcow2.txt, "Host cluster management".
 */
import { blockError } from "../../../../base/errors.ts";
import type { Inspected, Walk } from "./inspected.ts";
import { writeU64, maxRefcount, writeRefcount } from "../disk/layout.ts";

/** Writes new refcount blocks and a new refcount table into free clusters, then lets the header name them. */
export async function rebuildStructures(image: Inspected, walk: Walk): Promise<void> {
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
  image.metadata.removeRanges("refcount table");
  image.metadata.removeTables("refcount block");
  image.metadata.addRange("refcount table", header.refcountTableOffset, table.byteLength);
  for (const cluster of plan.blocks.values())
    image.metadata.addTable("refcount block", cluster * clusterSize);
}

/** Where new refcount structures go. */
class StructurePlan {
  readonly #walk: Walk;
  readonly #maxCount: number;
  readonly blockEntries: number;
  /** Block index -> cluster. */
  readonly blocks = new Map<number, number>();
  table = 0;
  tableClusters = 0;
  #firstFree = 0;

  constructor(image: Inspected, walk: Walk) {
    const { refcountOrder } = image.header;
    this.#walk = walk;
    this.#maxCount = maxRefcount(refcountOrder);
    this.blockEntries = (walk.clusterSize * 8) / 2 ** refcountOrder;
  }

  /** Finds room until everything in use, the new structures too, is counted by a block that has a place. */
  make(): void {
    const { counts, clusterSize } = this.#walk;
    if (counts.some((count) => count > this.#maxCount)) {
      throw blockError("EIO", "check", "more references than a refcount holds");
    }
    this.#blocksFor();
    for (;;) {
      let highest = 0;
      for (const index of this.blocks.keys()) highest = Math.max(highest, index);
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
    for (let at = start; at - start < count; at++) if (this.#isTaken(at)) start = at + 1;
    walk.grow(start + count);
    walk.counts.fill(1, start, start + count);
    if (count === 1) this.#firstFree = start + 1;
    return start;
  }

  /** Whether a cluster is referred to, or would be if the file reached to it. */
  #isTaken(cluster: number): boolean {
    const { counts, clusters, clusterSize, image } = this.#walk;
    if (cluster < clusters && (counts[cluster] ?? 0) > 0) return true;
    const section = image.metadata.overlap(cluster * clusterSize, clusterSize);
    // The old refcount structures are given up.
    return section !== undefined && section !== "refcount table" && section !== "refcount block";
  }
}
