/**
 * The state of one open qcow2 image that all parts of the driver share: header, sizes, the four metadata caches, the
 * metadata lock, and the one place that declares an image corrupt.
 *
 * Invariants: metadata changes only under `lock`; no guest data is read or written while it is held, save for the flushes
 * of an ordered write-back. Nothing is written to the file once `dead` is set. What a read under way may still look at is not
 * handed out again, and waiting for the reads that have begun never waits for newcomers.
 */
import { type Answer, andThen, isPromise } from "../../../../base/answer.ts";
import { assert } from "../../../../base/assert.ts";
import { BlockError } from "../../../../base/errors.ts";
import type { Host } from "../../../../base/host.ts";
import { Mutex, Wakeup } from "../../../../base/signals.ts";
import type { AmendContext, Edge, NodeView, RequestFlags } from "../../../../block/model/contract.ts";
import { hasSubclusters, type Header, virtualSize } from "../disk/header.ts";
import { RangeLock } from "../../../../base/ranges.ts";
import {
  Compatible,
  entryOffset,
  type Geometry,
  Incompatible,
  l1EntriesFor,
  makeGeometry,
  readU64,
} from "../disk/layout.ts";
import { type CachedTable, MetadataCache } from "./metadata-cache.ts";
import type { FreeReason, Qcow2Options } from "./options.ts";
import { MetadataMap, type Section } from "./overlap.ts";

/**
 * Reads under way, so that a freed cluster is handed out again only after the reads that may still look at it. Reads come
 * in two generations: waiting for the older one never waits for newcomers.
 */
export class Readers {
  #generation = 0;
  readonly #counts = [0, 0];
  readonly #drained = new Wakeup();

  /** Notes a read; give the result to `end`. */
  begin(): number {
    const generation = this.#generation;
    this.#counts[generation] = (this.#counts[generation] ?? 0) + 1;
    return generation;
  }

  end(generation: number): void {
    const left = (this.#counts[generation] ?? 0) - 1;
    assert(left >= 0, "more reads ended than began");
    this.#counts[generation] = left;
    if (left === 0) this.#drained.wake();
  }

  /** Resolves when every read that had begun before is over. One caller at a time (it holds the metadata lock). */
  async settle(): Promise<void> {
    const old = this.#generation;
    await this.#drained.until(() => this.#counts[1 - old] === 0);
    this.#generation = 1 - old;
    await this.#drained.until(() => this.#counts[old] === 0);
  }
}

/** Clusters whose last reference was removed in memory; they count as used until that is durable. */
export interface FreedRun {
  readonly cluster: number;
  readonly count: number;
  readonly reason: FreeReason;
}

/** Repairs open images, which not every bundle can. */
export interface ImageRepair {
  /** Makes refcounts and flags right. Called under the metadata lock with nothing cached that the file lacks. */
  repair(image: Image): Promise<void>;
}

/** Where a run of data lies: on the disk and in the file, bytes. */
export interface DataPlace {
  readonly guest: number;
  readonly host: number;
}

/** The encryption of an open image. Its data path throws EPERM where the image was opened to be described only. */
export interface ImageEncryption {
  readonly format: "aes" | "luks";
  /** Reads what lies in the file at `place` as the guest sees it. */
  read(image: Image, place: DataPlace, how: { buffer: Uint8Array; flags: RequestFlags }): Answer<void>;
  /** Writes the guest's data to `place`; the caller's bytes stay as they are. */
  write(image: Image, place: DataPlace, data: Uint8Array): Answer<void>;
  /** What queries say of it. */
  info(): Record<string, unknown>;
  /** Changes key slots; absent where there are none. */
  amend?(options: Readonly<Record<string, unknown>>, context: AmendContext): Promise<void>;
}

/** What an image is made of. */
export interface ImageInit {
  readonly node: NodeView;
  readonly file: Edge;
  /** Where the data lies, if not in `file`. */
  readonly dataFile?: Edge | undefined;
  readonly host: Host;
  readonly header: Header;
  readonly options: Qcow2Options;
  readonly tools?: ImageRepair | undefined;
}

/** Bytes of the L1 and refcount table that are read at a time. */
const TOP_TABLE_BYTES = 65536;
/** The same for an L1 table that is no longer than this when it is opened: each layer of a long chain has one. */
const SMALL_TABLE_BYTES = 4096;
const MIN_TABLES = 4;

/** An open image. */
export class Image {
  readonly node: NodeView;
  readonly file: Edge;
  readonly hasDataFile: boolean;
  readonly #data: Edge | undefined;
  readonly host: Host;
  readonly header: Header;
  options!: Qcow2Options;
  readonly geometry: Geometry;
  /** Virtual size, bytes. */
  size: number;
  /** Absent: data is stored as it is. */
  encryption: ImageEncryption | undefined;
  /** What compressed clusters are written by; undefined: QEMU's own level. */
  compressionLevel: number | undefined;
  /** Of an encrypted image: clusters were mapped when it was opened. */
  hadMapping = false;
  readonly l1: MetadataCache;
  readonly l2: MetadataCache;
  readonly refcountTable: MetadataCache;
  readonly refcountBlocks: MetadataCache;
  readonly mutex = new Mutex();
  readonly claims = new RangeLock();
  readonly readers = new Readers();
  readonly metadata: MetadataMap;
  /** Where the search for free clusters starts, a cluster index. */
  freeHint = 0;
  /** Everything from this file offset on has never been written and reads as zeroes. */
  untouchedFrom: number;
  /** Where in the first cluster the header's room ends, bytes. */
  headerEnd: number;
  freed: FreedRun[] = [];
  freedClusters = 0;
  /** Runs that were freed for good since the image was opened. */
  freedRuns = 0;
  /** L2 entries in the cache point to clusters whose data or refcounts may not be durable yet. */
  barrierBeforeL2 = false;
  /** Buffers of a cluster's length for compressed streams, that nobody uses. */
  readonly spareInputs: Uint8Array[] = [];
  /** Where the next compressed cluster may go: the next free byte of a partly filled cluster; 0 = none. */
  compressedTail = 0;
  /** Whether blockStatus should ask the file for holes; found out once. */
  preallocated: boolean | undefined;
  /** The dirty bit is set because the image is in use, and for no other reason. */
  markedInUse = false;
  /** The image turned out corrupt while it was written to: nothing more is done with it. */
  dead = false;
  /** The file says that the image is corrupt: whoever comes now is too late. */
  #retired = false;
  /** What it is made over is to be noted with the next write-back, whether anything else is written or not. */
  madeOverDue = false;
  readonly #tools: ImageRepair | undefined;
  #reportedCorruption = false;
  /** The end of the L1 table of a snapshot that is shown instead of the disk. */
  #shownL1End: number | undefined;

  constructor({ node, file, dataFile, host, header, options, tools }: ImageInit) {
    this.#tools = tools;
    this.node = node;
    this.file = file;
    this.hasDataFile = (Number(header.incompatible) & Incompatible.dataFile) !== 0;
    this.#data = this.hasDataFile ? dataFile : file;
    this.host = host;
    this.header = header;
    this.geometry = makeGeometry(header.clusterBits, header.refcountOrder, hasSubclusters(header));
    this.size = virtualSize(header);
    this.headerEnd = this.geometry.clusterSize;
    this.untouchedFrom = Math.ceil(file.length / this.geometry.clusterSize) * this.geometry.clusterSize;
    this.metadata = new MetadataMap(this.geometry.clusterSize);
    const { sliceBytes, clusterSize } = this.geometry;
    this.l1 = this.#topTable(
      "active L1 table",
      () => this.#shownL1End ?? header.l1Offset + header.l1Size * 8,
    );
    this.refcountTable = this.#topTable(
      "refcount table",
      () => header.refcountTableOffset + header.refcountTableClusters * clusterSize,
    );
    this.l2 = this.#cache("active L2 table", sliceBytes);
    this.refcountBlocks = this.#cache("refcount block", clusterSize);
    this.useOptions(options);
    this.#noteTables();
  }

  /**
   * Where clusters of guest data lie: `file`, or the external data file, in which they lie at their guest offset. EACCES where
   * that was not opened, because the image was opened to be described.
   */
  get data(): Edge {
    if (this.#data) return this.#data;
    const message = "the image was opened for its metadata only, without its data file";
    throw new BlockError({ code: "EACCES", op: "open", node: this.node.name, message });
  }

  /** Whether guest data is at hand. */
  get hasData(): boolean {
    return this.#data !== undefined;
  }

  /** Whether the dirty bit is to be set while the image is in use: only where a repair is at hand. */
  get keepsLazyRefcounts(): boolean {
    const { version, compatible } = this.header;
    const lazy = this.options.lazyRefcounts ?? (Number(compatible) & Compatible.lazyRefcounts) !== 0;
    return lazy && version >= 3 && this.#tools !== undefined;
  }

  /** Puts options in force. */
  useOptions(options: Qcow2Options): void {
    this.options = options;
    this.metadata.checks = () => options.overlapCheck;
    for (const [cache, bytes] of [
      [this.l2, options.l2CacheBytes],
      [this.refcountBlocks, options.refcountCacheBytes],
    ] as const)
      cache.maxTables = Math.max(MIN_TABLES, Math.ceil(bytes / cache.tableBytes));
  }

  /** Whether it can be repaired, and its snapshots and bitmaps kept. */
  get hasTools(): boolean {
    return this.#tools !== undefined;
  }

  /** Throws ENOTSUP in a bundle without it. */
  tools(): ImageRepair {
    if (!this.#tools) throw new BlockError({ code: "ENOTSUP", op: "check", node: this.node.name });
    return this.#tools;
  }

  /** Runs `body` under the metadata lock; at once, if nobody holds it. */
  locked<T>(body: () => Answer<T>): Answer<T> {
    const unlock = this.mutex.tryLock();
    return unlock
      ? this.#holding(unlock, body)
      : this.mutex.lock().then((later) => this.#holding(later, body));
  }

  #holding<T>(unlock: () => void, body: () => Answer<T>): Answer<T> {
    let answer: Answer<T>;
    try {
      this.checkAlive(true);
      answer = body();
    } catch (error) {
      this.#letGo(unlock);
      throw error;
    }
    if (isPromise(answer)) return answer.finally(() => this.#letGo(unlock));
    this.#letGo(unlock);
    return answer;
  }

  #letGo(unlock: () => void): void {
    this.trim();
    unlock();
  }

  /** Drops clean metadata above the bounds; the caller holds the lock or nobody does. */
  trim(): void {
    this.l2.trim();
    this.refcountBlocks.trim();
  }

  /** Throws once the image was found corrupt by a write: ENOMEDIUM, and EIO for requests (`begun`) that this overtook. */
  checkAlive(begun = false): void {
    if (!this.dead) return;
    const code = begun || !this.#retired ? "EIO" : "ENOMEDIUM";
    throw new BlockError({ code, op: "qcow2", node: this.node.name });
  }

  /** Tells blkdebug below; await what comes back. */
  event(name: string): Promise<void> | undefined {
    return this.file.node.debugEvent(name);
  }

  /** The same as `checkOverlap` for guest data, which an external data file keeps away from all metadata. */
  checkDataOverlap(offset: number, bytes: number): Promise<void> | undefined {
    return this.hasDataFile ? undefined : this.checkOverlap(offset, bytes);
  }

  /** Throws, and marks the image corrupt, if a write would land on metadata other than `allowed`. */
  checkOverlap(offset: number, bytes: number, allowed?: Section): Promise<void> | undefined {
    const section = this.metadata.overlap(offset, bytes, allowed);
    if (section === undefined) return undefined;
    const words = `Preventing invalid write on metadata (overlaps with ${section})`;
    return this.corrupted(words, { offset, size: bytes });
  }

  /** Reports corruption (BLOCK_IMAGE_CORRUPTED) and throws EIO. Fatal (default): sets the corrupt bit and retires the image. */
  async corrupted(
    message: string,
    { fatal = true, ...place }: { fatal?: boolean; offset?: number; size?: number } = {},
  ): Promise<never> {
    const isFatal = fatal && !this.node.readOnly;
    if (!this.dead && (isFatal || !this.#reportedCorruption)) {
      this.#reportedCorruption = true;
      this.node.services.events.emit("BLOCK_IMAGE_CORRUPTED", {
        device: "",
        "node-name": this.node.name,
        msg: message,
        ...place,
        fatal: isFatal,
      });
      if (isFatal) await this.#markCorrupt();
      this.#retired = isFatal;
    }
    const words = isFatal ? "Marking image as corrupt" : "Image is corrupt";
    throw new BlockError({
      code: "EIO",
      op: "qcow2",
      node: this.node.name,
      message: `qcow2: ${words}: ${message}`,
    });
  }

  async #markCorrupt(): Promise<void> {
    this.dead = true;
    if (this.header.version < 3) return;
    this.header.incompatible |= BigInt(Incompatible.corrupt);
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, this.header.incompatible);
    await this.file.pwrite(72, bytes);
  }

  #topTable(section: Section, end: () => number): MetadataCache {
    const isL1 = section === "active L1 table";
    return new MetadataCache({
      tableBytes: isL1 && this.header.l1Size * 8 <= SMALL_TABLE_BYTES ? SMALL_TABLE_BYTES : TOP_TABLE_BYTES,
      maxTables: Number.MAX_SAFE_INTEGER,
      read: (offset, bytes) =>
        andThen(isL1 ? undefined : this.event("reftable_load"), () => {
          const held = Math.max(0, Math.min(bytes.byteLength, end() - offset));
          return held > 0 ? this.file.pread(offset, bytes.subarray(0, held)) : undefined;
        }),
      write: (offset, bytes) => this.#writeTable(isL1 ? "l1_update" : undefined, { section, offset, bytes }),
      loaded: (table) => this.#noteEntries(table, isL1, Math.max(0, end() - table.offset)),
    });
  }

  #cache(section: Section, tableBytes: number): MetadataCache {
    const name = section === "active L2 table" ? "l2" : "refblock";
    return new MetadataCache({
      tableBytes,
      maxTables: MIN_TABLES,
      read: (offset, bytes) => andThen(this.event(`${name}_load`), () => this.file.pread(offset, bytes)),
      write: (offset, bytes) => this.#writeTable(`${name}_update`, { section, offset, bytes }),
    });
  }

  #writeTable(
    event: string | undefined,
    { section, offset, bytes }: { section: Section; offset: number; bytes: Uint8Array },
  ): Answer<void> {
    const told = event === undefined ? undefined : this.event(event);
    const checked = andThen(told, () => this.checkOverlap(offset, bytes.byteLength, section));
    return andThen(checked, () => this.file.pwrite(offset, bytes));
  }

  /** Enters the tables that a freshly read piece of the L1 or refcount table points to, of which so many bytes are the table's. */
  #noteEntries(table: CachedTable, isL1: boolean, held: number): void {
    const { clusterSize } = this.geometry;
    for (let at = 0; at + 8 <= Math.min(held, table.bytes.byteLength); at += 8) {
      const high = table.view.getUint32(at);
      const low = table.view.getUint32(at + 4);
      if (high === 0 && low === 0) continue;
      const offset = isL1 ? entryOffset(high, low) : readU64(table.view, at);
      if (offset !== 0 && offset % clusterSize === 0) {
        this.metadata.addTable(isL1 ? "active L2 table" : "refcount block", offset);
      }
    }
  }

  #noteTables(): void {
    const { metadata } = this;
    metadata.addRange("qcow2_header", 0, this.geometry.clusterSize);
    this.noteL1();
    this.noteRefcountTable();
  }

  /** Whether a snapshot is shown instead of the disk. */
  get showsSnapshot(): boolean {
    return this.#shownL1End !== undefined;
  }

  /** Maps by another L1 table from now on, whose missing entries count as empty. Only while nothing can be written. */
  showL1(offset: number, entries: number): void {
    assert(this.node.readOnly, "a writable image shows its disk");
    this.header.l1Offset = offset;
    this.header.l1Size = Math.max(entries, l1EntriesFor(this.size, this.geometry));
    this.#shownL1End = offset + entries * 8;
    this.l1.clear();
  }

  /** Enters the place of the L1 table after it was opened or moved. */
  noteL1(): void {
    this.metadata.removeRanges("active L1 table");
    this.metadata.addRange("active L1 table", this.header.l1Offset, this.header.l1Size * 8);
  }

  /** Enters the place of the refcount table after it was opened or moved. */
  noteRefcountTable(): void {
    this.metadata.removeRanges("refcount table");
    const bytes = this.header.refcountTableClusters * this.geometry.clusterSize;
    this.metadata.addRange("refcount table", this.header.refcountTableOffset, bytes);
  }
}
