/** The bits of persistent bitmaps in a qcow2 image: a table of clusters each. Source: qcow2.txt, "Bitmap table". */
import { ImageError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { StoredBitmap } from "../../../../block/model/contract.ts";
import { BitmapFlag, type DirectoryEntry } from "../disk/bitmap-directory.ts";
import { readU64, writeU64 } from "../disk/layout.ts";
import { allocate } from "../metadata/allocate.ts";
import type { Image } from "../metadata/image.ts";

const ALL_ONES = 1;

/** Clusters of the file. */
export interface Run {
  cluster: number;
  count: number;
}

/** The clusters of so many bytes. */
export function runOf({ geometry: { clusterSize } }: Image, offset: number, bytes: number): Run {
  return { cluster: Math.floor(offset / clusterSize), count: Math.ceil(bytes / clusterSize) };
}

/** Bytes of a bitmap in memory, of a disk of that length. */
export function bitmapBytes({ granularityBits }: DirectoryEntry, diskBytes: number): number {
  return Math.ceil(Math.ceil(diskBytes / 2 ** granularityBits) / 8);
}

/** Throws ENOMEM, before anything is allocated, if the bitmaps together take more than all bitmaps may. */
export function checkTotal(entries: readonly DirectoryEntry[], diskBytes: number): void {
  const total = entries.reduce((sum, entry) => sum + bitmapBytes(entry, diskBytes), 0);
  if (total <= limits.maxBitmapPoolBytes) return;
  const message = `The bitmaps of the image take more than ${limits.maxBitmapPoolBytes} bytes of memory`;
  throw new ImageError({ structure: "bitmap directory", code: "ENOMEM", message });
}

/** What is stored of a bitmap, which was the one of a disk of `diskBytes`. Throws ImageError. */
export async function readBits(
  { file, geometry }: Image,
  entry: DirectoryEntry,
  diskBytes: number,
): Promise<Uint8Array> {
  const unreadable = `Could not read bitmap_table table from image for bitmap '${entry.name}': Invalid argument`;
  const fail = (field: string): never => {
    throw new ImageError({ structure: "bitmap table", field, message: unreadable });
  };
  const held = bitmapBytes(entry, diskBytes);
  const wanted = Math.ceil(held / geometry.clusterSize);
  if (entry.tableEntries !== wanted || held > limits.maxBitmapBytes) fail("bitmap_table_size");
  const bits = new Uint8Array(held);
  const table = new Uint8Array(wanted * 8);
  await file.pread(entry.tableOffset, table);
  const view = new DataView(table.buffer);
  for (let index = 0; index < wanted; index++) {
    const value = readU64(view, index * 8);
    const part = bits.subarray(index * geometry.clusterSize, (index + 1) * geometry.clusterSize);
    if (value === ALL_ONES) part.fill(0xff);
    else if (value % geometry.clusterSize !== 0) fail(`entry ${index}`);
    else if (value !== 0) await file.pread(value, part);
  }
  return bits;
}

/** Writes a bitmap into new clusters, which are added to `made`. Under the lock. */
export async function writeBitmap(image: Image, bitmap: StoredBitmap, made: Run[]): Promise<DirectoryEntry> {
  const { size, geometry } = image;
  const granularityBits = Math.log2(bitmap.granularity);
  const bytes = Math.ceil(Math.ceil(size / bitmap.granularity) / 8);
  const tableEntries = Math.max(1, Math.ceil(bytes / geometry.clusterSize));
  const table = new Uint8Array(tableEntries * 8);
  const view = new DataView(table.buffer);
  for (let index = 0; index < tableEntries; index++) {
    const part = bitmap.bits.subarray(index * geometry.clusterSize, (index + 1) * geometry.clusterSize);
    if (part.every((byte) => byte === 0)) continue;
    // What lies behind the last bit is 0.
    const whole = new Uint8Array(geometry.clusterSize);
    whole.set(part);
    writeU64(view, index * 8, await place(image, whole, made));
  }
  return {
    tableOffset: await place(image, table, made),
    tableEntries,
    flags: (bitmap.auto ? BitmapFlag.auto : 0) | (bitmap.inconsistent ? BitmapFlag.inUse : 0),
    granularityBits,
    name: bitmap.name,
  };
}

/** Writes bytes into new clusters, which are added to `made`; what they leave of the last one is nobody's. Under the lock. */
export async function place(image: Image, bytes: Uint8Array, made: Run[]): Promise<number> {
  const { clusterSize } = image.geometry;
  const count = Math.ceil(bytes.byteLength / clusterSize);
  const { cluster } = await allocate(image, count);
  made.push({ cluster, count });
  const offset = cluster * clusterSize;
  await image.checkOverlap(offset, count * clusterSize);
  await image.file.pwrite(offset, bytes);
  return offset;
}

/** The clusters of a bitmap. */
export async function clustersOf(image: Image, entry: DirectoryEntry): Promise<Run[]> {
  const table = new Uint8Array(entry.tableEntries * 8);
  await image.file.pread(entry.tableOffset, table);
  const view = new DataView(table.buffer);
  const runs: Run[] = [];
  for (let index = 0; index < entry.tableEntries; index++) {
    const value = readU64(view, index * 8);
    if (value !== 0 && value !== ALL_ONES) runs.push(runOf(image, value, image.geometry.clusterSize));
  }
  runs.push(runOf(image, entry.tableOffset, table.byteLength));
  return runs;
}
