/**
 * The first half of a check: counts how often each cluster of the file is referred to, in QEMU's order and words, and
 * notes what is wrong with the references themselves. Reads the file only; tables that lie outside of it are named and not
 * followed. Source: qcow2.txt; behaviour of QEMU 7.2's check.
 */
import { ImageError } from "../../../base/errors.ts";
import { limits } from "../../../base/limits.ts";
import type { ImageCheck } from "../../../block/driver.ts";
import type { Child } from "../../../block/child.ts";
import { directoryPlace, parseDirectory } from "./bitmap-directory.ts";
import type { Header } from "./header.ts";
import {
  Autoclear,
  compressedExtent,
  entryKind,
  entryOffset,
  Incompatible,
  Kind,
  readU64,
} from "./layout.ts";

/** What must be 0 in an L1 entry, and in an L2 entry of a cluster that is not compressed: high and low word. */
const L1_RESERVED = [0x7f000000, 0x1ff] as const;
const L2_RESERVED = [0x3f000000, 0x1fe] as const;
const TABLE_CHUNK = 65536;
const ENCRYPTION_EXTENSION = 0x0537be77;
const SNAPSHOT_ENTRY_BYTES = 40;

/** The image as a check sees it. */
export interface Inspected {
  readonly file: Child;
  readonly header: Header;
  readonly result: ImageCheck;
  /** Problems in words. */
  readonly say: (text: string) => void;
  readonly fix: { readonly leaks: boolean; readonly errors: boolean };
  readonly signal: AbortSignal | undefined;
}

/** 16 hexadecimal digits at most, as QEMU prints table entries. */
export function hex(high: number, low: number): string {
  return (BigInt(high >>> 0) * 2n ** 32n + BigInt(low >>> 0)).toString(16);
}

/** Counts references. One of these is one pass over the image. */
export class ReferenceWalk {
  readonly #image: Inspected;
  readonly clusterSize: number;
  readonly entryBytes: number;
  readonly #hasDataFile: boolean;
  /** References per cluster; may be longer than `clusters`. */
  counts: Uint32Array;
  /** Clusters that count: those of the file, and one that a reference at its end begins. */
  clusters: number;
  /** The refcount structures can't be mended in place. */
  rebuild = false;
  #nextContiguous = 0;

  constructor(image: Inspected) {
    const { header, file } = image;
    this.#image = image;
    this.clusterSize = 2 ** header.clusterBits;
    const bits = Number(header.incompatible);
    this.entryBytes = bits & Incompatible.extendedL2 ? 16 : 8;
    this.#hasDataFile = (bits & Incompatible.dataFile) !== 0;
    this.clusters = Math.ceil(file.length / this.clusterSize);
    if (this.clusters > limits.qcow2MaxRepairClusters) {
      const message = `The file has more clusters than are counted at once (${limits.qcow2MaxRepairClusters})`;
      throw new ImageError({ structure: "refcounts", code: "EFBIG", message });
    }
    this.counts = new Uint32Array(this.clusters);
  }

  /** Counts everything that refers to clusters. Throws the file's errors, ImageError for directories that make no sense. */
  async all(): Promise<void> {
    const { header, result } = this.#image;
    this.add(0, this.clusterSize);
    result.allocatedClusters = 0;
    result.fragmentedClusters = 0;
    result.compressedClusters = 0;
    await this.#l1(header.l1Offset, header.l1Size, true);
    await this.#snapshots();
    this.add(header.refcountTableOffset, header.refcountTableClusters * this.clusterSize);
    this.#encryption();
    await this.#bitmaps();
    await this.#refcountBlocks();
  }

  /** One more reference for each cluster of the range; a range that leaves the file is an error of the image. */
  add(offset: number, bytes: number): void {
    const { file, result, say } = this.#image;
    if (bytes <= 0) return;
    if (!Number.isSafeInteger(offset) || offset + bytes - file.length >= this.clusterSize) {
      const place = `offset 0x${offset.toString(16)} size 0x${bytes.toString(16)}`;
      say(
        `ERROR: counting reference for region exceeding the end of the file by one cluster or more: ${place}`,
      );
      result.corruptions += 1;
      return;
    }
    const last = Math.floor((offset + bytes - 1) / this.clusterSize);
    if (last >= this.clusters) this.grow(last + 1);
    for (let cluster = Math.floor(offset / this.clusterSize); cluster <= last; cluster++)
      this.counts[cluster] = (this.counts[cluster] ?? 0) + 1;
  }

  /** Counts `clusters` clusters from now on. */
  grow(clusters: number): void {
    if (clusters > this.counts.length) {
      const larger = new Uint32Array(Math.max(clusters, Math.ceil(this.counts.length * 1.25)));
      larger.set(this.counts);
      this.counts = larger;
    }
    this.clusters = Math.max(this.clusters, clusters);
  }

  async #l1(offset: number, entries: number, active: boolean): Promise<void> {
    if (entries === 0) return;
    this.add(offset, entries * 8);
    const { result, say, signal } = this.#image;
    await this.#table(offset, entries, async (high, low) => {
      if (high === 0 && low === 0) return;
      signal?.throwIfAborted();
      if (high & L1_RESERVED[0] || low & L1_RESERVED[1]) {
        say(`ERROR found L1 entry with reserved bits set: ${hex(high, low)}`);
        result.corruptions += 1;
      }
      const l2 = entryOffset(high, low);
      this.add(l2, this.clusterSize);
      if (l2 % this.clusterSize !== 0) {
        say(`ERROR l2_offset=${l2.toString(16)}: Table is not cluster aligned; L1 entry corrupted`);
        result.corruptions += 1;
      }
      await this.#l2(l2, active);
    });
  }

  async #l2(offset: number, active: boolean): Promise<void> {
    const { file } = this.#image;
    if (offset >= file.length) return;
    const bytes = new Uint8Array(this.clusterSize);
    const view = new DataView(bytes.buffer);
    await file.pread(offset, bytes);
    this.#nextContiguous = 0;
    for (let at = 0; at < bytes.byteLength; at += this.entryBytes) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if ((high | low) === 0) continue;
      if (this.#cluster(high, low, active)) await this.#zero(offset + at);
    }
  }

  /** Counts one cluster; true: its entry is to be mended by making it read as zeroes without a cluster. */
  #cluster(high: number, low: number, active: boolean): boolean {
    const { result, say } = this.#image;
    const kind = entryKind(high, low);
    if (kind === Kind.compressed) {
      this.#compressed(high, low, active);
      return false;
    }
    if (high & L2_RESERVED[0] || low & L2_RESERVED[1]) {
      say(`ERROR found l2 entry with reserved bits set: ${hex(high, low)}`);
      result.corruptions += 1;
    }
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) return false;
    const offset = entryOffset(high, low);
    if (offset % this.clusterSize !== 0 && this.#unaligned(offset, kind)) return true;
    if (active) {
      result.allocatedClusters += 1;
      if (this.#nextContiguous > 0 && offset !== this.#nextContiguous) result.fragmentedClusters += 1;
      this.#nextContiguous = offset + this.clusterSize;
    }
    if (!this.#hasDataFile) this.add(offset, this.clusterSize);
    return false;
  }

  #compressed(high: number, low: number, active: boolean): void {
    const { result, say, header } = this.#image;
    const { offset, bytes } = compressedExtent(high & 0x7fffffff, low, header.clusterBits);
    if (high & 0x80000000) {
      const place = `coffset=0x${offset.toString(16)}`;
      say(`ERROR: ${place}: copied flag must never be set for compressed clusters`);
      result.corruptions += 1;
    }
    this.add(offset, bytes);
    if (!active) return;
    result.allocatedClusters += 1;
    result.compressedClusters += 1;
    // By their nature.
    result.fragmentedClusters += 1;
  }

  /** A cluster that starts anywhere; true: nothing is lost by dropping it, and that is asked for. */
  #unaligned(offset: number, kind: Kind): boolean {
    const { result, say, fix } = this.#image;
    const place = `offset=${offset.toString(16)}`;
    const words = "is not properly aligned; L2 entry corrupted.";
    result.corruptions += 1;
    if (kind !== Kind.zeroAllocated) {
      say(`ERROR ${place}: Data cluster ${words}`);
      return false;
    }
    say(`${fix.errors ? "Repairing" : "ERROR"} ${place}: Preallocated cluster ${words}`);
    return fix.errors;
  }

  /** Makes an L2 entry say: zeroes, no cluster. */
  async #zero(at: number): Promise<void> {
    const { file, result } = this.#image;
    const entry = new Uint8Array(8);
    entry[7] = 1;
    await file.pwrite(at, entry);
    result.corruptions -= 1;
    result.corruptionsFixed += 1;
  }

  async #table(
    offset: number,
    entries: number,
    entry: (high: number, low: number) => Promise<void>,
  ): Promise<void> {
    const bytes = new Uint8Array(Math.min(TABLE_CHUNK, entries * 8));
    const view = new DataView(bytes.buffer);
    const { file } = this.#image;
    const within = Math.min(entries * 8, Math.max(0, file.length - offset));
    for (let done = 0; done < within; done += bytes.byteLength) {
      const part = Math.min(bytes.byteLength, entries * 8 - done);
      await file.pread(offset + done, bytes.subarray(0, part));
      for (let at = 0; at < part; at += 8) {
        const high = view.getUint32(at);
        const low = view.getUint32(at + 4);
        if ((high | low) !== 0) await entry(high, low);
      }
    }
  }

  async #snapshots(): Promise<void> {
    const { header, file, result, say } = this.#image;
    const bytes = new Uint8Array(SNAPSHOT_ENTRY_BYTES);
    const view = new DataView(bytes.buffer);
    let at = header.snapshotsOffset;
    for (let index = 0; index < header.snapshotCount; index++) {
      await file.pread(at, bytes);
      const offset = readU64(view, 0);
      const entries = view.getUint32(8);
      const extra = view.getUint32(36);
      const idAt = at + SNAPSHOT_ENTRY_BYTES + extra;
      const lengths = { id: view.getUint16(12), name: view.getUint16(14) };
      at += Math.ceil((SNAPSHOT_ENTRY_BYTES + extra + lengths.id + lengths.name) / 8) * 8;
      if (at > file.length) throw damaged("snapshot table", "the snapshot table leaves the file");
      const bad = offset % this.clusterSize !== 0 ? "L1 table is not cluster aligned" : tooLarge(entries);
      if (bad === undefined) {
        await this.#l1(offset, entries, false);
        continue;
      }
      const names = new Uint8Array(lengths.id + lengths.name);
      await file.pread(idAt, names);
      const [id, name] = [names.subarray(0, lengths.id), names.subarray(lengths.id)].map(decode);
      const shown = bad === "too large" ? "L1 table is too large" : `l1_offset=${hexOf(offset)}: ${bad}`;
      say(`ERROR snapshot ${id} (${name}) ${shown}; snapshot table entry corrupted`);
      result.corruptions += 1;
    }
    if (header.snapshotCount > 0) this.add(header.snapshotsOffset, at - header.snapshotsOffset);
  }

  #encryption(): void {
    const extension = this.#image.header.extensions.find(({ type }) => type === ENCRYPTION_EXTENSION);
    if (!extension || extension.data.byteLength < 16) return;
    const view = new DataView(extension.data.buffer, extension.data.byteOffset, 16);
    this.add(readU64(view, 0), readU64(view, 8));
  }

  async #bitmaps(): Promise<void> {
    const { header, file } = this.#image;
    if (!(Number(header.autoclear) & Autoclear.bitmaps)) return;
    const place = directoryPlace(header);
    if (!place) return;
    this.add(place.offset, place.bytes);
    const directory = new Uint8Array(place.bytes);
    await file.pread(place.offset, directory);
    for (const { tableOffset, tableEntries } of parseDirectory(directory, place.count)) {
      this.add(tableOffset, tableEntries * 8);
      await this.#table(tableOffset, tableEntries, (high, low) => {
        const offset = entryOffset(high, low);
        if (offset !== 0) this.add(offset, this.clusterSize);
        return Promise.resolve();
      });
    }
  }

  async #refcountBlocks(): Promise<void> {
    const { header, result, say } = this.#image;
    const entries = (header.refcountTableClusters * this.clusterSize) / 8;
    let index = -1;
    const bytes = new Uint8Array(Math.min(TABLE_CHUNK, entries * 8));
    const view = new DataView(bytes.buffer);
    for (let done = 0; done < entries * 8; done += bytes.byteLength) {
      await this.#image.file.pread(header.refcountTableOffset + done, bytes);
      for (let at = 0; at < bytes.byteLength; at += 8) {
        index += 1;
        const offset = readU64(view, at);
        if (offset === 0) continue;
        const problem = await this.#block(offset);
        if (problem === undefined) continue;
        say(`${problem.mended ? "Repairing" : "ERROR"} refcount block ${index} ${problem.words}`);
        result[problem.mended ? "corruptionsFixed" : "corruptions"] += 1;
        if (problem.rebuild) this.rebuild = true;
      }
    }
  }

  /** Counts a refcount block; says what is wrong with it. */
  async #block(offset: number): Promise<{ words: string; rebuild?: boolean; mended?: boolean } | undefined> {
    if (offset % this.clusterSize !== 0)
      return { words: "is not cluster aligned; refcount table entry corrupted", rebuild: true };
    const cluster = offset / this.clusterSize;
    if (cluster >= this.clusters) return this.#outside(offset);
    this.add(offset, this.clusterSize);
    const count = this.counts[cluster] ?? 0;
    return count === 1 ? undefined : { words: `refcount=${count}`, rebuild: true };
  }

  /** A refcount block behind the end of the file: with repair, the file grows to it, if that is bearable. */
  async #outside(offset: number): Promise<{ words: string; rebuild?: boolean; mended?: boolean }> {
    const { fix, file } = this.#image;
    const words = "is outside image";
    if (!fix.errors) return { words };
    const end = offset + this.clusterSize;
    if (end / this.clusterSize > limits.qcow2MaxRepairClusters) return { words, rebuild: true };
    await file.truncate(end, { exact: false, preallocation: "off" });
    this.add(offset, this.clusterSize);
    return { words, mended: true };
  }
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function hexOf(offset: number): string {
  return offset.toString(16);
}

function tooLarge(entries: number): string | undefined {
  return entries * 8 > limits.qcow2MaxL1Bytes ? "too large" : undefined;
}

function damaged(structure: string, message: string): ImageError {
  return new ImageError({ structure, message });
}
