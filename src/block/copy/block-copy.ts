/**
 * The state of a point-in-time copy: which clusters are still to be copied, which are being copied, and the passes over
 * them. Backup runs one long pass; copy-before-write runs a short one for every guest write.
 *
 * Invariants: a cluster is dirty (to be copied), in flight, or done. Taking it clears its bit and puts its range in
 * flight in one synchronous step; a failure sets the bit again before the range leaves. A dirty cluster still has its
 * original content (a guest write has it copied first), so a block status once learnt holds as long as it is dirty.
 * Source: behaviour of QEMU 7.2's block-copy.
 */
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/host.ts";
import { type ByteRange, alignDown, alignUp, RangeLock } from "../../base/ranges.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import {
  type CopyHistory,
  CopyPass,
  type CopyPassOptions,
  type CopyProgress,
  type CopyRateLimit,
  type CopyState,
} from "./copy-pass.ts";
import { maxChunkBytes } from "./chunk-size.ts";
import { CopyError, RangeCopier, type RangeCopierOptions, copyClusterSize } from "./range-copy.ts";
import { isAllocated } from "../io/status.ts";

export { CopyPass, type CopyPassOptions, type CopyProgress, type CopyRateLimit } from "./copy-pass.ts";
export { CopyError, RangeCopier } from "./range-copy.ts";

/** What a BlockCopy is made of. */
export interface BlockCopyOptions extends Omit<RangeCopierOptions, "clusterSize"> {
  clock: Clock;
  /** What is to be copied; default: everything. */
  bitmap?: Bitmap;
  /** Clusters are at least as large, bytes, 0 or a power of two; default: as the target's, at least 64 KiB. */
  minClusterBytes?: number;
}

/** The state of a copy of one node to another. */
export class BlockCopy implements CopyState {
  /** Unit of copying, bytes, a power of two. */
  readonly clusterSize: number;
  /** False if the target told no cluster size; worth a warning if it has no backing file either. */
  readonly clusterSizeKnown: boolean;
  /** Length of the source, bytes. */
  readonly length: number;
  /** What is still to be copied, by clusters. Change it only through markDirty and markClean while passes run. */
  readonly bitmap: Bitmap;
  readonly inFlight = new RangeLock();
  readonly clock: Clock;
  readonly #base: RangeCopierOptions;
  #copier: RangeCopier;
  #generation = 0;
  readonly #passes = new Set<CopyPass>();
  /** Clusters that the source's own layer does not hold are left out (sync=top, until all are known). */
  skipUnallocated = false;
  progress: CopyProgress | undefined;
  history: CopyHistory | undefined;
  urgentMs = -Infinity;
  onCopied: ((range: ByteRange) => Promise<void>) | undefined;
  rateLimit: CopyRateLimit | undefined;

  constructor(options: BlockCopyOptions) {
    const { clock, bitmap, minClusterBytes = 0, ...base } = options;
    const own = copyClusterSize(options.target);
    const cluster = { ...own, bytes: Math.max(own.bytes, minClusterBytes) };
    this.clusterSize = cluster.bytes;
    this.clusterSizeKnown = cluster.known;
    this.clock = clock;
    this.length = options.source.length;
    this.#base = { maxTransfer: maxChunkBytes, ...base, clusterSize: cluster.bytes };
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
    assert(range.bytes > 0, "something is dirty");
    this.#generation += 1;
    this.bitmap.set(range.offset, range.bytes);
  }

  /** Makes all that was copied durable; resolves with what went wrong, as an error of the target. */
  async flush(): Promise<CopyError | undefined> {
    try {
      await this.#base.target.flush();
      return undefined;
    } catch (error) {
      return new CopyError("write", error);
    }
  }

  /** `range` must be whole clusters. */
  markClean(range: ByteRange): void {
    const end = range.offset + range.bytes;
    const isWhole =
      range.offset % this.clusterSize === 0 && (end % this.clusterSize === 0 || end === this.length);
    assert(isWhole, "a part of a cluster counts as copied");
    this.#generation += 1;
    this.bitmap.reset(range.offset, range.bytes);
  }

  /** Replaces what is to be copied. No pass may run. */
  restrictTo(bitmap: Bitmap): void {
    assert(this.#passes.size === 0, "what is to be copied is replaced under a pass");
    this.#generation += 1;
    this.bitmap.clear();
    this.bitmap.merge(bitmap);
  }

  /** Frees the bitmap; nothing may be called afterwards. */
  free(): void {
    assert(this.inFlight.size === 0, "a copy ends with clusters under way");
    this.bitmap.free();
  }

  /** Starts a pass: copies what is dirty in `range` and waits for what others copy there. */
  start(range: ByteRange, options: CopyPassOptions = {}): CopyPass {
    const pass = new CopyPass(this, this.#clip(range), options);
    this.#passes.add(pass);
    void pass.done.finally(() => this.#passes.delete(pass));
    return pass;
  }

  /** Has the range copied when it resolves; rejects with the CopyError of the first task that failed, or with a broken invariant. */
  async copyRange(range: ByteRange, options: CopyPassOptions = {}): Promise<void> {
    const clipped = this.#clip(range);
    if (
      this.bitmap.nextDirty(clipped.offset, clipped.offset + clipped.bytes) < 0 &&
      !this.inFlight.overlaps(clipped)
    )
      return;
    const pass = this.start(clipped, options);
    await pass.done;
    if (pass.broken) throw pass.broken;
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
    assert(start < end, "cluster within the disk");
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
    assert(found.bytes > 0, "a look finds something");
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
