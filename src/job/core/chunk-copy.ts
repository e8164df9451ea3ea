/**
 * A job that goes through its nodes once, chunk by chunk: stream and intermediate commit. Up to eight chunks are under
 * way at a time; their results are taken in order, so that errors and progress are those of one chunk after the other.
 *
 * Invariants: no chunk is under way while the job is paused or after run(); what of a chunk failed is looked at anew when it is
 * tried again, and nothing else of it. Source: behaviour of QEMU 7.2's stream and commit.
 */
import { assert } from "../../base/assert.ts";
import { KiB, MiB } from "../../base/limits.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { ChunkSize } from "../../block/copy/chunk-size.ts";
import { type FailedRange, failedGranules } from "../../block/copy/pieces.ts";
import { CopyError, copyClusterSize } from "../../block/copy/range-copy.ts";
import { Window, type Work } from "../../block/copy/window.ts";
import { recoverStorage } from "../../block/graph/recover.ts";
import type { BlockNode, Child } from "../../block/model/node.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import { BlockJob } from "./block-job.ts";
import type { OnError } from "./error-policy.ts";

/** Most bytes of a chunk at first, as of QEMU's, and of a job with a speed limit. */
const chunkBytes = 512 * KiB;
/** The same over a slow link. */
const slowChunkBytes = 128 * KiB;

const maxInFlight = 8;
/** Bytes that are copied at once, but for a chunk. */
const maxBytesInFlight = 12 * MiB;

/** How exactly what is left is told, bytes. */
const checkpointGranularity = 64 * KiB;

/** What is known of the bytes from an offset on. */
export interface ChunkLook {
  /** How far it reaches, >= 1. */
  bytes: number;
  /** It must be copied. */
  copy: boolean;
}

/** What follows from a failed range: try it again, go on behind it, or end (by throwing). */
export type ChunkVerdict = "retry" | "skip";

interface Chunk extends ChunkLook, Work<readonly FailedRange[]> {
  offset: number;
  bytes: number;
  /** What of it failed. Never rejects: a broken invariant is told as a failure of all, and no policy takes it. */
  result: Promise<readonly FailedRange[]>;
}

/** The common loop. */
export abstract class ChunkJob extends BlockJob {
  readonly #chunks = new Window<Chunk>({ works: maxInFlight });
  readonly #size = new ChunkSize(chunkBytes, slowChunkBytes);
  /** All before it is copied; undefined: nothing was begun. */
  #position: number | undefined;
  #passedOver = false;

  /** The node that is read. @internal */
  protected abstract get source(): BlockNode;
  /** The edge that is written to. @internal */
  protected abstract get target(): Child;
  /** Finds out about up to `bytes` bytes. @internal */
  protected abstract look(offset: number, bytes: number): Promise<ChunkLook>;
  /** Copies a chunk. @internal */
  protected abstract copy(offset: number, bytes: number): Promise<void>;
  /** The job's policy. @internal */
  protected abstract get onError(): OnError;

  /** @internal */
  override get errorPolicies(): { readonly source: OnError } {
    return { source: this.onError };
  }
  /** Decides on a failed range; throws to end the job. @internal */
  protected abstract failed(error: unknown): ChunkVerdict;

  /** Goes through `length` bytes, again after a failed flush, until all is durable. Returns early when the job is cancelled. @internal */
  protected async copyAll(length: number): Promise<void> {
    const left = this.companion?.resume?.nextDirty(0) ?? 0;
    let from = left < 0 ? length : left;
    let whole = false;
    while (!whole && !this.isCancelled) {
      whole = (await this.#goThrough(from, length)) && (await this.#flush());
      // What a failed flush may have lost is from everywhere.
      from = 0;
    }
  }

  /** @internal */
  override outstanding(): Bitmap | undefined {
    const { length } = this.source;
    if (this.#position === undefined) return undefined;
    const left = new Bitmap(length, checkpointGranularity, this.graph.kernels);
    const from = Math.min(this.#position, length);
    left.set(from, length - from);
    return left;
  }

  /** @internal */
  override get written(): Child {
    return this.target;
  }

  /** Goes through once. False: a failed flush may have lost what came before. */
  async #goThrough(from: number, length: number): Promise<boolean> {
    this.#position = from;
    this.counter.setRemaining(length - from);
    let [delayMs, tryAgain] = [0, false];
    try {
      for (let done = from; done < length;) {
        await this.sleep(delayMs);
        if (this.isCancelled) return true;
        if (tryAgain && (await this.#recover())) return false;
        if (tryAgain) await this.#tryFailedAgain();
        tryAgain = false;
        if (this.companion) await this.companion.room(this);
        await this.#fill(done, length);
        const chunk = this.#chunks.oldest;
        assert(chunk?.offset === done, "chunks in order");
        const failed = await chunk.result;
        delayMs = 0;
        if (failed.length > 0 && this.isCancelled) return true;
        if ((await this.#decide(failed)) === "retry") {
          if (!this.userPaused) delayMs = this.backoff.failed();
          tryAgain = true;
          continue;
        }
        this.#chunks.end(chunk);
        done += chunk.bytes;
        // Behind what was passed over nothing counts: it is to be copied yet.
        if (failed.length > 0) this.#passedOver = true;
        if (!this.#passedOver) this.#position = done;
        this.counter.done(chunk.bytes);
        if (failed.length === 0) this.backoff.progress();
        if (chunk.copy) delayMs = this.rateDelayMs(chunk.bytes);
      }
      return true;
    } finally {
      await this.#chunks.settled();
      for (const chunk of [...this.#chunks.works]) this.#chunks.end(chunk);
    }
  }

  /** Makes all durable, under the job's policy. False: it has to be gone through again. */
  async #flush(): Promise<boolean> {
    if (this.isCancelled) return true;
    try {
      await this.target.flush();
      return true;
    } catch (error) {
      if (this.failed(new CopyError("write", error)) === "skip") return true;
      await this.sleep(this.userPaused ? 0 : this.backoff.failed());
      if (!this.isCancelled) await this.#recover();
      return false;
    }
  }

  /** Makes the target's storage believable again. Returns whether anything is to be written again. */
  async #recover(): Promise<boolean> {
    try {
      return await recoverStorage(this.target.node);
    } catch (error) {
      this.failed(new CopyError("write", error));
      return true;
    }
  }

  /** @internal */
  protected override pauseHook(): Promise<void> | void {
    if (this.#chunks.size > 0) return this.#chunks.settled();
  }

  async #fill(done: number, length: number): Promise<void> {
    const most = this.speed > 0 || !this.#size.allowsSeveral ? 1 : maxInFlight;
    let next = done;
    for (const chunk of this.#chunks.works) next = chunk.offset + chunk.bytes;
    while (next < length && this.#chunks.size < most && this.#bytesInFlight < maxBytesInFlight) {
      const chunk = await this.#begin(next, length - next);
      assert(chunk.bytes > 0 && next + chunk.bytes <= length, "chunk within the disk");
      this.#chunks.add(chunk);
      next += chunk.bytes;
      if (this.pauseCount > 0 || this.isCancelled) return;
    }
  }

  /** Bytes of the chunks that are copied. */
  get #bytesInFlight(): number {
    let sum = 0;
    for (const { copy, bytes } of this.#chunks.works) if (copy) sum += bytes;
    return sum;
  }

  async #begin(offset: number, bytes: number): Promise<Chunk> {
    try {
      const found = await this.look(offset, bytes);
      const chunk = { offset, copy: found.copy, bytes: Math.min(found.bytes, bytes) };
      if (!chunk.copy) return { ...chunk, result: Promise.resolve([]) };
      chunk.bytes = Math.min(chunk.bytes, this.speed > 0 ? chunkBytes : this.#size.bytes);
      return { ...chunk, result: this.#failuresOf(chunk, this.#timed(offset, chunk.bytes)) };
    } catch (error) {
      const chunk = { offset, copy: false, bytes: Math.min(bytes, chunkBytes) };
      return { ...chunk, result: this.#split(chunk, error) };
    }
  }

  /** Copies a chunk; how long it took says how large the next ones are. */
  async #timed(offset: number, bytes: number): Promise<void> {
    const { clock } = this.graph.host;
    const from = clock.nowMs();
    await this.copy(offset, bytes);
    this.#size.took(bytes, clock.nowMs() - from);
  }

  async #failuresOf(range: ByteRange, copying: Promise<void>): Promise<readonly FailedRange[]> {
    try {
      await copying;
      return [];
    } catch (error) {
      return this.#split(range, error);
    }
  }

  /** Copies all of a failed range but the granules that fail again. */
  async #split(range: ByteRange, error: unknown): Promise<readonly FailedRange[]> {
    try {
      return await failedGranules(range, error, {
        granule: Math.min(copyClusterSize(this.target).bytes, chunkBytes),
        copy: (part) => this.#lookAndCopy(part),
        // A pause waits for no search: what was not tried counts as failed, and is tried again.
        goesOn: (last) => this.pauseCount === 0 && !this.isCancelled && !this.isFatal(this.onError, last),
      });
    } catch (broken) {
      return [{ offset: range.offset, bytes: range.bytes, error: broken }];
    }
  }

  async #lookAndCopy({ offset, bytes }: ByteRange): Promise<void> {
    const end = offset + bytes;
    for (let at = offset; at < end;) {
      const found = await this.look(at, end - at);
      const length = Math.min(found.bytes, end - at);
      if (found.copy) await this.copy(at, length);
      at += length;
    }
  }

  /** Asks the policy about one failed range after the other. Before one is tried again, all that is under way is waited for. */
  async #decide(failed: readonly FailedRange[]): Promise<ChunkVerdict> {
    for (const { offset, bytes, error } of failed) {
      this.failingRange = { node: this.source.name, offset, bytes };
      if (this.failed(error) === "skip") continue;
      await this.#chunks.settled();
      return "retry";
    }
    return "skip";
  }

  /** What failed of the chunks is tried again, whether the policy was asked about it or not; what was copied stays so. */
  async #tryFailedAgain(): Promise<void> {
    for (const chunk of [...this.#chunks.works]) {
      const failed = await chunk.result;
      if (failed.length > 0) chunk.result = this.#again(failed);
    }
  }

  async #again(ranges: readonly ByteRange[]): Promise<readonly FailedRange[]> {
    const failed: FailedRange[] = [];
    for (const range of ranges) failed.push(...(await this.#failuresOf(range, this.#lookAndCopy(range))));
    return failed;
  }
}
