/**
 * What a snapshot adds to refcounts: every L1 table holds one reference on each of its L2 tables and, through them, on
 * every cluster that they map. Runs under the metadata lock, on tables that the file holds as they are.
 * Source: qcow2.txt, "Snapshots", "Host cluster management".
 */
import { blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import { ImageError } from "../../../../base/errors.ts";
import { free } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";
import { compressedExtent, COPIED_HIGH, entryKind, entryOffset, Kind } from "../disk/layout.ts";
import { checkL2Offset } from "../metadata/mapping.ts";
import type { CachedTable } from "../metadata/metadata-cache.ts";
import { addRefcounts } from "../metadata/refcounts.ts";
import { makeRoom } from "../metadata/write-back.ts";

/** An L1 table in the file. */
export interface L1Table {
  readonly offset: number;
  readonly entries: number;
}

interface Run {
  cluster: number;
  count: number;
}

const CHUNK_BYTES = 65536;

/** Throws in QEMU's words unless the table of a snapshot lies where tables may lie. */
export function checkSnapshotL1(image: Image, { offset, entries }: L1Table): void {
  const fail = (message: string, code: "EINVAL" | "EFBIG"): never => {
    throw new ImageError({ structure: "snapshot table", field: "l1_table_offset", message, code });
  };
  const bytes = entries * 8;
  if (bytes > limits.qcow2MaxL1Bytes) fail("Snapshot L1 table too large", "EFBIG");
  const inRange = offset + bytes <= limits.maxImageBytes;
  if (offset % image.geometry.clusterSize !== 0 || !inRange)
    fail("Snapshot L1 table offset invalid", "EINVAL");
}

/** The entries of an L1 table, as bytes. */
export async function readL1(image: Image, { offset, entries }: L1Table): Promise<Uint8Array> {
  const bytes = new Uint8Array(entries * 8);
  for (let at = 0; at < bytes.byteLength; at += CHUNK_BYTES) {
    await image.file.pread(offset + at, bytes.subarray(at, Math.min(at + CHUNK_BYTES, bytes.byteLength)));
  }
  return bytes;
}

/** Calls `body` for each L2 table that the L1 table (its bytes) names. Errors: EIO for one that is not on a cluster. */
export async function forEachL2(
  image: Image,
  l1: Uint8Array,
  body: (l2Offset: number, index: number) => Promise<void>,
): Promise<void> {
  const view = new DataView(l1.buffer, l1.byteOffset, l1.byteLength);
  for (let at = 0; at < l1.byteLength; at += 8) {
    const l2Offset = entryOffset(view.getUint32(at), view.getUint32(at + 4));
    if (l2Offset === 0) continue;
    await checkL2Offset(image, l2Offset, at / 8);
    await makeRoom(image);
    await body(l2Offset, at / 8);
  }
}

/** The slices of an L2 table, one after the other. */
async function forEachSlice(
  image: Image,
  l2Offset: number,
  body: (slice: CachedTable) => Promise<void>,
): Promise<void> {
  const { clusterSize, sliceBytes } = image.geometry;
  for (let at = 0; at < clusterSize; at += sliceBytes) await body(await image.l2.load(l2Offset + at));
}

/** The clusters that a slice refers to, neighbours joined; a compressed cluster counts once per cluster that it touches. */
function referencedRuns(image: Image, slice: CachedTable): Run[] {
  const { clusterBits, clusterSize, entryBytes } = image.geometry;
  const runs: Run[] = [];
  for (let at = 0; at < slice.bytes.byteLength; at += entryBytes) {
    const high = slice.view.getUint32(at);
    const low = slice.view.getUint32(at + 4);
    const kind = entryKind(high, low);
    if (kind === Kind.compressed) {
      const { offset, bytes } = compressedExtent(high, low, clusterBits);
      const first = Math.floor(offset / clusterSize);
      runs.push({ cluster: first, count: Math.floor((offset + bytes - 1) / clusterSize) - first + 1 });
    } else if (kind === Kind.normal || kind === Kind.zeroAllocated) {
      const offset = entryOffset(high, low);
      if (offset % clusterSize !== 0)
        throw blockError("EIO", "snapshot", "a data cluster is not on a cluster");
      const cluster = offset / clusterSize;
      const last = runs.at(-1);
      if (last && last.cluster + last.count === cluster) last.count += 1;
      else runs.push({ cluster, count: 1 });
    }
  }
  return runs;
}

/** The COPIED flags of shared clusters go: whoever writes to them next must take a copy. */
function clearCopied(image: Image, slice: CachedTable): void {
  const { entryBytes } = image.geometry;
  let from = -1;
  let to = 0;
  for (let at = 0; at < slice.bytes.byteLength; at += entryBytes) {
    const high = slice.view.getUint32(at);
    if ((high & COPIED_HIGH) === 0 || entryKind(high, slice.view.getUint32(at + 4)) === Kind.compressed)
      continue;
    slice.view.setUint32(at, high & ~COPIED_HIGH & 0x7fffffff);
    if (from < 0) from = at;
    to = at + 8;
  }
  if (from >= 0) image.l2.markDirty(slice, from, to);
}

/** Calls `body` for everything that `l1` reaches, in an order that does not change, and `leave` after each slice. */
async function forEachReference(
  image: Image,
  l1: Uint8Array,
  { body, leave }: { body: (run: Run) => Promise<void>; leave?: (slice: CachedTable) => void },
): Promise<void> {
  await forEachL2(image, l1, async (l2Offset) => {
    await body({ cluster: l2Offset / image.geometry.clusterSize, count: 1 });
    await forEachSlice(image, l2Offset, async (slice) => {
      for (const run of referencedRuns(image, slice)) await body(run);
      leave?.(slice);
    });
  });
}

/**
 * One reference more on everything that `l1` reaches. Errors: EINVAL where a refcount would not fit its width, EFBIG and
 * EAGAIN for what nothing counts; what was added until then is taken back.
 */
export async function addReferences(image: Image, l1: Uint8Array): Promise<void> {
  let added = 0;
  try {
    await forEachReference(image, l1, {
      body: async (run) => {
        await addRefcounts(image, run, 1);
        added += 1;
      },
      leave: (slice) => clearCopied(image, slice),
    });
  } catch (error) {
    // What can't be taken back leaks.
    if (!image.dead) await removeReferences(image, l1, added).catch(() => undefined);
    throw error;
  }
}

/** Takes the first `count` references that addReferences() added back at once: nothing in the file holds them. */
export async function removeReferences(image: Image, l1: Uint8Array, count = Infinity): Promise<void> {
  let left = count;
  const done = new Error("all are taken back");
  try {
    await forEachReference(image, l1, {
      body: async (run) => {
        if (left-- <= 0) throw done;
        await addRefcounts(image, run, -1);
      },
    });
  } catch (error) {
    if (error !== done) throw error;
  }
}

/** One reference less on everything that `l1` reaches, from the next write-back on. */
export function dropReferences(image: Image, l1: Uint8Array): Promise<void> {
  return forEachL2(image, l1, async (l2Offset) => {
    await forEachSlice(image, l2Offset, (slice) => {
      for (const run of referencedRuns(image, slice)) free(image, run, "snapshot");
      return Promise.resolve();
    });
    free(image, { cluster: l2Offset / image.geometry.clusterSize, count: 1 }, "snapshot");
  });
}
