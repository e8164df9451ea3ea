/**
 * Persistent dirty bitmaps in a qcow2 image. While the image is open for writing its bitmaps are marked in use, so that a
 * crash leaves them inconsistent rather than wrong; closing writes them anew. Source: qcow2.txt, "Bitmaps".
 *
 * Order of a save: data, tables and directory, then (all durable) the header with its autoclear bit off, the header with
 * the new place, and at last the bit. The old clusters are freed after that.
 */
import { encodeName } from "../../../../base/names.ts";
import { CommandError } from "../../../../base/errors.ts";
import { ImageError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";
import type { BitmapStore, StoredBitmap } from "../../../../block/model/contract.ts";
import { allocate, free } from "../metadata/allocate.ts";
import { writeHeader } from "../metadata/header-update.ts";
import {
  BitmapFlag,
  type DirectoryEntry,
  directoryPlace,
  parseDirectory,
  serializeDirectory,
  setDirectoryPlace,
  type DirectoryPlace,
} from "../disk/bitmap-directory.ts";
import { updateHeader } from "../metadata/header-update.ts";
import type { Image } from "../metadata/image.ts";
import { Autoclear, readU64, writeU64 } from "../disk/layout.ts";
import { writeBackLocked } from "../metadata/write-back.ts";

const AUTOCLEAR_BITMAPS = BigInt(Autoclear.bitmaps);
const ALL_ONES = 1;

interface Run {
  cluster: number;
  count: number;
}

/** The bitmap directory of one open image. */
export class Qcow2Bitmaps implements BitmapStore {
  readonly #image: Image;
  #entries: DirectoryEntry[] = [];

  constructor(image: Image) {
    this.#image = image;
  }

  /** What info shows, wire names. */
  info(): { name: string; granularity: number; flags: string[] }[] {
    return this.#entries.map(({ name, granularityBits, flags }) => ({
      name,
      granularity: 2 ** granularityBits,
      flags: [...(flags & BitmapFlag.inUse ? ["in-use"] : []), ...(flags & BitmapFlag.auto ? ["auto"] : [])],
    }));
  }

  canStore(name: string): void {
    const refuse = (why: string): never => {
      throw new CommandError(`Can't make bitmap '${name}' persistent in '${this.#image.node.name}': ${why}`);
    };
    if (this.#image.header.version < 3) refuse("Cannot store dirty bitmaps in qcow2 v2 files");
    if (encodeName(name).byteLength > limits.maxBitmapNameBytes)
      refuse(`Name length exceeds maximum (${limits.maxBitmapNameBytes} characters)`);
    if (this.#entries.length >= limits.qcow2MaxBitmaps)
      refuse("Maximum number of persistent bitmaps is already reached");
  }

  /** Reads all bitmaps and changes nothing. Who writes to the image marks them in use before. */
  async load(): Promise<StoredBitmap[]> {
    const image = this.#image;
    const place = this.#trusted() ? directoryPlace(image.header) : undefined;
    if (!place) return [];
    this.#note(place);
    const bytes = new Uint8Array(place.bytes);
    await image.file.pread(place.offset, bytes);
    const { clusterSize } = image.geometry;
    this.#entries = parseDirectory(bytes, { count: place.count, clusterSize, diskBytes: image.size });
    checkTotal(this.#entries, image.size);
    const loaded: StoredBitmap[] = [];
    for (const entry of this.#entries) loaded.push(await this.#loadOne(entry));
    return loaded;
  }

  /** Without its autoclear bit the directory is older than the data. */
  #trusted(): boolean {
    return (this.#image.header.autoclear & AUTOCLEAR_BITMAPS) !== 0n;
  }

  /** The image is about to be written to: a crash from now on leaves the bitmaps inconsistent. */
  async markInUse(): Promise<void> {
    const image = this.#image;
    const place = this.#trusted() ? directoryPlace(image.header) : undefined;
    if (!place || this.#entries.length === 0) return;
    for (const entry of this.#entries) entry.flags |= BitmapFlag.inUse;
    await image.file.pwrite(place.offset, serializeDirectory(this.#entries));
    await image.file.flush();
  }

  async #loadOne(entry: DirectoryEntry): Promise<StoredBitmap> {
    const stored = {
      name: entry.name,
      granularity: 2 ** entry.granularityBits,
      auto: (entry.flags & BitmapFlag.auto) !== 0,
    };
    if (entry.flags & BitmapFlag.inUse) return { ...stored, inconsistent: true, bits: new Uint8Array(0) };
    return { ...stored, inconsistent: false, bits: await this.#readBits(entry) };
  }

  async #readBits(entry: DirectoryEntry): Promise<Uint8Array> {
    const { file, size, geometry } = this.#image;
    const unreadable = `Could not read bitmap_table table from image for bitmap '${entry.name}': Invalid argument`;
    const fail = (field: string): never => {
      throw new ImageError({ structure: "bitmap table", field, message: unreadable });
    };
    const held = bitmapBytes(entry, size);
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

  /** Writes the bitmaps and forgets the ones that are in the file. */
  async save(bitmaps: readonly StoredBitmap[]): Promise<void> {
    const image = this.#image;
    if (bitmaps.length === 0 && this.#entries.length === 0) return;
    await image.locked(async () => {
      const old = await this.#oldClusters();
      const entries: DirectoryEntry[] = [];
      for (const bitmap of bitmaps) entries.push(await this.#writeOne(bitmap));
      const directory = serializeDirectory(entries);
      const offset = directory.byteLength === 0 ? 0 : await this.#place(directory);
      await writeBackLocked(image);
      await image.file.flush();
      await this.#switch(
        directory.byteLength === 0
          ? undefined
          : { count: entries.length, bytes: directory.byteLength, offset },
      );
      this.#entries = entries;
      for (const run of old) free(image, run, "other");
      await writeBackLocked(image);
    });
  }

  async #switch(place: DirectoryPlace | undefined): Promise<void> {
    const image = this.#image;
    await updateHeader(image, (header) => {
      header.autoclear &= ~AUTOCLEAR_BITMAPS;
    });
    await image.file.flush();
    setDirectoryPlace(image.header, place);
    this.#note(place);
    await writeHeader(image);
    await image.file.flush();
    if (!place) return;
    await updateHeader(image, (header) => {
      header.autoclear |= AUTOCLEAR_BITMAPS;
    });
    await image.file.flush();
  }

  /** No other write may land on the directory. */
  #note(place: DirectoryPlace | undefined): void {
    const { metadata } = this.#image;
    metadata.removeRanges("bitmap directory");
    if (place) metadata.addRange("bitmap directory", place.offset, place.bytes);
  }

  async #writeOne(bitmap: StoredBitmap): Promise<DirectoryEntry> {
    const { size, geometry } = this.#image;
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
      writeU64(view, index * 8, await this.#place(whole));
    }
    return {
      tableOffset: await this.#place(table),
      tableEntries,
      flags: (bitmap.auto ? BitmapFlag.auto : 0) | (bitmap.inconsistent ? BitmapFlag.inUse : 0),
      granularityBits,
      name: bitmap.name,
    };
  }

  /** Writes bytes into new clusters; what they leave of the last one is nobody's. */
  async #place(bytes: Uint8Array): Promise<number> {
    const { clusterSize } = this.#image.geometry;
    const count = Math.ceil(bytes.byteLength / clusterSize);
    const { cluster } = await allocate(this.#image, count);
    const offset = cluster * clusterSize;
    await this.#image.checkOverlap(offset, count * clusterSize);
    await this.#image.file.pwrite(offset, bytes);
    return offset;
  }

  /** The clusters of what is in the file now. */
  async #oldClusters(): Promise<Run[]> {
    const { header, file, geometry } = this.#image;
    const { clusterSize } = geometry;
    const place = this.#trusted() ? directoryPlace(header) : undefined;
    if (!place) return [];
    const run = (offset: number, bytes: number): Run => ({
      cluster: Math.floor(offset / clusterSize),
      count: Math.ceil(bytes / clusterSize),
    });
    const runs = [run(place.offset, place.bytes)];
    for (const entry of this.#entries) {
      const table = new Uint8Array(entry.tableEntries * 8);
      await file.pread(entry.tableOffset, table);
      const view = new DataView(table.buffer);
      for (let index = 0; index < entry.tableEntries; index++) {
        const value = readU64(view, index * 8);
        if (value !== 0 && value !== ALL_ONES) runs.push(run(value, clusterSize));
      }
      runs.push(run(entry.tableOffset, table.byteLength));
    }
    return runs;
  }
}

/** Bytes of a bitmap in memory. */
function bitmapBytes({ granularityBits }: DirectoryEntry, diskBytes: number): number {
  return Math.ceil(Math.ceil(diskBytes / 2 ** granularityBits) / 8);
}

/** Throws ENOMEM, before anything is allocated, if the bitmaps together take more than all bitmaps may. */
function checkTotal(entries: readonly DirectoryEntry[], diskBytes: number): void {
  const total = entries.reduce((sum, entry) => sum + bitmapBytes(entry, diskBytes), 0);
  if (total <= limits.maxBitmapPoolBytes) return;
  const message = `The bitmaps of the image take more than ${limits.maxBitmapPoolBytes} bytes of memory`;
  throw new ImageError({ structure: "bitmap directory", code: "ENOMEM", message });
}
