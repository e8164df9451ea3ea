/**
 * Compares an image's refcounts with its references, without changing anything. A count too low, or a COPIED flag that
 * lies, can destroy data; a count too high only costs space. Source: qcow2.txt, "Host cluster management".
 */
import { ImageError } from "../../../base/errors.ts";
import type { Image } from "./image.ts";
import { COPIED_HIGH, entryKind, entryOffset, Kind } from "./layout.ts";
import { loadL1Slot } from "./mapping.ts";
import { countReferences } from "./references.ts";
import { readRefcount } from "./refcount-widths.ts";
import { getRefcount, loadBlock } from "./refcounts.ts";

/** What a check found. */
export interface CheckResult {
  /** What can destroy data, in words; at most 100 of them. */
  readonly corruptions: readonly string[];
  /** Clusters that are counted but not used. */
  readonly leaks: number;
}

const MAX_WORDS = 100;

/** Checks refcounts and flags. Takes the metadata lock; the cached state must have been written back. */
export function checkImage(image: Image): Promise<CheckResult> {
  return image.locked(async () => {
    const corruptions: string[] = [];
    let leaks = 0;
    try {
      const counts = await countReferences(image);
      leaks = await compareCounts(image, counts, corruptions);
      await checkFlags(image, corruptions);
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      corruptions.push(error.message);
    }
    return { corruptions: corruptions.slice(0, MAX_WORDS), leaks };
  });
}

/** Compares all counts; returns how many are too high, and names those that are too low. */
async function compareCounts(image: Image, counts: Uint32Array, corruptions: string[]): Promise<number> {
  const { blockEntries, refcountOrder } = image.geometry;
  let leaks = 0;
  for (let first = 0; first < counts.length; first += blockEntries) {
    const block = await loadBlock(image, first / blockEntries);
    for (let cluster = first; cluster < Math.min(first + blockEntries, counts.length); cluster++) {
      const wanted = counts[cluster] ?? 0;
      const found = block ? readRefcount(block, cluster - first, refcountOrder) : 0;
      if (found < wanted) corruptions.push(`cluster ${cluster} refcount=${found} reference=${wanted}`);
      else if (found > wanted) leaks += 1;
      if (corruptions.length >= MAX_WORDS) return leaks;
    }
    image.trim();
  }
  return leaks;
}

async function checkFlags(image: Image, corruptions: string[]): Promise<void> {
  const { clusterSize, entryBytes, l2Coverage, sliceBytes } = image.geometry;
  const check = async (what: string, high: number, low: number): Promise<void> => {
    const offset = entryOffset(high, low);
    const count = await getRefcount(image, Math.floor(offset / clusterSize));
    if (offset % clusterSize !== 0) corruptions.push(`${what} ${offset} is not at a cluster's start`);
    else if ((count === 1) !== ((high & COPIED_HIGH) !== 0)) {
      corruptions.push(`COPIED flag of ${what} ${offset / clusterSize}: refcount=${count}`);
    }
  };
  for (let index = 0; index < image.header.l1Size && corruptions.length < MAX_WORDS; index++) {
    const { table, at } = await loadL1Slot(image, index * l2Coverage);
    const high = table.view.getUint32(at);
    const low = table.view.getUint32(at + 4);
    const l2Offset = entryOffset(high, low);
    if (l2Offset === 0) continue;
    await check("L2 table", high, low);
    for (let slice = 0; slice < clusterSize && !image.hasDataFile; slice += sliceBytes) {
      const { view } = await image.l2.load(l2Offset + slice);
      for (let entry = 0; entry < sliceBytes; entry += entryBytes) {
        const kind = entryKind(view.getUint32(entry), view.getUint32(entry + 4));
        if (kind !== Kind.normal && kind !== Kind.zeroAllocated) continue;
        await check("data cluster", view.getUint32(entry), view.getUint32(entry + 4));
      }
    }
    image.trim();
  }
}
