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
import { loadL1Slot } from "./mapping.ts";
import { countReferences } from "./references.ts";
import { loadBlock } from "./refcounts.ts";
import { makeRoom, writeBackLocked } from "./write-back.ts";
import { ImageError } from "../../../base/errors.ts";

/** Makes refcounts and flags right and clears the dirty bit. Errors: EIO for references that can't be right. */
export async function rebuildRefcounts(image: Image): Promise<void> {
  await image.locked(async () => {
    const counts = await countReferences(image);
    // The counts can't be trusted yet: new refcount blocks go behind everything that exists.
    image.freeHint = counts.length;
    await createBlocks(image, counts);
    await setCounts(image, counts);
    await fixFlags(image, counts);
    await writeBackLocked(image);
    await image.file.flush();
    await updateHeader(image, (header) => {
      header.incompatible &= ~BigInt(Incompatible.dirty);
    });
    await image.file.flush();
    image.freeHint = 0;
  });
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

/** COPIED says that a cluster is referred to once. */
async function fixFlags(image: Image, counts: Uint32Array): Promise<void> {
  const { clusterSize, l2Coverage, sliceBytes } = image.geometry;
  const flags = (high: number, low: number): number => {
    const once = counts[entryOffset(high, low) / clusterSize] === 1;
    return ((high & ~COPIED_HIGH) | (once ? COPIED_HIGH : 0)) >>> 0;
  };
  for (let index = 0; index < image.header.l1Size; index++) {
    await makeRoom(image);
    const { table, at } = await loadL1Slot(image, index * l2Coverage);
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const l2Offset = entryOffset(high, low);
    if (l2Offset === 0) continue;
    if (flags(high, low) !== high) {
      table.view.setUint32(at, flags(high, low));
      image.l1.markDirty(table, at, at + 8);
    }
    for (let slice = 0; slice < clusterSize; slice += sliceBytes)
      await fixSlice(image, l2Offset + slice, flags);
  }
}

async function fixSlice(
  image: Image,
  offset: number,
  flags: (high: number, low: number) => number,
): Promise<void> {
  const table = await image.l2.load(offset);
  for (let at = 0; at < table.bytes.byteLength; at += 8) {
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const kind = entryKind(high, low);
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
    if (flags(high, low) === high) continue;
    table.view.setUint32(at, flags(high, low));
    image.l2.markDirty(table, at, at + 8);
  }
}
