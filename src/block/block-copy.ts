/**
 * The state of a point-in-time copy: which clusters are still to be copied, which are being copied, and the passes over
 * them. Backup runs one long pass; copy-before-write runs a short one for every guest write.
 *
 * Invariants: a cluster is dirty (to be copied), in flight, or done. Taking it clears its bit and puts its range in
 * flight in one synchronous step; a failure sets the bit again before the range leaves. A dirty cluster still has its
 * original content (a guest write has it copied first), so a block status once learnt holds as long as it is dirty.
 * Memory: at most MAX_BYTES_IN_FLIGHT per pass. Source: behaviour of QEMU 7.2's block-copy.
 */
import type { Clock } from "../base/host.ts";
import { MiB } from "../base/limits.ts";
import { type ByteRange, alignDown, alignUp } from "../base/ranges.ts";
import { Wakeup } from "../base/signals.ts";
import { Bitmap } from "../kernels/bitmap.ts";
import { DirtyCursor } from "./dirty-cursor.ts";
import { InFlightRanges } from "./in-flight-ranges.ts";
import {
  CopyError,
  type CopyExtent,
  RangeCopier,
  type RangeCopierOptions,
  copyClusterSize,
} from "./range-copy.ts";
import { isAllocated } from "./status.ts";

export { CopyError, RangeCopier } from "./range-copy.ts";
export { InFlightRanges } from "./in-flight-ranges.ts";

/** Copies that one pass runs at once, unless told otherwise. */
export const MAX_COPY_WORKERS = 64;

/** Data that one pass has in flight at most (one request may be larger), bytes. */
export const MAX_BYTES_IN_FLIGHT = 8 * MiB;

/** Largest run of zeroes that is written at once without a rate limit, bytes. */
const MAX_ZERO_BYTES = 128 * MiB;

/** How far a pass asks for the block status ahead, bytes. */
const STATUS_REACH = 1024 * MiB;

/** Told how a copy gets on. */
export interface CopyProgress {
  /** `bytes` more were copied. */
  done(bytes: number): void;
  /** What is still to be copied or being copied, bytes in whole clusters. */
  remaining(bytes: number): void;
}

/** A rate limit: counts `bytes` and answers how long to wait before the next request, ms (0: not at all). */
export interface CopyRateLimit {
  delayMs(bytes: number): number;
}

/** What a BlockCopy is made of. */
export interface BlockCopyOptions extends Omit<RangeCopierOptions, "clusterSize"> {
  clock: Clock;
  /** What is to be copied; default: everything. */
  bitmap?: Bitmap;
}

/** How one pass works. */
export interface CopyPassOptions {
  /** Copies at once, >= 1; default MAX_COPY_WORKERS. */
  maxWorkers?: number;
  /** Largest data request, bytes, at least a cluster; 0 or absent: no limit beyond the copier's. */
  maxChunk?: number;
  /** Neither waits for nor counts against the rate limit, and never waits for memory (copy-before-write). */
  urgent?: boolean;
}

/** The state of a copy of one node to another. */
export class BlockCopy {
  /** Unit of copying, bytes, a power of two. */
  readonly clusterSize: number;
  /** False if the target told no cluster size; worth a warning if it has no backing file either. */
  readonly clusterSizeKnown: boolean;
  /** Length of the source, bytes. */
  readonly length: number;
  /** What is still to be copied, by clusters. Change it only through markDirty and markClean while passes run. */
  readonly bitmap: Bitmap;
  readonly inFlight = new InFlightRanges();
  readonly clock: Clock;
  readonly #base: RangeCopierOptions;
  #copier: RangeCopier;
  #generation = 0;
  readonly #passes = new Set<CopyPass>();
  /** Clusters that the source's own layer does not hold are left out (sync=top, until all are known). */
  skipUnallocated = false;
  progress: CopyProgress | undefined;
  rateLimit: CopyRateLimit | undefined;

  constructor(options: BlockCopyOptions) {
    const { clock, bitmap, ...base } = options;
    const cluster = copyClusterSize(options.target);
    this.clusterSize = cluster.bytes;
    this.clusterSizeKnown = cluster.known;
    this.clock = clock;
    this.length = options.source.length;
    this.#base = { ...base, clusterSize: cluster.bytes };
    this.#copier = new RangeCopier(this.#base);
    this.bitmap = new Bitmap(this.length, cluster.bytes, options.kernels);
    if (bitmap) this.bitmap.merge(bitmap);
    else this.bitmap.setAll();
  }

  get copier(): RangeCopier {
    return this.#copier;
  }

  /** Changes how data is written from the next request on. */
  configure(
    options: Partial<Pick<RangeCopierOptions, "compress" | "detectZeroes" | "unmap" | "writeFlags">>,
  ): void {
    this.#copier = new RangeCopier(Object.assign(this.#base, options));
  }

  /** Bytes to be copied or being copied, in whole clusters. */
  get remaining(): number {
    return this.bitmap.count() + this.inFlight.bytes;
  }

  /** Grows with every change of the bitmap; a pass that sees another number reads the bitmap again. */
  get generation(): number {
    return this.#generation;
  }

  markDirty(range: ByteRange): void {
    this.#generation += 1;
    this.bitmap.set(range.offset, range.bytes);
  }

  /** `range` must be whole clusters. */
  markClean(range: ByteRange): void {
    this.#generation += 1;
    this.bitmap.reset(range.offset, range.bytes);
  }

  /** Replaces what is to be copied. No pass may run. */
  restrictTo(bitmap: Bitmap): void {
    this.#generation += 1;
    this.bitmap.clear();
    this.bitmap.merge(bitmap);
  }

  /** Frees the bitmap; nothing may be called afterwards. */
  free(): void {
    this.bitmap.free();
  }

  /** Starts a pass: copies what is dirty in `range` and waits for what others copy there. */
  start(range: ByteRange, options: CopyPassOptions = {}): CopyPass {
    const pass = new CopyPass(this, this.#clip(range), options);
    this.#passes.add(pass);
    void pass.done.finally(() => this.#passes.delete(pass));
    return pass;
  }

  /** Has the range copied when it resolves; rejects with the CopyError of the first task that failed. */
  async copyRange(range: ByteRange, options: CopyPassOptions = {}): Promise<void> {
    const clipped = this.#clip(range);
    if (
      this.bitmap.nextDirty(clipped.offset, clipped.offset + clipped.bytes) < 0 &&
      !this.inFlight.overlaps(clipped)
    )
      return;
    const pass = this.start(clipped, options);
    await pass.done;
    if (pass.error) throw pass.error;
  }

  /** Wakes the passes that wait for the rate limit, after it changed. */
  kick(): void {
    for (const pass of this.#passes) pass.kick();
  }

  /**
   * Asks at the cluster `offset` whether the source's own layer holds it, and takes the run that it does not hold off the
   * bitmap. Returns the bytes that were decided. Rejects with the block status's error.
   */
  async resetUnallocated(offset: number): Promise<number> {
    const start = alignDown(offset, this.clusterSize);
    const end = this.length;
    let at = start;
    while (at < end) {
      const found = await isAllocated(this.#base.source.node, at, end - at);
      if (found.allocated) break;
      at += found.bytes;
    }
    // Whole clusters without data go; the cluster where data begins stays.
    const hole = at >= end ? end : alignDown(at, this.clusterSize);
    if (hole > start) {
      this.markClean({ offset: start, bytes: hole - start });
      this.progress?.remaining(this.remaining);
      return hole - start;
    }
    return (await this.#allocatedRun(at)) - start;
  }

  async #allocatedRun(at: number): Promise<number> {
    const found = await isAllocated(this.#base.source.node, at, this.length - at);
    return Math.min(
      this.length,
      alignUp(at + Math.max(found.allocated ? found.bytes : 1, 1), this.clusterSize),
    );
  }

  #clip(range: ByteRange): ByteRange {
    const offset = Math.min(alignDown(range.offset, this.clusterSize), this.length);
    const end = Math.min(alignUp(range.offset + range.bytes, this.clusterSize), this.length);
    return { offset, bytes: Math.max(0, end - offset) };
  }
}

interface Known extends CopyExtent {
  offset: number;
}

/** One pass over a range. It never rejects: look at `error` and `cancelled` when `done` has resolved. */
export class CopyPass {
  readonly #copy: BlockCopy;
  readonly #range: ByteRange;
  readonly #cursor: DirtyCursor;
  readonly #maxWorkers: number;
  readonly #maxChunk: number;
  readonly #urgent: boolean;
  readonly #changed = new Wakeup();
  #known: Known | undefined;
  #running = 0;
  #bytes = 0;
  /** Resolves when the pass and all of its requests have ended. */
  readonly done: Promise<void>;
  finished = false;
  cancelled = false;
  /** The first task that failed. */
  error: CopyError | undefined;

  /** Made by BlockCopy.start. */
  constructor(copy: BlockCopy, range: ByteRange, options: CopyPassOptions) {
    this.#copy = copy;
    this.#range = range;
    this.#cursor = new DirtyCursor(copy, range);
    this.#maxWorkers = Math.max(1, options.maxWorkers ?? MAX_COPY_WORKERS);
    this.#urgent = options.urgent ?? false;
    this.#maxChunk = this.#chunk(options.maxChunk ?? 0);
    this.done = this.#run().finally(() => {
      this.finished = true;
    });
  }

  /** Starts nothing new; requests in flight finish. */
  cancel(): void {
    this.cancelled = true;
    this.kick();
  }

  /** Looks at the rate limit again. */
  kick(): void {
    this.#changed.wake();
  }

  #chunk(maxChunk: number): number {
    const { copier, clusterSize } = this.#copy;
    if (copier.compress) return clusterSize;
    const most = maxChunk > 0 ? Math.min(maxChunk, MiB) : MiB;
    return Math.max(clusterSize, alignDown(most, clusterSize));
  }

  get #stopped(): boolean {
    return this.cancelled || this.error !== undefined;
  }

  async #run(): Promise<void> {
    for (let more = true; more && !this.#stopped;) {
      more = await this.#sweep();
      // What others copy in the range is waited for too; it may come back dirty.
      if (!this.#stopped && (await this.#copy.inFlight.waitOne(this.#range))) more = true;
    }
  }

  /** Starts a task for everything that is dirty and waits for all of them. Says whether there was anything. */
  async #sweep(): Promise<boolean> {
    this.#cursor.rewind();
    let found = false;
    while (!this.#stopped) {
      const extent = this.#cursor.peek();
      if (!extent) break;
      found = true;
      if (this.#full) await this.#changed.wait();
      else if (this.#delayMs > 0) await this.#sleep(this.#delayMs);
      else if (!this.#knows(extent.offset)) this.#known = await this.#learn(extent);
      else this.#startTask(extent);
    }
    while (this.#running > 0) await this.#changed.wait();
    return found;
  }

  get #full(): boolean {
    if (this.#running === 0) return false;
    return this.#running >= this.#maxWorkers || this.#bytes + this.#maxChunk > MAX_BYTES_IN_FLIGHT;
  }

  get #delayMs(): number {
    return this.#urgent ? 0 : (this.#copy.rateLimit?.delayMs(0) ?? 0);
  }

  async #sleep(delayMs: number): Promise<void> {
    const cancel = this.#copy.clock.timer(delayMs, () => this.#changed.wake());
    await this.#changed.wait();
    cancel();
  }

  #knows(offset: number): boolean {
    const known = this.#known;
    return known !== undefined && known.offset <= offset && offset < known.offset + known.bytes;
  }

  /** The block status at a dirty extent, in whole clusters: one that is partly zeroes or unallocated counts as data. */
  async #learn(extent: ByteRange): Promise<Known> {
    const { clusterSize, copier } = this.#copy;
    const asked = Math.min(extent.bytes, STATUS_REACH);
    const status = await copier.status(extent.offset, asked);
    const { offset } = extent;
    if (status.bytes >= asked) return { ...status, offset };
    if (status.bytes < clusterSize)
      return { offset, bytes: Math.min(clusterSize, asked), kind: "data", allocated: true };
    return { ...status, offset, bytes: alignDown(status.bytes, clusterSize) };
  }

  /** Takes the beginning of a dirty extent whose status is known, and copies it. */
  #startTask(extent: ByteRange): void {
    const known = this.#known!;
    const copy = this.#copy;
    const { offset } = extent;
    const bytes = Math.min(extent.bytes, known.offset + known.bytes - offset);
    if (copy.skipUnallocated && !known.allocated) {
      this.#cursor.take({ offset, bytes });
      copy.progress?.remaining(copy.remaining);
      return;
    }
    const zero = known.kind === "zero";
    const range = {
      offset,
      bytes: Math.min(bytes, zero && !this.#limited ? MAX_ZERO_BYTES : this.#maxChunk),
    };
    this.#cursor.take(range);
    const clusters = alignUp(range.bytes, copy.clusterSize);
    const release = copy.inFlight.add({ offset, bytes: clusters });
    if (!this.#urgent) copy.rateLimit?.delayMs(range.bytes);
    this.#running += 1;
    if (!zero) this.#bytes += range.bytes;
    void this.#work(range, zero).finally(() => {
      release();
      copy.progress?.remaining(copy.remaining);
      this.#running -= 1;
      if (!zero) this.#bytes -= range.bytes;
      this.#changed.wake();
    });
  }

  get #limited(): boolean {
    return !this.#urgent && this.#copy.rateLimit !== undefined;
  }

  async #work(range: ByteRange, zero: boolean): Promise<void> {
    const { copier, clusterSize, progress } = this.#copy;
    try {
      if (zero) await copier.writeZeroes(range.offset, range.bytes);
      else await copier.copyData(range.offset, range.bytes, this.#urgent);
      progress?.done(alignUp(range.bytes, clusterSize));
    } catch (error) {
      this.error ??= error instanceof CopyError ? error : new CopyError("write", error);
      this.#copy.markDirty(range);
    }
  }
}
