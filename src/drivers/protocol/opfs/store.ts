/**
 * The cluster store: a disk in two files with synchronous calls. The data file holds clusters in the order in which they
 * were first written, the map file says which is which; so a disk takes the room of what was written to it.
 *
 * Invariants: what a map entry refers to is durable before the entry is written; a slot whose entry is not durable is
 * lost by a crash, and its cluster reads as zeroes or as before. A request that fails for lack of space changes no map;
 * what was accepted can be made durable without more space.
 * Everything here is synchronous, so no two requests overlap; it knows no browser and is tested by power cuts in Node.
 */
import { assert } from "../../../base/assert.ts";
import { BlockError, ImageError, blockError } from "../../../base/errors.ts";
import type { PrivateDirectory, SyncFile } from "../../../base/host.ts";
import { limits } from "../../../base/limits.ts";
import { isPowerOfTwo } from "../../../base/ranges.ts";
import { ClusterIndex } from "./cluster-index.ts";
import { MapFile, type StoreHeader } from "./map-file.ts";
import { Slots } from "./slots.ts";
import { readWhole, writeWhole } from "./sync-io.ts";

/** Default bytes of a cluster. */
export const STORE_CLUSTER_BYTES = 65_536;
const MIN_CLUSTER_BITS = 12;
const MAX_CLUSTER_BITS = 21;
/** Clusters that a map entry can name. */
const MAX_CLUSTERS = 2 ** 32 - 2;

/** A part of a request within one cluster. */
interface Part {
  cluster: number;
  /** Offset in the cluster. */
  start: number;
  /** The part of the request's buffer. */
  from: number;
  to: number;
}

/** An open store. */
export class ClusterStore {
  #map: MapFile;
  #data: SyncFile;
  readonly #clusterBytes: number;
  readonly #index = new ClusterIndex();
  readonly #slots = new Slots();
  #header: StoreHeader;
  #headerChanged = false;
  #dataChanged = false;
  /** Slots that were written to since the data file's last flush that succeeded. */
  readonly #unflushed = new Set<number>();
  #flushFailed = false;
  /** Beyond it the data file reads as zeroes, since nothing was ever written there. */
  #dataEnd: number;
  /** As far as the data file is known to reach. */
  #written: number;

  private constructor(map: MapFile, data: SyncFile, header: StoreHeader) {
    this.#map = map;
    this.#data = data;
    this.#header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#dataEnd = data.size();
    this.#written = this.#dataEnd;
  }

  /** Makes an empty store of `size` bytes in an empty directory. EINVAL for a bad size of clusters, EFBIG. */
  static async create(
    directory: PrivateDirectory,
    { size, clusterBytes, salt }: { size: number; clusterBytes: number; salt: number },
  ): Promise<void> {
    const clusterBits = Math.log2(clusterBytes);
    if (!isPowerOfTwo(clusterBytes) || clusterBits < MIN_CLUSTER_BITS || clusterBits > MAX_CLUSTER_BITS)
      throw blockError("EINVAL", "create", "Cluster size must be a power of two between 4k and 2048k");
    checkSize(size, clusterBytes, "create");
    const data = await directory.file("data");
    data.close();
    const file = await directory.file("map");
    try {
      new MapFile(file, salt).writeHeader({ clusterBits, size, generation: 0, salt });
      file.flush();
    } finally {
      file.close();
    }
  }

  /** Opens a store; with `write` it also cuts off what a crash left behind. ImageError where there is none. */
  static async open(directory: PrivateDirectory, { write }: { write: boolean }): Promise<ClusterStore> {
    const mapFile = await directory.file("map");
    let data: SyncFile | undefined;
    try {
      const header = MapFile.readHeader(mapFile);
      checkHeader(header);
      data = await directory.file("data");
      const store = new ClusterStore(new MapFile(mapFile, header.salt), data, header);
      store.#load(write);
      return store;
    } catch (error) {
      data?.close();
      mapFile.close();
      throw error;
    }
  }

  /** Bytes of the disk. */
  get size(): number {
    return this.#header.size;
  }

  get clusterBytes(): number {
    return this.#clusterBytes;
  }

  /** Bytes that both files take. */
  get storedBytes(): number {
    return this.#data.size() + this.#map.size();
  }

  /** Whether something would be lost by a crash. */
  get hasChanges(): boolean {
    return this.#dataChanged || this.#headerChanged || this.#slots.hasChanges;
  }

  /** Fills `buffer` from `offset`. */
  read(offset: number, buffer: Uint8Array): void {
    const size = this.#clusterBytes;
    for (let done = 0; done < buffer.byteLength;) {
      const at = offset + done;
      const cluster = Math.floor(at / size);
      const start = at - cluster * size;
      const slot = this.#index.get(cluster);
      let end = done + size - start;
      if (slot < 0) {
        buffer.fill(0, done, end);
      } else {
        // Clusters that lie together are read together.
        for (let next = 1; end < buffer.byteLength && this.#index.get(cluster + next) === slot + next; next++)
          end += size;
        const whole = done === 0 && end >= buffer.byteLength;
        const range = { offset: slot * size + start, least: 0 };
        range.least =
          Math.min(end, buffer.byteLength, done + Math.max(0, this.#written - range.offset)) - done;
        readWhole(this.#data, whole ? buffer : buffer.subarray(done, end), range);
      }
      done = end;
    }
  }

  /** Writes `buffer` at `offset`, and extends the disk as needed. ENOSPC, EFBIG. Not durable before commit(). */
  write(offset: number, buffer: Uint8Array): void {
    const end = offset + buffer.byteLength;
    checkSize(end, this.#clusterBytes, "pwrite");
    const parts = this.#parts(offset, buffer.byteLength);
    const taken = new Map<number, number>();
    try {
      for (const part of parts)
        if (this.#index.get(part.cluster) < 0) taken.set(part.cluster, this.#prepareSlot(part));
      this.#map.reserve(this.#slots.count);
      this.#writeRuns(parts, buffer, taken);
    } catch (error) {
      for (const slot of [...taken.values()].toReversed()) this.#slots.unused(slot);
      throw error;
    }
    for (const [cluster, slot] of taken) {
      this.#index.set(cluster, slot);
      this.#slots.own(slot, cluster);
    }
    this.#dataChanged = true;
    if (end > this.#header.size) this.#resize(end);
  }

  /** Makes the range read as zeroes; whole clusters are given back if `free`. It may lie beyond the end, which it moves. */
  zero(offset: number, bytes: number, { free }: { free: boolean }): void {
    checkSize(offset + bytes, this.#clusterBytes, "pwriteZeroes");
    const size = this.#clusterBytes;
    const first = Math.floor(offset / size);
    for (const cluster of this.#index.heldWithin(first, Math.ceil((offset + bytes) / size))) {
      const start = Math.max(offset - cluster * size, 0);
      const end = Math.min(offset + bytes - cluster * size, size);
      // What lies beyond the end of the disk is zero, so the last cluster counts as whole.
      const whole = start === 0 && (end === size || cluster * size + end >= this.#header.size);
      if (whole && free) {
        this.#slots.release(this.#index.get(cluster));
        this.#index.delete(cluster);
      } else {
        this.#writeData(this.#index.get(cluster) * size + start, new Uint8Array(end - start));
        this.#dataChanged = true;
      }
    }
    if (offset + bytes > this.#header.size) this.#resize(offset + bytes);
  }

  /** Whether the data at `offset` is held, and how far (at most `bytes`) that goes. */
  status(offset: number, bytes: number): { held: boolean; bytes: number } {
    const size = this.#clusterBytes;
    const cluster = Math.floor(offset / size);
    const run = this.#index.runLength(cluster, Math.ceil((offset + bytes) / size) - cluster);
    return { held: this.#index.get(cluster) >= 0, bytes: Math.min((cluster + run) * size - offset, bytes) };
  }

  /** Sets the length. What is cut off is gone: it reads as zeroes if the disk grows again. */
  truncate(size: number): void {
    checkSize(size, this.#clusterBytes, "truncate");
    if (size < this.#header.size) this.zero(size, this.#header.size - size, { free: true });
    if (size !== this.#header.size) this.#resize(size);
  }

  /**
   * Makes all that was done durable: the data first, then the map. Gives freed room at the end of the data file back. Once a flush
   * of the files has failed it fails until recover().
   */
  commit(): void {
    this.#flushData();
    if (!this.#headerChanged && !this.#slots.hasChanges) return;
    for (const { first, count } of this.#slots.changedRuns())
      this.#map.writeEntries(first, count, (slot) => this.#slots.ownerOf(slot));
    if (this.#headerChanged) {
      const next = { ...this.#header, generation: (this.#header.generation + 1) % 2 ** 32 };
      this.#map.writeHeader(next);
      this.#header = next;
    }
    this.#flush(this.#map);
    this.#headerChanged = false;
    this.#slots.committed();
    this.#trim();
  }

  /**
   * After a failed flush opens both files of `directory` anew, writes what came since the last good one again, as far as the
   * browser still has it, and commits. False: none had failed. Nothing else may be asked meanwhile.
   */
  async recover(directory: PrivateDirectory): Promise<boolean> {
    if (!this.#flushFailed) return false;
    this.close();
    this.#data = await directory.file("data");
    this.#map = new MapFile(await directory.file("map"), this.#header.salt);
    for (const slot of this.#unflushed) this.#rewrite(slot);
    this.#dataChanged = true;
    // The map's entries are still to be written, since no flush has covered them; the header is, too.
    this.#headerChanged = true;
    this.commit();
    this.#flushFailed = false;
    return true;
  }

  /** Closes both files; what was not committed may be lost. */
  close(): void {
    this.#data.close();
    this.#map.close();
  }

  #load(write: boolean): void {
    const clusters = Math.ceil(this.#header.size / this.#clusterBytes);
    const stale: number[] = [];
    this.#map.readEntries((slot, cluster) => {
      this.#slots.load(slot, cluster);
      // Two entries of one cluster, or one beyond the end: a crash cut the change short that the other belongs to.
      if (cluster >= clusters || this.#index.get(cluster) >= 0) stale.push(slot);
      else this.#index.set(cluster, slot);
    });
    this.#slots.loaded();
    for (const slot of stale) this.#slots.release(slot);
    if (!write) return;
    if (stale.length > 0) this.commit();
    this.#trim();
  }

  #flushData(): void {
    if (this.#dataChanged) this.#flush(this.#data);
    this.#dataChanged = false;
    this.#unflushed.clear();
  }

  #flush(file: { flush(): void }): void {
    try {
      file.flush();
    } catch (error) {
      this.#flushFailed = true;
      throw error;
    }
  }

  #rewrite(slot: number): void {
    const offset = slot * this.#clusterBytes;
    const content = new Uint8Array(Math.max(0, Math.min(this.#clusterBytes, this.#dataEnd - offset)));
    const least = Math.max(0, Math.min(content.byteLength, this.#written - offset));
    readWhole(this.#data, content, { offset, least });
    writeWhole(this.#data, content, offset);
  }

  #resize(size: number): void {
    assert(size >= 0 && size !== this.#header.size, "another size");
    this.#header = { ...this.#header, size };
    this.#headerChanged = true;
  }

  #trim(): void {
    const end = this.#slots.count * this.#clusterBytes;
    if (this.#dataEnd <= end) return;
    this.#written = Math.min(this.#written, end);
    this.#data.truncate(end);
    this.#dataEnd = end;
  }

  #parts(offset: number, bytes: number): Part[] {
    const parts: Part[] = [];
    for (let done = 0; done < bytes;) {
      const cluster = Math.floor((offset + done) / this.#clusterBytes);
      const start = offset + done - cluster * this.#clusterBytes;
      const to = Math.min(bytes, done + this.#clusterBytes - start);
      assert(to > done, "parts within their whole");
      parts.push({ cluster, start, from: done, to });
      done = to;
    }
    return parts;
  }

  /** A slot for a new cluster, of which what `part` does not cover reads as zeroes. */
  #prepareSlot({ start, from, to }: Part): number {
    const slot = this.#slots.take();
    const at = slot * this.#clusterBytes;
    const whole = start === 0 && to - from === this.#clusterBytes;
    try {
      // A slot that was used before holds old data.
      if (!whole && at < this.#dataEnd) this.#writeData(at, new Uint8Array(this.#clusterBytes));
    } catch (error) {
      this.#slots.unused(slot);
      throw error;
    }
    return slot;
  }

  #writeRuns(parts: readonly Part[], buffer: Uint8Array, taken: ReadonlyMap<number, number>): void {
    const slotOf = ({ cluster }: Part): number => taken.get(cluster) ?? this.#index.get(cluster);
    for (let i = 0; i < parts.length;) {
      const first = parts[i]!;
      const slot = slotOf(first);
      assert(slot >= 0, "a cluster has a slot");
      let next = i + 1;
      while (next < parts.length && slotOf(parts[next]!) === slot + (next - i)) next += 1;
      const run = buffer.subarray(first.from, parts[next - 1]!.to);
      this.#writeData(slot * this.#clusterBytes + first.start, run);
      i = next;
    }
  }

  #writeData(at: number, bytes: Uint8Array): void {
    // Also a write that fails may have left something there.
    this.#dataEnd = Math.max(this.#dataEnd, at + bytes.byteLength);
    const end = Math.ceil((at + bytes.byteLength) / this.#clusterBytes);
    for (let slot = Math.floor(at / this.#clusterBytes); slot < end; slot++) this.#unflushed.add(slot);
    writeWhole(this.#data, bytes, at);
    this.#written = Math.max(this.#written, at + bytes.byteLength);
  }
}

function checkSize(size: number, clusterBytes: number, op: string): void {
  if (size <= limits.maxImageBytes && Math.ceil(size / clusterBytes) <= MAX_CLUSTERS) return;
  throw new BlockError({ code: "EFBIG", op });
}

function checkHeader({ clusterBits, size }: StoreHeader): void {
  const legal =
    clusterBits >= MIN_CLUSTER_BITS && clusterBits <= MAX_CLUSTER_BITS && Number.isSafeInteger(size);
  if (!legal) throw new ImageError({ structure: "store header", message: "The store's header is damaged" });
  checkSize(size, 2 ** clusterBits, "open");
}
