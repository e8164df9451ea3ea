/**
 * Copies one range from one edge to another: block status first (holes and zeroes are never read), data through one
 * slot of the arena (read into it, looked at there, written from it). Used by every job that copies.
 *
 * Invariants: a slot is given back whatever happens; an error says which side failed; requests of one call run one
 * after the other, so a call holds one slot at most. Source: behaviour of QEMU 7.2's block-copy and mirror.
 */
import { type Errno } from "../../base/errno.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../../base/limits.ts";
import { Mutex } from "../../base/signals.ts";
import type { Arena } from "../../kernels/arena.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { skipFilters } from "../model/chain.ts";
import type { Child } from "../model/node.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import { blockStatusAbove } from "../io/status.ts";

/** Largest piece that is read and written at once, bytes. */
export const MAX_COPY_BUFFER = MiB;

/** Where a copy failed: the node, and the range of it in bytes. */
export interface CopyRange {
  node: string;
  offset: number;
  bytes: number;
}

/** A copy that failed on one side. `code` and `cause` are those of the request that failed. */
export class CopyError extends Error {
  override readonly name = "CopyError";
  /** read: the source; write: the target. */
  readonly operation: "read" | "write";
  readonly code: Errno;
  /** Where it failed, if that is known. */
  readonly range: CopyRange | undefined;

  constructor(operation: "read" | "write", cause: unknown, range?: CopyRange) {
    super(messageOf(cause), { cause });
    this.range = range;
    this.operation = operation;
    this.code = errnoOf(cause);
  }
}

/** What a run of bytes of the source is. */
export interface CopyExtent {
  /** From the offset asked for, 1 … the bytes asked for. */
  bytes: number;
  /** data: must be read; zero: reads as zeroes; unknown: neither (content does not matter, reading it works). */
  kind: "data" | "zero" | "unknown";
  /** The source's own layer (not its backing file) decides it. */
  allocated: boolean;
}

/** What of a damaged source was passed over: at `offset` a sector could not be read, or its status not be told. */
export interface UnreadRange {
  step: "read" | "status";
  offset: number;
  error: unknown;
}

interface CopyBuffer {
  readonly bytes: Uint8Array;
  release(): void;
}

/** How a RangeCopier works. */
export interface RangeCopierOptions {
  source: Child;
  target: Child;
  arena: Arena;
  kernels: Kernels;
  /** Looks for zeroes in what was read and writes them as zeroes. */
  detectZeroes?: boolean;
  /** Zeroes may be unmapped on the target (if its node allows discards). */
  unmap?: boolean;
  /** The target reads as zeroes wherever nothing was copied to it yet: zeroes are not written. */
  targetIsZero?: boolean;
  /** Zeroes are not written where the target has them already, in its own layer. */
  skipZeroed?: boolean;
  /** Unknown content is discarded on the target instead of copied (mirror). */
  discardUnknown?: boolean;
  /** Stores compressed, a cluster at a time. */
  compress?: boolean;
  /** Added to every write. */
  writeFlags?: RequestFlags;
  /** Unit of compressed writes and of zero detection, bytes, a power of two >= 512; default 64 KiB. */
  clusterSize?: number;
  /** Largest request, bytes; default MAX_COPY_BUFFER. */
  maxTransfer?: number;
  /** Sectors that can't be read are told here, and count as zeroes; default: they end the copy. */
  salvage?: (unread: UnreadRange) => void;
}

/** Copies ranges from source to target. All offsets and lengths are in bytes of both. */
export class RangeCopier {
  readonly source: Child;
  readonly target: Child;
  readonly compress: boolean;
  readonly #arena: Arena;
  readonly #kernels: Kernels;
  readonly #detectZeroes: boolean;
  readonly #targetIsZero: boolean;
  readonly #skipZeroed: boolean;
  readonly #discardUnknown: boolean;
  readonly #dataFlags: RequestFlags;
  readonly #zeroFlags: RequestFlags;
  readonly #clusterSize: number;
  readonly #maxTransfer: number;
  readonly #salvage: ((unread: UnreadRange) => void) | undefined;
  /** The zero runs of the piece that is looked at. */
  #runs = new Uint32Array(0);
  // One buffer outside of the arena, for urgent copies when the arena is full.
  readonly #spareLock = new Mutex();
  #spare: Uint8Array | undefined;

  constructor(options: RangeCopierOptions) {
    this.source = options.source;
    this.target = options.target;
    this.compress = options.compress ?? false;
    this.#arena = options.arena;
    this.#kernels = options.kernels;
    this.#detectZeroes = options.detectZeroes ?? false;
    this.#targetIsZero = options.targetIsZero ?? false;
    this.#skipZeroed = options.skipZeroed ?? false;
    this.#discardUnknown = options.discardUnknown ?? false;
    this.#clusterSize = options.clusterSize ?? 65536;
    this.#salvage = options.salvage;
    const flags = options.writeFlags ?? 0;
    this.#dataFlags = flags | (this.compress ? Req.compressed : 0);
    this.#zeroFlags = flags | (options.unmap ? Req.mayUnmap : 0);
    const most = Math.min(options.maxTransfer ?? MAX_COPY_BUFFER, this.#arena.size);
    this.#maxTransfer = this.compress ? this.#clusterSize : most;
  }

  /** Whether zeroes cost the target nothing, and so are not charged to a rate limit. */
  get zeroesAreFree(): boolean {
    return (this.#zeroFlags & Req.mayUnmap) !== 0;
  }

  /**
   * Copies a range. `charged` are the bytes that a rate limit should count: all but zeroes that may be unmapped.
   * Rejects with a CopyError; what was copied before stays copied.
   */
  async copy(offset: number, bytes: number): Promise<{ charged: number }> {
    const end = offset + bytes;
    let charged = 0;
    for (let at = offset; at < end;) {
      const extent = await this.status(at, end - at);
      if (extent.kind === "zero") await this.writeZeroes(at, extent.bytes);
      else if (extent.kind === "unknown" && this.#discardUnknown) await this.discard(at, extent.bytes);
      else await this.copyData(at, extent.bytes);
      if (extent.kind === "data" || !this.zeroesAreFree) charged += extent.bytes;
      at += extent.bytes;
    }
    return { charged };
  }

  /** What lies at `offset` of the source, its whole backing chain included. A failure counts as data. */
  async status(offset: number, bytes: number): Promise<CopyExtent> {
    try {
      const status = await blockStatusAbove(this.source.node, offset, bytes);
      const kind = status.zero ? "zero" : status.data ? "data" : "unknown";
      return { bytes: Math.min(status.bytes, bytes), kind, allocated: status.depth === 1 };
    } catch {
      return { bytes, kind: "data", allocated: true };
    }
  }

  /** Makes the range read as zeroes on the target. Rejects with a CopyError of the write side. */
  async writeZeroes(offset: number, bytes: number): Promise<void> {
    if (this.#targetIsZero) return;
    const end = offset + bytes;
    for (let at = offset; at < end;) {
      const there = this.#skipZeroed ? await this.#zeroed(at, end - at) : { bytes, zero: false };
      if (!there.zero) await this.#writeZeroes(at, there.bytes);
      at += there.bytes;
    }
  }

  /** Whether the target reads as zeroes there whatever becomes of its backing file. */
  async #zeroed(offset: number, bytes: number): Promise<{ bytes: number; zero: boolean }> {
    try {
      const status = await this.target.blockStatus(offset, bytes);
      const own = status.allocated || !skipFilters(this.target.node).backing;
      return { bytes: Math.min(status.bytes, bytes), zero: status.zero && own };
    } catch {
      return { bytes, zero: false };
    }
  }

  async #writeZeroes(offset: number, bytes: number): Promise<void> {
    try {
      await this.target.pwriteZeroes(offset, bytes, this.#zeroFlags);
    } catch (error) {
      throw new CopyError("write", error, { node: this.target.node.name, offset, bytes });
    }
  }

  /** Drops the range on the target. Rejects with a CopyError of the write side. */
  async discard(offset: number, bytes: number): Promise<void> {
    try {
      await this.target.pdiscard(offset, bytes);
    } catch (error) {
      throw new CopyError("write", error, { node: this.target.node.name, offset, bytes });
    }
  }

  /**
   * Reads a range and writes it, without asking for its status. Rejects with a CopyError. `urgent` is for copies that a
   * request waits for which may itself hold arena memory: they never wait for the arena.
   */
  async copyData(offset: number, bytes: number, urgent = false): Promise<void> {
    const most = Math.min(bytes, this.#maxTransfer);
    const slot = this.#arena.tryAcquire(most) ?? (await this.#slot(most, urgent));
    let operation: "read" | "write" = "read";
    let done = 0;
    try {
      for (; done < bytes; done += this.#maxTransfer) {
        const length = Math.min(bytes - done, most);
        const buffer = length === most ? slot.bytes : slot.bytes.subarray(0, length);
        operation = "read";
        await this.#read(offset + done, buffer);
        operation = "write";
        const writing = this.#detectZeroes
          ? this.#writeDetecting(offset + done, buffer)
          : this.#writeData(offset + done, buffer);
        if (writing) await writing;
      }
    } catch (error) {
      if (error instanceof CopyError) throw error;
      const { node } = operation === "read" ? this.source : this.target;
      const range = { node: node.name, offset: offset + done, bytes: Math.min(bytes - done, most) };
      throw new CopyError(operation, error, range);
    } finally {
      slot.release();
    }
  }

  /**
   * Copies as much of a range as can be done before this returns; says how many bytes. The rest is for copyData(), which
   * also tells why something failed.
   */
  copyNow(offset: number, bytes: number): number {
    // What is read here would be read again, if the target could not take it.
    const isWilling = "preadNow" in this.source.node.driver && "pwriteNow" in this.target.node.driver;
    if (!isWilling || this.#dataFlags !== 0 || bytes > this.#maxTransfer) return 0;
    const slot = this.#arena.tryAcquire(bytes);
    if (!slot) return 0;
    try {
      if (!this.source.preadNow(offset, slot.bytes)) return 0;
      if (!this.#detectZeroes) return this.target.pwriteNow(offset, slot.bytes) ? bytes : 0;
      return this.#writeRunsNow(offset, slot.bytes, this.#zeroRuns(slot.bytes));
    } finally {
      slot.release();
    }
  }

  async #slot(bytes: number, urgent: boolean): Promise<CopyBuffer> {
    if (!urgent) return this.#arena.acquire(bytes);
    const release = await this.#spareLock.lock();
    this.#spare ??= new Uint8Array(this.#maxTransfer);
    return { bytes: this.#spare.subarray(0, bytes), release };
  }

  #read(offset: number, buffer: Uint8Array): Promise<void> {
    const reading = this.source.pread(offset, buffer, Req.background);
    const salvage = this.#salvage;
    return salvage ? reading.catch(() => this.#readSectors(offset, buffer, salvage)) : reading;
  }

  /** Reads what can be read, sector by sector. */
  async #readSectors(
    offset: number,
    buffer: Uint8Array,
    salvage: (unread: UnreadRange) => void,
  ): Promise<void> {
    for (let at = 0; at < buffer.byteLength; at += SECTOR_SIZE) {
      const sector = buffer.subarray(at, at + SECTOR_SIZE);
      try {
        await this.source.pread(offset + at, sector);
      } catch (error) {
        sector.fill(0);
        salvage({ step: "read", offset: offset + at, error });
      }
    }
  }

  /** Undefined: it is done. */
  #writeData(offset: number, buffer: Uint8Array): Promise<void> | undefined {
    if (this.#dataFlags === 0 && this.target.pwriteNow(offset, buffer)) return undefined;
    return this.target.pwrite(offset, buffer, this.#dataFlags);
  }

  /** Writes runs of data and runs of zero clusters. Undefined: it is done. */
  #writeDetecting(offset: number, buffer: Uint8Array): Promise<void> | undefined {
    const count = this.#zeroRuns(buffer);
    if (count === 0) return this.#writeData(offset, buffer);
    // Others use the list while this call waits.
    return this.#writeRuns(offset, buffer, this.#runs.slice(0, 2 * count));
  }

  /** Finds the zero clusters by one kernel call: leaves pairs in #runs, returns how many. */
  #zeroRuns(buffer: Uint8Array): number {
    const pairs = Math.ceil(buffer.byteLength / this.#clusterSize / 2) + 1;
    if (this.#runs.length < 2 * pairs) this.#runs = new Uint32Array(2 * pairs);
    return this.#kernels.zeroRuns(buffer, this.#clusterSize, this.#runs);
  }

  /** As #writeRuns() with the first `count` pairs of #runs; says how many bytes of the buffer could be done. */
  #writeRunsNow(offset: number, buffer: Uint8Array, count: number): number {
    let done = 0;
    for (let i = 0; i <= 2 * count; i += 2) {
      const start = i < 2 * count ? this.#runs[i]! : buffer.byteLength;
      const part = start - done === buffer.byteLength ? buffer : buffer.subarray(done, start);
      if (start > done && !this.target.pwriteNow(offset + done, part)) return done;
      if (i === 2 * count || !this.#targetIsZero) return start;
      done = start + this.#runs[i + 1]!;
    }
    return done;
  }

  async #writeRuns(offset: number, buffer: Uint8Array, zeroes: Uint32Array): Promise<void> {
    let done = 0;
    for (let i = 0; i < zeroes.length; i += 2) {
      const start = zeroes[i]!;
      if (start > done)
        await this.target.pwrite(offset + done, buffer.subarray(done, start), this.#dataFlags);
      await this.writeZeroes(offset + start, zeroes[i + 1]!);
      done = start + zeroes[i + 1]!;
    }
    if (done < buffer.byteLength)
      await this.target.pwrite(offset + done, buffer.subarray(done), this.#dataFlags);
  }
}

/** The cluster size (a power of two) that copies into a node work with, and whether the node told one. */
export interface CopyClusterSize {
  bytes: number;
  known: boolean;
}

/** Copies go by clusters of at least this many bytes. */
export const MIN_COPY_CLUSTER = 65536;

/**
 * The unit in which `target` can be written without touching what it did not get: its cluster size, at least 64 KiB. A
 * target that does not tell (known = false) and has no backing file deserves a warning: with larger clusters than that,
 * a partly written one would hide what lies beside it.
 */
export function copyClusterSize(target: Child): CopyClusterSize {
  let node = target.node;
  while (!node.driver.getInfo && node.isFilter && node.filtered) node = node.filtered.node;
  const info = node.driver.getInfo?.();
  let bytes = MIN_COPY_CLUSTER;
  while (bytes < (info?.clusterSize ?? 0)) bytes *= 2;
  return { bytes, known: info !== undefined };
}
