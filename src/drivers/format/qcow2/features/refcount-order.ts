/**
 * Another width of refcounts: the whole refcount structure is built anew behind everything that is in use, durable before
 * one write of the header switches to it; then the old one is given up. A crash before the switch leaves the old structure, one
 * after it leaks the old structure's clusters at worst.
 * Source: qcow2.txt, "Host cluster management"; words of QEMU 7.2.
 */
import { assert } from "../../../../base/assert.ts";
import { CommandError, blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import { blockOffsets, lastUsedCluster } from "../metadata/allocate.ts";
import { updateHeader } from "../metadata/header-update.ts";
import type { Image } from "../metadata/image.ts";
import { hasSubclusters } from "../disk/header.ts";
import {
  makeGeometry,
  writeU64,
  exactRefcount,
  maxRefcount,
  readRefcount,
  writeRefcount,
} from "../disk/layout.ts";
import { addRefcounts, loadBlock } from "../metadata/refcounts.ts";
import { isDirty, writeBackLocked } from "../metadata/write-back.ts";

/** Where the new structure lies: first its blocks, then its table. Clusters. */
interface Plan {
  readonly first: number;
  readonly blocks: number;
  readonly table: number;
}

/** Changes the width to 2^order bits. Nothing else may change the image meanwhile. Throws CommandError if a count does not fit. */
export async function changeRefcountOrder(image: Image, order: number): Promise<void> {
  return image.locked(async () => {
    await writeBackLocked(image);
    await image.file.flush();
    await checkCounts(image, order);
    const { clusterSize } = image.geometry;
    const plan = layOut(await lastUsedCluster(image), { clusterSize, order });
    const old = await oldStructure(image);
    await writeBlocks(image, plan, order);
    await writeTable(image, plan);
    await image.file.flush();
    await updateHeader(image, (header) => {
      header.refcountTableOffset = (plan.first + plan.blocks) * clusterSize;
      header.refcountTableClusters = plan.table;
      header.refcountOrder = order;
    });
    await image.file.flush();
    switchTo(image, plan);
    for (const run of old) await addRefcounts(image, run, -1);
    await writeBackLocked(image);
    await image.file.flush();
  });
}

async function checkCounts(image: Image, order: number): Promise<void> {
  const { blockEntries, refcountOrder, clusterSize } = image.geometry;
  const most = maxRefcount(order);
  if (most >= maxRefcount(refcountOrder)) return;
  const end = await lastUsedCluster(image);
  for (let base = 0; base < end; base += blockEntries) {
    const block = await loadBlock(image, base / blockEntries);
    for (let index = 0; block && index < blockEntries; index++) {
      if (readRefcount(block, index, refcountOrder) <= most) continue;
      const count = exactRefcount(block, index, refcountOrder);
      const offset = (base + index) * clusterSize;
      throw new CommandError(
        `Cannot decrease refcount entry width to ${2 ** order} bits: Cluster at offset ` +
          `${offset === 0 ? "" : "0x"}${offset.toString(16)} has a refcount of ${count}`,
      );
    }
    image.trim();
  }
}

/** As many blocks as cover everything, themselves and the table included. */
function layOut(first: number, { clusterSize, order }: { clusterSize: number; order: number }): Plan {
  const blockEntries = (clusterSize * 8) / 2 ** order;
  let plan: Plan = { first, blocks: 1, table: 1 };
  for (;;) {
    const blocks = Math.ceil((first + plan.blocks + plan.table) / blockEntries);
    const table = Math.ceil((blocks * 8) / clusterSize);
    if (table * clusterSize > limits.qcow2MaxRefcountTableBytes) throw blockError("EFBIG", "refcount table");
    if (blocks === plan.blocks && table === plan.table) return plan;
    plan = { first, blocks: Math.max(blocks, plan.blocks), table: Math.max(table, plan.table) };
  }
}

async function oldStructure(image: Image): Promise<{ cluster: number; count: number }[]> {
  const { clusterSize } = image.geometry;
  const { refcountTableOffset, refcountTableClusters } = image.header;
  // A damaged table may name one twice, or no cluster's beginning.
  const blocks = new Set((await blockOffsets(image)).map((offset) => Math.floor(offset / clusterSize)));
  blocks.delete(0);
  return [
    { cluster: refcountTableOffset / clusterSize, count: refcountTableClusters },
    ...[...blocks].map((cluster) => ({ cluster, count: 1 })),
  ];
}

async function writeBlocks(image: Image, plan: Plan, order: number): Promise<void> {
  const { blockEntries, refcountOrder, clusterSize } = image.geometry;
  const entries = (clusterSize * 8) / 2 ** order;
  const end = plan.first + plan.blocks + plan.table;
  for (let number = 0; number < plan.blocks; number++) {
    const bytes = new Uint8Array(clusterSize);
    const target = { bytes, view: new DataView(bytes.buffer) };
    for (let index = 0; index < entries && number * entries + index < end;) {
      const cluster = number * entries + index;
      if (cluster >= plan.first) {
        writeRefcount(target, index++, order, 1);
        continue;
      }
      const block = await loadBlock(image, Math.floor(cluster / blockEntries));
      const from = cluster % blockEntries;
      const count = Math.min(blockEntries - from, entries - index, plan.first - cluster);
      for (let i = 0; block && i < count; i++)
        writeRefcount(target, index + i, order, readRefcount(block, from + i, refcountOrder));
      index += count;
    }
    await image.file.pwrite((plan.first + number) * clusterSize, bytes);
    image.trim();
  }
}

async function writeTable(image: Image, plan: Plan): Promise<void> {
  const { clusterSize } = image.geometry;
  const bytes = new Uint8Array(plan.table * clusterSize);
  const view = new DataView(bytes.buffer);
  for (let number = 0; number < plan.blocks; number++)
    writeU64(view, number * 8, (plan.first + number) * clusterSize);
  await image.file.pwrite((plan.first + plan.blocks) * clusterSize, bytes);
}

/** Makes the open image work with what the header now names. */
function switchTo(image: Image, plan: Plan): void {
  const { header, geometry } = image;
  assert(!isDirty(image), "old refcounts are written");
  Object.assign(geometry, makeGeometry(header.clusterBits, header.refcountOrder, hasSubclusters(header)));
  image.refcountTable.clear();
  image.refcountBlocks.clear();
  image.metadata.removeTables("refcount block");
  image.noteRefcountTable();
  image.freeHint = 0;
  image.compressedTail = 0;
  const end = (plan.first + plan.blocks + plan.table) * geometry.clusterSize;
  image.untouchedFrom = Math.max(image.untouchedFrom, end);
}
