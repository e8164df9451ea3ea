/**
 * Rebuilds the refcounts of an image that lazy refcounts left dirty: every count becomes what countReferences finds, and
 * the COPIED flags of the active tables follow. Runs while the image is opened for writing, before any request.
 * Source: qcow2.txt, "Header" (dirty bit).
 */
import { maxRefcount, readRefcount, refcountBytes, writeRefcount } from "./refcount-widths.ts";
import { ensureBlock } from "./allocate.ts";
import { updateHeader } from "./header-update.ts";
import type { Image } from "./image.ts";
import { COPIED_HIGH, entryKind, entryOffset, Incompatible, Kind } from "./layout.ts";
import { checkL2Offset, loadL1Slot } from "./mapping.ts";
import { countReferences } from "./references.ts";
import { getRefcount, loadBlock, peekRefcount } from "./refcounts.ts";
import { makeRoom, writeBackLocked } from "./write-back.ts";
import { ImageError } from "../../../base/errors.ts";

/** Makes refcounts and flags right and clears the dirty bit. Errors: EIO for references that can't be right. */
export function rebuildRefcounts(image: Image): Promise<void> {
  return image.locked(() => rebuildLocked(image));
}

/** The same under the lock; nothing may be cached that the file lacks. */
export async function rebuildLocked(image: Image): Promise<void> {
  const counts = await countReferences(image);
  // The counts can't be trusted yet: new refcount blocks go behind everything that exists.
  image.freeHint = counts.length;
  await createBlocks(image, counts);
  await setCounts(image, counts);
  await fixFlags(image, (cluster) => counts[cluster] ?? 0);
  await writeBackLocked(image);
  await image.file.flush();
  await updateHeader(image, (header) => {
    header.incompatible &= ~BigInt(Incompatible.dirty);
  });
  await image.file.flush();
  image.freeHint = 0;
}

async function createBlocks(image: Image, counts: Uint32Array): Promise<void> {
  const { blockEntries } = image.geometry;
  for (let first = 0; first < counts.length; first += blockEntries) {
    const used = counts.subarray(first, first + blockEntries).some((count) => count > 0);
    if (used) await ensureBlock(image, first / blockEntries);
  }
}

async function setCounts(image: Image, counts: Uint32Array): Promise<void> {
  const { blockEntries, refcountOrder } = image.geometry;
  for (let cluster = 0; cluster < counts.length; cluster++) {
    const index = cluster % blockEntries;
    if (index === 0) await makeRoom(image);
    const block = await loadBlock(image, Math.floor(cluster / blockEntries));
    if (!block) {
      cluster += blockEntries - index - 1;
      continue;
    }
    // Blocks made just now lie behind the counted part, or are counted by their own block.
    const wanted = counts[cluster] ?? 0;
    if (wanted > maxRefcount(refcountOrder)) {
      const message = `cluster ${cluster} is referenced ${wanted} times`;
      throw new ImageError({ structure: "refcount block", code: "EIO", message });
    }
    if (readRefcount(block, index, refcountOrder) === wanted) continue;
    writeRefcount(block, index, refcountOrder, wanted);
    const { from, to } = refcountBytes(index, 1, refcountOrder);
    image.refcountBlocks.markDirty(block, from, to);
  }
}

/** What is known of a cluster's refcount; a promise where it must be read. */
type RefcountOf = (cluster: number) => number | Promise<number>;

/** Makes the COPIED flags of the active tables follow the refcounts. Runs under the lock. */
export function refreshFlags(image: Image): Promise<void> {
  return fixFlags(image, (cluster) => peekRefcount(image, cluster) ?? getRefcount(image, cluster));
}

/** COPIED says that a cluster is referred to once. */
function withFlag(high: number, once: boolean): number {
  return ((high & ~COPIED_HIGH) | (once ? COPIED_HIGH : 0)) >>> 0;
}

async function fixFlags(image: Image, refcountOf: RefcountOf): Promise<void> {
  const { clusterSize, l2Coverage, sliceBytes } = image.geometry;
  for (let index = 0; index < image.header.l1Size; index++) {
    await makeRoom(image);
    const { table, at } = await loadL1Slot(image, index * l2Coverage);
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const l2Offset = entryOffset(high, low);
    if (l2Offset === 0) continue;
    await checkL2Offset(image, l2Offset, index);
    const wanted = withFlag(high, (await refcountOf(l2Offset / clusterSize)) === 1);
    if (wanted !== high) {
      table.view.setUint32(at, wanted);
      image.l1.markDirty(table, at, at + 8);
    }
    // What lies in a data file of its own has no refcounts.
    for (let slice = 0; slice < clusterSize && !image.hasDataFile; slice += sliceBytes)
      await fixSlice(image, l2Offset + slice, refcountOf);
  }
}

async function fixSlice(image: Image, offset: number, refcountOf: RefcountOf): Promise<void> {
  const { clusterSize, entryBytes } = image.geometry;
  const table = await image.l2.load(offset);
  for (let at = 0; at < table.bytes.byteLength; at += entryBytes) {
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const kind = entryKind(high, low);
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
    const known = refcountOf(Math.floor(entryOffset(high, low) / clusterSize));
    const wanted = withFlag(high, (typeof known === "number" ? known : await known) === 1);
    if (wanted === high) continue;
    table.view.setUint32(at, wanted);
    image.l2.markDirty(table, at, at + 8);
  }
}
