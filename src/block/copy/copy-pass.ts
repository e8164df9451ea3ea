/**
 * One pass over the dirty clusters of a BlockCopy: bounded parallel requests, a rate limit, and every failed cluster back
 * into the bitmap. The first task that fails decides the pass's error; what is in flight then finishes, and of a failed task
 * all but the clusters that fail.
 * Source: behaviour of QEMU 7.2's block-copy.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import type { Clock } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { type ByteRange, alignDown, alignUp, type RangeLock } from "../../base/ranges.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import { DirtyCursor } from "../bitmap/dirty-cursor.ts";
import { ChunkSize } from "./chunk-size.ts";
import { failedGranules } from "./pieces.ts";
import { CopyError, type CopyExtent, type RangeCopier } from "./range-copy.ts";
import { Window, type Work } from "./window.ts";

/** Copies that one pass runs at once, unless told otherwise. */
export const MAX_COPY_WORKERS = 64;

/** Data that one pass has in flight at most (one request may be larger), bytes; and larger requests. */
const MAX_BYTES_IN_FLIGHT = 8 * MiB;
const MAX_LARGE_IN_FLIGHT = 4;

/** A guest that has written within this time is in the way of large requests, ms. */
const GUEST_QUIET_MS = 1000;

/** Largest run of zeroes that is written at once without a rate limit, bytes. */
const MAX_ZERO_BYTES = 128 * MiB;

/** How far a pass asks for the block status ahead, bytes. */
const STATUS_REACH = 1024 * MiB;

/** How one pass works. */
export interface CopyPassOptions {
  /** Copies at once, >= 1; default MAX_COPY_WORKERS. */
  maxWorkers?: number;
  /** Largest data request, bytes, at least a cluster; 0 or absent: no limit beyond the copier's. */
  maxChunk?: number;
  /** Neither waits for nor counts against the rate limit, and never waits for memory (copy-before-write). */
  urgent?: boolean;
  /** Whether the user of the pass ends with this error, so that nothing of the failed range is to be tried again; default: no. */
  isFatal?: (error: CopyError) => boolean;
}

/** Told how a copy gets on. */
export interface CopyProgress {
  /** `bytes` more were copied. */
  done(bytes: number): void;
  /** What is still to be copied or being copied, bytes in whole clusters. */
  remaining(bytes: number): void;
}

/** A rate limit. */
export interface CopyRateLimit {
  /** Whether there is a limit now. */
  isActive(): boolean;
  /** Counts `bytes` and answers how long to wait before the next request, ms (0: not at all). */
  delayMs(bytes: number): number;
}

/** What has become of clusters since a copy began; bitmaps of its length and clusters. */
export interface CopyHistory {
  /** Copied to the target. */
  readonly written: Bitmap;
  /** Changed at the source afterwards. */
  readonly overwritten: Bitmap;
}

/** The copy that a pass works on (block-copy.ts). */
export interface CopyState {
  readonly copier: RangeCopier;
  /** Unit of copying, bytes. */
  readonly clusterSize: number;
  readonly clock: Clock;
  /** What is still to be copied, by clusters, and a number that grows with each of its changes. */
  readonly bitmap: Bitmap;
  readonly generation: number;
  readonly inFlight: RangeLock;
  /** Bytes to be copied or being copied, in whole clusters. */
  readonly remaining: number;
  /** Clusters that the source's own layer does not hold are left out. */
  readonly skipUnallocated: boolean;
  readonly progress: CopyProgress | undefined;
  readonly rateLimit: CopyRateLimit | undefined;
  /** Kept for whoever wants to know. */
  readonly history: CopyHistory | undefined;
  /** Called with what was copied for good, before it counts as done; does not reject. */
  readonly onCopied: ((range: ByteRange) => Promise<void>) | undefined;
  /** When a pass in a guest's way last began, by the clock. */
  urgentMs: number;
  markDirty(range: ByteRange): void;
  markClean(range: ByteRange): void;
}

interface Known extends CopyExtent {
  offset: number;
}

/** One pass over a range. It never rejects: look at `error` and `cancelled` when `done` has resolved. */
export class CopyPass {
  readonly #copy: CopyState;
  readonly #range: ByteRange;
  readonly #cursor: DirtyCursor;
  readonly #size: ChunkSize;
  readonly #urgent: boolean;
  readonly #isFatal: (error: CopyError) => boolean;
  readonly #window: Window<Work>;
  #known: Known | undefined;
  /** Resolves when the pass and all of its requests have ended. */
  readonly done: Promise<void>;
  finished = false;
  cancelled = false;
  /** The first task that failed. */
  error: CopyError | undefined;
  /** A broken invariant that a task met: no error of a side, and no matter of a policy. */
  broken: AssertionError | undefined;

  /** Made by BlockCopy.start. */
  constructor(copy: CopyState, range: ByteRange, options: CopyPassOptions) {
    this.#copy = copy;
    this.#range = range;
    this.#cursor = new DirtyCursor(copy, range);
    this.#window = new Window({ works: Math.max(1, options.maxWorkers ?? MAX_COPY_WORKERS) });
    this.#urgent = options.urgent ?? false;
    if (this.#urgent) copy.urgentMs = copy.clock.nowMs();
    // The guest's write fails at once, whatever else of its clusters could be copied.
    this.#isFatal = this.#urgent ? () => true : (options.isFatal ?? (() => false));
    const least = this.#chunk(options.maxChunk ?? 0);
    const isFixed = this.#urgent || copy.copier.compress || (options.maxChunk ?? 0) > 0;
    this.#size = isFixed ? new ChunkSize(least, least, least) : new ChunkSize(least);
    this.done = this.#run()
      .catch((error: unknown) => this.#end(error))
      .finally(() => {
        this.finished = true;
      });
  }

  /** Starts nothing new; requests in flight finish. */
  cancel(): void {
    this.cancelled = true;
    this.kick();
  }

  /** Cancels a pass that still runs. */
  cancelUnlessFinished(): void {
    if (!this.finished) this.cancel();
  }

  /** Looks at the rate limit again. */
  kick(): void {
    this.#window.wake();
  }

  #chunk(maxChunk: number): number {
    const { copier, clusterSize } = this.#copy;
    if (copier.compress) return clusterSize;
    const most = maxChunk > 0 ? Math.min(maxChunk, MiB) : MiB;
    return Math.max(clusterSize, alignDown(most, clusterSize));
  }

  get #stopped(): boolean {
    return this.cancelled || this.error !== undefined || this.broken !== undefined;
  }

  async #run(): Promise<void> {
    for (let more = true; more && !this.#stopped;) {
      more = await this.#sweep();
      // What others copy in the range is waited for too; it may come back dirty.
      if (!this.#stopped && (await this.#copy.inFlight.waitOne(this.#range))) more = true;
    }
  }

  /** The pass itself has met a broken invariant: what is under way is waited for. */
  async #end(error: unknown): Promise<void> {
    if (!(error instanceof AssertionError)) throw error;
    this.broken ??= error;
    await this.#window.settled();
  }

  /** Starts a task for everything that is dirty and waits for all of them. Says whether there was anything. */
  async #sweep(): Promise<boolean> {
    this.#cursor.rewind();
    let found = false;
    while (!this.#stopped) {
      const extent = this.#cursor.peek();
      if (!extent) break;
      found = true;
      if (!this.#hasRoom()) await this.#window.wait();
      else if (this.#delayMs > 0) await this.#sleep(this.#delayMs);
      else if (!this.#knows(extent.offset)) this.#known = await this.#learn(extent);
      else this.#startTask(extent);
    }
    await this.#window.empty();
    return found;
  }

  /** Whether another request may begin. */
  #hasRoom(): boolean {
    const next = this.#maxChunk;
    return this.#window.hasRoom(next, Math.max(MAX_BYTES_IN_FLIGHT, MAX_LARGE_IN_FLIGHT * next));
  }

  /** Largest request of data, bytes. */
  get #maxChunk(): number {
    return this.#limited || this.#isInTheWay ? this.#size.least : this.#size.bytes;
  }

  /** Whether a guest writes: its requests would wait behind large ones. */
  get #isInTheWay(): boolean {
    const { clock, urgentMs } = this.#copy;
    return clock.nowMs() - urgentMs < GUEST_QUIET_MS;
  }

  get #delayMs(): number {
    return this.#urgent ? 0 : (this.#copy.rateLimit?.delayMs(0) ?? 0);
  }

  async #sleep(delayMs: number): Promise<void> {
    const cancel = this.#copy.clock.timer(delayMs, () => this.kick());
    await this.#window.wait();
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
    const known = this.#known;
    assert(known && this.#knows(extent.offset), "what is copied is known");
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
    const held = copy.inFlight.add({ offset, bytes: clusters });
    if (!this.#urgent) copy.rateLimit?.delayMs(range.bytes);
    this.#window.run({ bytes: zero ? 0 : range.bytes, result: this.#work(range, zero) }, () => {
      copy.inFlight.end(held);
      copy.progress?.remaining(copy.remaining);
    });
  }

  get #limited(): boolean {
    return !this.#urgent && (this.#copy.rateLimit?.isActive() ?? false);
  }

  async #work(range: ByteRange, zero: boolean): Promise<void> {
    try {
      await this.#copyRange(range, zero);
      await this.#copy.onCopied?.(range);
      this.#copy.progress?.done(this.#clusters(range));
    } catch (error) {
      await this.#split(range, zero, error);
    }
  }

  async #copyRange(range: ByteRange, zero: boolean): Promise<void> {
    const { copier, history } = this.#copy;
    if (zero) await copier.writeZeroes(range.offset, range.bytes);
    else await this.#copyData(range);
    history?.written.set(range.offset, range.bytes);
  }

  /** Copies data; how long it took says how large the next requests are. */
  async #copyData({ offset, bytes }: ByteRange): Promise<void> {
    const { copier, clock } = this.#copy;
    const from = clock.nowMs();
    await copier.copyData(offset, bytes, this.#urgent);
    this.#size.took(bytes, clock.nowMs() - from);
  }

  #clusters({ bytes }: ByteRange): number {
    return alignUp(bytes, this.#copy.clusterSize);
  }

  /** Copies all of a failed range but the clusters that fail again: those are dirty again, and the first tells its error. */
  async #split(range: ByteRange, zero: boolean, first: unknown): Promise<void> {
    try {
      // At once, so that nothing new is started; what is known of it better later takes its place.
      const known = copyErrorOf(first);
      this.error ??= known;
      const failed = await failedGranules(range, first, {
        granule: this.#copy.clusterSize,
        copy: (part) => this.#copyRange(part, zero),
        goesOn: (last) => !this.cancelled && !this.#isFatal(copyErrorOf(last)),
      });
      const left = failed.reduce((sum, one) => sum + this.#clusters(one), 0);
      assert(left > 0 && left <= this.#clusters(range), "parts within their whole");
      for (const one of failed) this.#copy.markDirty(one);
      for (const part of without(range, failed)) await this.#copy.onCopied?.(part);
      if (this.error === known) this.error = copyErrorOf(failed[0]!.error);
      if (left < this.#clusters(range)) this.#copy.progress?.done(this.#clusters(range) - left);
    } catch (error) {
      this.#copy.markDirty(range);
      if (error instanceof AssertionError) this.broken ??= error;
      else throw error;
    }
  }
}

/** The parts of a range that are in none of `holes`, which lie within it, ascending. */
function without({ offset, bytes }: ByteRange, holes: readonly ByteRange[]): ByteRange[] {
  const starts = [offset, ...holes.map((hole) => hole.offset + hole.bytes)];
  const ends = [...holes.map((hole) => hole.offset), offset + bytes];
  assert(
    ends.every((end, at) => end >= starts[at]!),
    "holes ascend",
  );
  return starts
    .map((start, at) => ({ offset: start, bytes: ends[at]! - start }))
    .filter((part) => part.bytes > 0);
}

function copyErrorOf(error: unknown): CopyError {
  return error instanceof CopyError ? error : new CopyError("write", error);
}
