/**
 * The first half of a check: counts how often each cluster of the file is referred to, in QEMU's order and words, and
 * notes what is wrong with the references themselves. Tables that lie outside of the file read as zeroes.
 *
 * Invariants: writes only what `fix` asks for, and never over other metadata. Work is bounded by `limits`: counters by the
 * clusters of the file, reading by a budget that grows with the file. Source: qcow2.txt; behaviour of QEMU 7.2's check.
 */
import { BlockError, ImageError, errnoOf } from "../../../../base/errors.ts";
import { strerror } from "../../../../base/errno.ts";
import { limits } from "../../../../base/limits.ts";
import { type Inspected, LAST_OFFSET, type Walk } from "./inspected.ts";
import { countBitmaps } from "./bitmaps.ts";
import { countPlain } from "./plain.ts";
import { forEachEntry, hex } from "./tables.ts";
import {
  compressedExtent,
  entryKind,
  entryOffset,
  Incompatible,
  Kind,
  readU64,
  maxRefcount,
} from "../disk/layout.ts";

/** What must be 0 in an L1 entry, and in an L2 entry of a cluster that is not compressed: high and low word. */
const L1_RESERVED = [0x7f000000, 0x1ff] as const;
const L2_RESERVED = [0x3f000000, 0x1fe] as const;
/** Bits of a refcount table entry that are no offset. */
const TABLE_RESERVED = 0x1ff;
const ENCRYPTION_EXTENSION = 0x0537be77;
const COUNTER_MAX = 2 ** 32 - 1;
const AMEND_HINT =
  "Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing";

/** Counts references. One of these is one pass over the image. */
export class ReferenceWalk implements Walk {
  readonly image: Inspected;
  readonly clusterSize: number;
  readonly entryBytes: number;
  readonly #hasDataFile: boolean;
  readonly #countMax: number;
  /** References per cluster; may be longer than `clusters`. */
  counts: Uint32Array;
  /** Clusters that count: those of the file, and one that a reference at its end begins. */
  clusters: number;
  /** The refcount structures can't be mended in place. */
  rebuild = false;
  #nextContiguous = 0;
  #budget: number;

  constructor(image: Inspected) {
    const { header, file } = image;
    this.image = image;
    this.clusterSize = 2 ** header.clusterBits;
    const bits = Number(header.incompatible);
    this.entryBytes = bits & Incompatible.extendedL2 ? 16 : 8;
    this.#hasDataFile = (bits & Incompatible.dataFile) !== 0;
    this.#countMax = Math.min(COUNTER_MAX, maxRefcount(header.refcountOrder));
    this.clusters = Math.ceil(file.length / this.clusterSize);
    this.#budget = limits.qcow2CheckReadBytes + limits.qcow2CheckReadFactor * file.length;
    if (this.clusters > limits.qcow2MaxRepairClusters) {
      const message = `The file has more clusters than are counted at once (${limits.qcow2MaxRepairClusters})`;
      throw new ImageError({ structure: "refcounts", code: "EFBIG", op: "check", message });
    }
    this.counts = new Uint32Array(this.clusters);
  }

  /** Counts everything that refers to clusters. Throws the file's errors, EINVAL for directories that make no sense. */
  async all(): Promise<void> {
    const { header, result, snapshots } = this.image;
    this.add(0, this.clusterSize);
    result.allocatedClusters = 0;
    result.fragmentedClusters = 0;
    result.compressedClusters = 0;
    await this.l1(header.l1Offset, header.l1Size, true);
    await snapshots.count(this);
    this.add(header.refcountTableOffset, header.refcountTableClusters * this.clusterSize);
    this.#encryption();
    await countBitmaps(this);
    await this.#refcountBlocks();
  }

  /** One more problem that can destroy data. */
  corruption(words: string): void {
    this.image.say(words);
    this.image.result.corruptions += 1;
  }

  /** Takes from the budget of bytes that may be read. Throws EFBIG when it is used up. */
  spend(bytes: number): void {
    this.image.signal?.throwIfAborted();
    this.#budget -= bytes;
    if (this.#budget >= 0) return;
    const message = "The tables of the image refer to each other too often to be checked";
    throw new ImageError({ structure: "tables", code: "EFBIG", op: "check", message });
  }

  /** One more reference for each cluster of the range; false: it leaves the file, which is an error of the image. */
  add(offset: number, bytes: number, words?: string): boolean {
    if (bytes <= 0) return true;
    if (offset + bytes - this.image.file.length >= this.clusterSize) {
      const place = words ?? `offset 0x${hexOf(offset)} size 0x${bytes.toString(16)}`;
      this.corruption(
        `ERROR: counting reference for region exceeding the end of the file by one cluster or more: ${place}`,
      );
      return false;
    }
    const last = Math.floor((offset + bytes - 1) / this.clusterSize);
    if (last >= this.clusters) this.grow(last + 1);
    for (let cluster = Math.floor(offset / this.clusterSize); cluster <= last; cluster++) {
      const count = this.counts[cluster] ?? 0;
      if (count < this.#countMax) this.counts[cluster] = count + 1;
      else {
        this.corruption(`ERROR: overflow cluster offset=0x${hexOf(cluster * this.clusterSize)}`);
        this.image.say(AMEND_HINT);
      }
    }
    return true;
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

  /** Counts an L1 table and what it refers to; the active one's clusters are counted by kind, too. */
  async l1(offset: number, entries: number, active: boolean): Promise<void> {
    if (entries === 0) return;
    this.add(offset, entries * 8);
    if (offset > LAST_OFFSET) {
      this.image.say("ERROR: I/O error in check_refcounts_l1");
      this.image.result.checkErrors += 1;
      throw new BlockError({ code: "EIO", op: "check" });
    }
    await forEachEntry(this, { offset, entries }, async (high, low) => {
      if (high & L1_RESERVED[0] || low & L1_RESERVED[1])
        this.corruption(`ERROR found L1 entry with reserved bits set: ${hex(high, low)}`);
      const l2 = entryOffset(high, low);
      this.add(l2, this.clusterSize);
      if (l2 % this.clusterSize !== 0)
        this.corruption(`ERROR l2_offset=${hexOf(l2)}: Table is not cluster aligned; L1 entry corrupted`);
      await this.#l2(l2, active);
    });
  }

  async #l2(offset: number, active: boolean): Promise<void> {
    const { file } = this.image;
    this.#nextContiguous = 0;
    if (offset >= file.length) return;
    this.spend(this.clusterSize);
    const bytes = new Uint8Array(this.clusterSize);
    const view = new DataView(bytes.buffer);
    await file.pread(offset, bytes);
    for (let at = 0; at < bytes.byteLength; at += this.entryBytes) {
      at = this.#plain(view, at, active);
      if (at === bytes.byteLength) return;
      if (this.#cluster(view, at, active)) await this.#zero(view, at, { l2: offset, active });
    }
  }

  /** Counts the entries with which nothing is wrong from `at` on, where they are all alike; answers where the next one lies. */
  #plain(view: DataView, at: number, active: boolean): number {
    if (this.entryBytes !== 8 || this.#hasDataFile) return at;
    const { counts, clusterSize, clusters } = this;
    const { result, file, header } = this.image;
    const end = Math.min(clusters, Math.ceil(file.length / clusterSize));
    const next = this.#nextContiguous / clusterSize;
    const bounds = { counts, end, most: this.#countMax, clusterBits: header.clusterBits };
    const tally = { ...bounds, normal: 0, compressed: 0, apart: 0, next };
    const stopped = countPlain(view, at, tally);
    if (!active) return stopped;
    this.#nextContiguous = tally.next * clusterSize;
    result.allocatedClusters += tally.normal + tally.compressed;
    result.compressedClusters += tally.compressed;
    // Compressed ones are by their nature.
    result.fragmentedClusters += tally.apart + tally.compressed;
    return stopped;
  }

  /** Counts one cluster; true: its entry is to be mended by making it read as zeroes without a cluster. */
  #cluster(view: DataView, at: number, active: boolean): boolean {
    const high = view.getUint32(at);
    const low = view.getUint32(at + 4);
    const extended = this.entryBytes > 8;
    const zero = extended ? view.getUint32(at + 8) : 0;
    const allocated = extended ? view.getUint32(at + 12) : 0;
    if ((high | low | allocated) === 0) return false;
    const kind = entryKind(high, extended ? low & ~1 : low, this.#hasDataFile);
    if (kind === Kind.compressed) {
      this.#compressed(high, low, { active, index: at / this.entryBytes, bitmap: zero | allocated });
      return false;
    }
    if (high & L2_RESERVED[0] || low & L2_RESERVED[1])
      this.corruption(`ERROR found l2 entry with reserved bits set: ${hex(high, low)}`);
    if (kind === Kind.unallocated && allocated !== 0)
      this.corruption("ERROR: Unallocated cluster has non-zero subcluster allocation map");
    if (kind !== Kind.normal && kind !== Kind.zeroAllocated) return false;
    const offset = entryOffset(high, low);
    const contradicts = "Allocated cluster has corrupted subcluster allocation bitmap";
    if ((zero & allocated) !== 0) this.corruption(`ERROR offset=${hexOf(offset)}: ${contradicts}`);
    const holds = extended ? allocated !== 0 : kind === Kind.normal;
    if (offset % this.clusterSize !== 0 && this.#unaligned(offset, holds)) return true;
    this.#allocated(offset, active);
    return false;
  }

  #allocated(offset: number, active: boolean): void {
    const { result } = this.image;
    if (active) {
      result.allocatedClusters += 1;
      if (this.#nextContiguous > 0 && offset !== this.#nextContiguous) result.fragmentedClusters += 1;
      this.#nextContiguous = offset + this.clusterSize;
    }
    if (!this.#hasDataFile) this.add(offset, this.clusterSize);
  }

  #compressed(
    high: number,
    low: number,
    { active, index, bitmap }: { active: boolean; index: number; bitmap: number },
  ): void {
    const { result, header } = this.image;
    const plain = high & 0x7fffffff;
    if (high & 0x80000000) {
      const mask = (1n << BigInt(62 - (header.clusterBits - 8))) - 1n;
      const place = (((BigInt(plain) << 32n) | BigInt(low)) & mask).toString(16);
      this.corruption(`ERROR: coffset=0x${place}: copied flag must never be set for compressed clusters`);
    }
    if (this.#hasDataFile || bitmap !== 0) {
      const what = this.#hasDataFile ? "data file" : "non-zero subcluster allocation bitmap";
      this.corruption(`ERROR compressed cluster ${index} with ${what}, entry=0x${hex(plain, low)}`);
      return;
    }
    const { offset, bytes, words } = compressedPlace(plain, low, header.clusterBits);
    this.add(offset, bytes, words);
    if (!active) return;
    result.allocatedClusters += 1;
    result.compressedClusters += 1;
    // By their nature.
    result.fragmentedClusters += 1;
  }

  /** A cluster that starts anywhere; true: nothing is lost by dropping it, and that is asked for. */
  #unaligned(offset: number, holds: boolean): boolean {
    const { errors } = this.image.fix;
    const place = `offset=${hexOf(offset)}`;
    const words = "is not properly aligned; L2 entry corrupted.";
    if (holds) {
      this.corruption(`ERROR ${place}: Data cluster ${words}`);
      return false;
    }
    this.corruption(`${errors ? "Repairing" : "ERROR"} ${place}: Preallocated cluster ${words}`);
    return errors;
  }

  /** Makes an L2 entry say: zeroes, no cluster; with subclusters, those that held something read as zeroes. */
  async #zero(view: DataView, at: number, { l2, active }: { l2: number; active: boolean }): Promise<void> {
    const { file, result, metadata, say } = this.image;
    const entry = new Uint8Array(this.entryBytes);
    if (this.entryBytes === 8) entry[7] = 1;
    else new DataView(entry.buffer).setUint32(8, (view.getUint32(at + 8) | view.getUint32(at + 12)) >>> 0);
    if (metadata.overlap(l2 + at, entry.byteLength, active ? "active L2 table" : undefined)) {
      say("ERROR: Overlap check failed");
      result.checkErrors += 1;
      return;
    }
    await file.pwrite(l2 + at, entry);
    result.corruptions -= 1;
    result.corruptionsFixed += 1;
  }

  #encryption(): void {
    const extension = this.image.header.extensions.find(({ type }) => type === ENCRYPTION_EXTENSION);
    if (!extension || extension.data.byteLength < 16) return;
    const view = new DataView(extension.data.buffer, extension.data.byteOffset, 16);
    this.add(readU64(view, 0), readU64(view, 8));
  }

  async #refcountBlocks(): Promise<void> {
    const { header, result, say } = this.image;
    const entries = (header.refcountTableClusters * this.clusterSize) / 8;
    await forEachEntry(this, { offset: header.refcountTableOffset, entries }, async (high, low, index) => {
      const problem = await this.#block(high, low);
      if (problem === undefined) return;
      const { what, words, mended, rebuild, after } = problem;
      say(`${mended ? "Repairing" : "ERROR"} ${what ?? "refcount block"} ${index} ${words}`);
      for (const line of after ?? []) say(line);
      result[mended === "done" ? "corruptionsFixed" : "corruptions"] += 1;
      if (rebuild) this.rebuild = true;
    });
  }

  /** Counts a refcount block; says what is wrong with it. */
  async #block(high: number, low: number): Promise<BlockProblem | undefined> {
    if (low & TABLE_RESERVED)
      return { what: "refcount table entry", words: "has reserved bits set", rebuild: true };
    const offset = high * 2 ** 32 + low;
    if (offset % this.clusterSize !== 0)
      return { words: "is not cluster aligned; refcount table entry corrupted", rebuild: true };
    const cluster = offset / this.clusterSize;
    if (cluster >= this.clusters) return this.#outside(offset);
    this.add(offset, this.clusterSize);
    const count = this.counts[cluster] ?? 0;
    return count === 1 ? undefined : { words: `refcount=${count}`, rebuild: true };
  }

  /** A refcount block behind the end of the file: with repair, the file grows to it, if that is bearable. */
  async #outside(offset: number): Promise<BlockProblem> {
    const { fix, file } = this.image;
    const words = "is outside image";
    if (!fix.errors) return { words };
    const end = offset + this.clusterSize;
    try {
      if (offset > 2 ** 63 - this.clusterSize) throw new BlockError({ code: "EINVAL", op: "check" });
      if (end / this.clusterSize > limits.qcow2MaxRepairClusters)
        throw new BlockError({ code: "EFBIG", op: "check" });
      await file.truncate(end, { exact: false, preallocation: "off" });
    } catch (error) {
      const why = strerror(errnoOf(error));
      const after = [
        ...(errnoOf(error) === "EINVAL" ? [] : [`Could not resize file: ${why}`]),
        `ERROR could not resize image: ${why}`,
      ];
      return { words, rebuild: true, mended: "tried", after };
    }
    this.grow(Math.ceil(file.length / this.clusterSize));
    this.add(offset, this.clusterSize);
    return { words, mended: "done" };
  }
}

interface BlockProblem {
  readonly what?: string;
  readonly words: string;
  readonly rebuild?: boolean;
  readonly mended?: "done" | "tried";
  readonly after?: readonly string[];
}

/** Where a compressed cluster lies; the words say it exactly where numbers would round. */
function compressedPlace(
  high: number,
  low: number,
  clusterBits: number,
): { offset: number; bytes: number; words?: string } {
  const highBits = 62 - (clusterBits - 8) - 32;
  // What is exact as a number is most of them.
  if ((high & (2 ** highBits - 1)) < 2 ** 21) return compressedExtent(high, low, clusterBits);
  const shift = BigInt(highBits + 32);
  const place = ((BigInt(high) << 32n) | BigInt(low)) & ((1n << shift) - 1n);
  const sectors = ((BigInt(high & 0x3fffffff) << 32n) | BigInt(low)) >> shift;
  const bytes = (sectors + 1n) * 512n - (place & 511n);
  const words = `offset 0x${place.toString(16)} size 0x${bytes.toString(16)}`;
  return { offset: Number(place), bytes: Number(bytes), words };
}

/** An offset in hexadecimal, exact. */
export function hexOf(offset: number): string {
  return BigInt(offset).toString(16);
}
