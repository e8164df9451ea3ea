/**
 * Counts how often every cluster of the file is referred to: by the header, the tables, the active mapping, snapshots and
 * bitmaps. The base of the refcount repair; read-only. Source: qcow2.txt, "General", "Snapshots", "Bitmaps".
 *
 * Work is bounded by the size of the file: a table that lies beyond its end is an error, not a reason to allocate.
 */
import { ImageError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import { blockOffsets } from "./allocate.ts";
import { Extension } from "./header-extensions.ts";
import type { Image } from "./image.ts";
import { Autoclear, compressedExtent, entryKind, entryOffset, Kind, readU64 } from "./layout.ts";

const CHUNK_BYTES = 65536;
const SNAPSHOT_HEADER_BYTES = 40;
const DIRECTORY_ENTRY_BYTES = 24;

/** References per cluster of the file. Throws ImageError for tables outside the file, EFBIG for too large a file. */
export async function countReferences(image: Image): Promise<Uint32Array> {
  const { clusterSize } = image.geometry;
  const clusters = Math.ceil(image.file.length / clusterSize);
  if (clusters > limits.qcow2MaxRepairClusters) {
    const message = `The file has more clusters than are counted at once (${limits.qcow2MaxRepairClusters})`;
    throw new ImageError({ structure: "refcounts", code: "EFBIG", message });
  }
  const walk = new Walk(image, new Uint32Array(clusters));
  await walk.all();
  return walk.counts;
}

class Walk {
  readonly #image: Image;
  readonly counts: Uint32Array;

  constructor(image: Image, counts: Uint32Array) {
    this.#image = image;
    this.counts = counts;
  }

  async all(): Promise<void> {
    const { header, geometry } = this.#image;
    this.#add("header", 0, 1);
    this.#add(
      "refcount table",
      header.refcountTableOffset,
      header.refcountTableClusters * geometry.clusterSize,
    );
    for (const offset of await blockOffsets(this.#image)) {
      if (offset !== 0) this.#add("refcount block", offset, geometry.clusterSize);
    }
    await this.#l1(header.l1Offset, header.l1Size);
    await this.#snapshots();
    await this.#bitmaps();
  }

  /** One reference for each cluster that the range touches. */
  #add(structure: string, offset: number, bytes: number): void {
    const { clusterSize } = this.#image.geometry;
    const last = Math.floor((offset + bytes - 1) / clusterSize);
    if (bytes > 0 && (last >= this.counts.length || !Number.isSafeInteger(offset))) {
      throw new ImageError({
        structure,
        field: "offset",
        code: "EIO",
        message: `${structure} lies beyond the end of the file`,
      });
    }
    for (let cluster = Math.floor(offset / clusterSize); cluster <= last; cluster++) {
      this.counts[cluster] = (this.counts[cluster] ?? 0) + 1;
    }
  }

  async #l1(offset: number, entries: number): Promise<void> {
    if (entries === 0) return;
    this.#add("L1 table", offset, entries * 8);
    const { entryBytes } = this.#image.geometry;
    await this.#table(offset, entries, async (high, low) => {
      const l2 = entryOffset(high, low);
      if (l2 === 0) return;
      this.#add("L2 table", l2, this.#image.geometry.clusterSize);
      await this.#table(l2, this.#image.geometry.l2Entries, (h, l) => this.#cluster(h, l), entryBytes);
    });
  }

  #cluster(high: number, low: number): void {
    if (this.#image.hasDataFile) return;
    const { clusterBits, clusterSize } = this.#image.geometry;
    const kind = entryKind(high, low);
    if (kind === Kind.normal || kind === Kind.zeroAllocated) {
      this.#add("data cluster", entryOffset(high, low), clusterSize);
    } else if (kind === Kind.compressed) {
      const { offset, bytes } = compressedExtent(high, low, clusterBits);
      this.#add("compressed cluster", offset, bytes);
    }
  }

  /** Calls `entry` for each entry of a table in the file. */
  async #table(
    offset: number,
    entries: number,
    entry: (high: number, low: number) => Promise<void> | void,
    entryBytes = 8,
  ): Promise<void> {
    const bytes = new Uint8Array(Math.min(CHUNK_BYTES, entries * entryBytes));
    const view = new DataView(bytes.buffer);
    for (let done = 0; done < entries * entryBytes; done += bytes.byteLength) {
      const part = Math.min(bytes.byteLength, entries * entryBytes - done);
      await this.#image.file.pread(offset + done, bytes.subarray(0, part));
      for (let at = 0; at < part; at += entryBytes) {
        const waiting = entry(view.getUint32(at), view.getUint32(at + 4));
        if (waiting) await waiting;
      }
    }
  }

  async #snapshots(): Promise<void> {
    const { header } = this.#image;
    let at = header.snapshotsOffset;
    const bytes = new Uint8Array(SNAPSHOT_HEADER_BYTES);
    const view = new DataView(bytes.buffer);
    for (let index = 0; index < header.snapshotCount; index++) {
      await this.#image.file.pread(at, bytes);
      const l1Entries = view.getUint32(8);
      if (l1Entries * 8 > limits.qcow2MaxL1Bytes) {
        throw new ImageError({
          structure: "snapshot table",
          field: "l1_size",
          message: "Snapshot L1 table too large",
        });
      }
      await this.#l1(readU64(view, 0), l1Entries);
      const total = SNAPSHOT_HEADER_BYTES + view.getUint32(36) + view.getUint16(12) + view.getUint16(14);
      at += Math.ceil(total / 8) * 8;
      if (at - header.snapshotsOffset > this.#image.file.length) break;
    }
    if (header.snapshotCount > 0)
      this.#add("snapshot table", header.snapshotsOffset, at - header.snapshotsOffset);
  }

  async #bitmaps(): Promise<void> {
    const { header } = this.#image;
    const extension = header.extensions.find(({ type }) => type === Extension.bitmaps);
    if (!extension || extension.data.byteLength < 24 || !(header.autoclear & BigInt(Autoclear.bitmaps)))
      return;
    const { data } = extension;
    const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
    const bytes = readU64(view, 8);
    const offset = readU64(view, 16);
    this.#add("bitmap directory", offset, bytes);
    const directory = new Uint8Array(bytes);
    await this.#image.file.pread(offset, directory);
    const entries = new DataView(directory.buffer);
    for (let at = 0; at + DIRECTORY_ENTRY_BYTES <= bytes;) {
      const table = readU64(entries, at);
      const size = entries.getUint32(at + 8);
      this.#add("bitmap table", table, size * 8);
      await this.#table(table, size, (high, low) => {
        const cluster = entryOffset(high, low);
        if (cluster !== 0) this.#add("bitmap data", cluster, this.#image.geometry.clusterSize);
      });
      const length = DIRECTORY_ENTRY_BYTES + entries.getUint16(at + 18) + entries.getUint32(at + 20);
      at += Math.ceil(length / 8) * 8;
    }
  }
}
