/**
 * Copies one range from one edge to another: block status first (holes and zeroes are never read), data through one
 * slot of the arena (read into it, looked at there, written from it). Used by every job that copies.
 *
 * Invariants: a slot is given back whatever happens; an error says which side failed; requests of one call run one
 * after the other, so a call holds one slot at most. Source: behaviour of QEMU 7.2's block-copy and mirror.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { type Answer, andThen, isPromise, repeat, rescue } from "../../base/answer.ts";
import { type Errno } from "../../base/errno.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import { MiB, SECTOR_SIZE } from "../../base/limits.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { Mutex } from "../../base/signals.ts";
import type { Arena } from "../../kernels/arena.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { skipFilters } from "../model/chain.ts";
import type { Child } from "../model/node.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import { type ChainStatus, blockStatusAbove } from "../io/status.ts";
import type { WriteOrder } from "./write-order.ts";

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

/** The side that failed; what does not tell is the target's. */
export function sideOf(error: unknown): CopyError["operation"] {
  return error instanceof CopyError ? error.operation : "write";
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
  /** Pieces that it knows are written in its order. */
  order?: WriteOrder;
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
  readonly #order: WriteOrder | undefined;
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
    this.#order = options.order;
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
      assert(extent.bytes > 0 && extent.bytes <= end - at, "extent within its range");
      if (extent.kind === "zero") await this.writeZeroes(at, extent.bytes);
      else if (extent.kind === "unknown" && this.#discardUnknown) await this.discard(at, extent.bytes);
      else await this.copyData(at, extent.bytes);
      if (extent.kind === "data" || !this.zeroesAreFree) charged += extent.bytes;
      at += extent.bytes;
    }
    return { charged };
  }

  /** What lies at `offset` of the source, its whole backing chain included. A failure counts as data. */
  status(offset: number, bytes: number): Answer<CopyExtent> {
    try {
      const status = blockStatusAbove(this.source.node, offset, bytes);
      if (!isPromise(status)) return extentOf(status, bytes);
      return status.then(
        (told) => extentOf(told, bytes),
        (error) => untold(bytes, error),
      );
    } catch (error) {
      return untold(bytes, error);
    }
  }

  /** Makes the range read as zeroes on the target. Rejects with a CopyError of the write side. */
  writeZeroes(offset: number, bytes: number): Answer<void> {
    if (this.#targetIsZero) return undefined;
    if (!this.#skipZeroed) return this.#writeZeroes(offset, bytes);
    let done = 0;
    return repeat(() =>
      andThen(this.#zeroed(offset + done, bytes - done), (there) => {
        const zeroing = there.zero ? undefined : this.#writeZeroes(offset + done, there.bytes);
        done += there.bytes;
        return andThen(zeroing, () => done < bytes);
      }),
    );
  }

  /** Whether the target reads as zeroes there whatever becomes of its backing file. */
  #zeroed(offset: number, bytes: number): Answer<{ bytes: number; zero: boolean }> {
    return rescue(
      () =>
        andThen(this.target.blockStatus(offset, bytes), (status) => {
          const own = status.allocated || !skipFilters(this.target.node).backing;
          return { bytes: Math.min(status.bytes, bytes), zero: status.zero && own };
        }),
      (error) => {
        passBroken(error);
        return { bytes, zero: false };
      },
    );
  }

  #writeZeroes(offset: number, bytes: number): Answer<void> {
    return this.#onSide("write", { offset, bytes }, () =>
      this.target.pwriteZeroes(offset, bytes, this.#zeroFlags),
    );
  }

  /** Drops the range on the target. Rejects with a CopyError of the write side. */
  discard(offset: number, bytes: number): Answer<void> {
    return this.#onSide("write", { offset, bytes }, () => this.target.pdiscard(offset, bytes));
  }

  /** A request of one side, whose failure becomes a CopyError. */
  #onSide(
    operation: "read" | "write",
    { offset, bytes }: ByteRange,
    request: () => Answer<void>,
  ): Answer<void> {
    return rescue(request, (error) => this.#fail(operation, error, { offset, bytes }));
  }

  /** Throws the failure of a request as a CopyError. */
  #fail(operation: "read" | "write", error: unknown, { offset, bytes }: ByteRange): never {
    if (error instanceof CopyError) throw error;
    const { node } = operation === "read" ? this.source : this.target;
    throw new CopyError(operation, error, { node: node.name, offset, bytes });
  }

  /**
   * Reads a range and writes it, without asking for its status. Fails with a CopyError. `urgent` is for copies that a
   * request waits for which may itself hold arena memory: they never wait for the arena.
   */
  copyData(offset: number, bytes: number, urgent = false): Answer<void> {
    const most = Math.min(bytes, urgent ? this.#spareBytes : this.#maxTransfer);
    const slot: Answer<CopyBuffer> = this.#arena.tryAcquire(most) ?? this.#slot(most, urgent);
    return isPromise(slot)
      ? slot.then((held) => this.#copyThrough(held, offset, bytes))
      : this.#copyThrough(slot, offset, bytes);
  }

  #copyThrough(held: CopyBuffer, offset: number, bytes: number): Answer<void> {
    let copying: Answer<void>;
    try {
      copying = this.#copyPieces(offset, bytes, held.bytes);
    } catch (error) {
      held.release();
      throw error;
    }
    if (isPromise(copying)) return copying.finally(() => held.release());
    held.release();
  }

  #copyPieces(offset: number, bytes: number, buffer: Uint8Array): Answer<void> {
    assert(buffer.byteLength > 0, "a buffer holds something");
    for (let done = 0; done < bytes;) {
      const length = Math.min(bytes - done, buffer.byteLength);
      const part = length === buffer.byteLength ? buffer : buffer.subarray(0, length);
      const copying = this.#copyPiece(offset + done, part);
      done += length;
      if (!isPromise(copying)) continue;
      return done < bytes
        ? copying.then(() => this.#copyPieces(offset + done, bytes - done, buffer))
        : copying;
    }
  }

  #copyPiece(offset: number, buffer: Uint8Array): Answer<void> {
    const range = { offset, bytes: buffer.byteLength };
    let reading: Answer<void>;
    try {
      reading = this.#read(offset, buffer);
    } catch (error) {
      this.#fail("read", error, range);
    }
    if (!isPromise(reading)) return this.#inTurn(offset, buffer, range);
    return reading.then(
      () => this.#inTurn(offset, buffer, range),
      (error) => this.#fail("read", error, range),
    );
  }

  #inTurn(offset: number, buffer: Uint8Array, range: ByteRange): Answer<void> {
    const turn = this.#order?.turn(offset);
    return turn
      ? turn.then(() => this.#writePiece(offset, buffer, range))
      : this.#writePiece(offset, buffer, range);
  }

  #writePiece(offset: number, buffer: Uint8Array, range: ByteRange): Answer<void> {
    try {
      const writing = this.#write(offset, buffer);
      return isPromise(writing) ? writing.catch((error) => this.#fail("write", error, range)) : writing;
    } catch (error) {
      this.#fail("write", error, range);
    }
  }

  get #spareBytes(): number {
    return Math.min(this.#maxTransfer, MAX_COPY_BUFFER);
  }

  async #slot(bytes: number, urgent: boolean): Promise<CopyBuffer> {
    if (!urgent) return this.#arena.acquire(bytes);
    const release = await this.#spareLock.lock();
    this.#spare ??= new Uint8Array(this.#spareBytes);
    return { bytes: this.#spare.subarray(0, bytes), release };
  }

  #read(offset: number, buffer: Uint8Array): Answer<void> {
    const salvage = this.#salvage;
    if (!salvage) return this.source.pread(offset, buffer, Req.background);
    return rescue(
      () => this.source.pread(offset, buffer, Req.background),
      (error) => {
        passBroken(error);
        return this.#readSectors(offset, buffer, salvage);
      },
    );
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
        passBroken(error);
        sector.fill(0);
        salvage({ step: "read", offset: offset + at, error });
      }
    }
  }

  /** Writes runs of data and runs of zero clusters. */
  #write(offset: number, buffer: Uint8Array): Answer<void> {
    const count = this.#detectZeroes ? this.#zeroRuns(buffer) : 0;
    if (count === 0) return this.target.pwrite(offset, buffer, this.#dataFlags);
    // Others use the list while this call waits.
    return this.#writeRuns(offset, buffer, this.#runs.slice(0, 2 * count));
  }

  /** Finds the zero clusters by one kernel call: leaves pairs in #runs, returns how many. */
  #zeroRuns(buffer: Uint8Array): number {
    const pairs = Math.ceil(buffer.byteLength / this.#clusterSize / 2) + 1;
    if (this.#runs.length < 2 * pairs) this.#runs = new Uint32Array(2 * pairs);
    const count = this.#kernels.zeroRuns(buffer, this.#clusterSize, this.#runs);
    assert(count <= pairs, "runs fit their list");
    return count;
  }

  /** Writes from the end of the run before `index` on. */
  #writeRuns(offset: number, buffer: Uint8Array, zeroes: Uint32Array, index = 0): Answer<void> {
    for (let next = index; next <= zeroes.length; next += 2) {
      const from = next === 0 ? 0 : zeroes[next - 2]! + zeroes[next - 1]!;
      if (from >= buffer.byteLength) return undefined;
      const start = zeroes[next] ?? buffer.byteLength;
      const data = buffer.subarray(from, start);
      const writing = this.#writeRun(offset + from, data, zeroes[next + 1] ?? 0);
      if (isPromise(writing)) return writing.then(() => this.#writeRuns(offset, buffer, zeroes, next + 2));
    }
  }

  /** Writes data, and zeroes behind it. */
  #writeRun(offset: number, data: Uint8Array, zeroBytes: number): Answer<void> {
    const bytes = data.byteLength;
    const writing = bytes > 0 ? this.target.pwrite(offset, data, this.#dataFlags) : undefined;
    if (zeroBytes === 0) return writing;
    return isPromise(writing)
      ? writing.then(() => this.writeZeroes(offset + bytes, zeroBytes))
      : this.writeZeroes(offset + bytes, zeroBytes);
  }
}

function extentOf({ bytes, zero, data, depth }: ChainStatus, asked: number): CopyExtent {
  const kind = zero ? "zero" : data ? "data" : "unknown";
  return { bytes: Math.min(bytes, asked), kind, allocated: depth === 1 };
}

/** A broken invariant is no error of a disk, which could be passed over. */
function passBroken(error: unknown): void {
  if (error instanceof AssertionError) throw error;
}

/** Why it could not be told a read says. */
function untold(bytes: number, error: unknown): CopyExtent {
  passBroken(error);
  return { bytes, kind: "data", allocated: true };
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
