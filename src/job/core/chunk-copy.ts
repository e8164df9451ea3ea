/**
 * A job that goes through its nodes once, chunk by chunk: stream and intermediate commit. Up to eight chunks are under
 * way at a time; their results are taken in order, so that errors and progress are those of one chunk after the other.
 *
 * Invariants: no chunk is under way while the job is paused or after run(); a chunk that is tried again is looked at
 * anew. Source: behaviour of QEMU 7.2's stream and commit.
 */
import { KiB } from "../../base/limits.ts";
import { CopyError } from "../../block/copy/range-copy.ts";
import { recoverStorage } from "../../block/graph/recover.ts";
import type { BlockNode, Child } from "../../block/model/node.ts";
import { BlockJob } from "./block-job.ts";

/** Most bytes that are copied at once. */
export const chunkBytes = 512 * KiB;

const maxInFlight = 8;

/** What is known of the bytes from an offset on. */
export interface ChunkLook {
  /** How far it reaches, >= 1. */
  bytes: number;
  /** It must be copied. */
  copy: boolean;
}

/** What follows from a failed chunk: try it again, go on behind it, or end (by throwing). */
export type ChunkVerdict = "retry" | "skip";

interface Chunk extends ChunkLook {
  offset: number;
  /** Resolves to the error, if one. Never rejects. */
  result: Promise<unknown>;
}

/** The common loop. */
export abstract class ChunkJob extends BlockJob {
  #chunks: Chunk[] = [];

  /** The node that is read. */
  protected abstract get source(): BlockNode;
  /** The edge that is written to. */
  protected abstract get target(): Child;
  /** Finds out about up to `bytes` bytes. */
  protected abstract look(offset: number, bytes: number): Promise<ChunkLook>;
  /** Copies a chunk. */
  protected abstract copy(offset: number, bytes: number): Promise<void>;
  /** Decides on a failed chunk; throws to end the job. */
  protected abstract failed(error: unknown): ChunkVerdict;

  /** Goes through `length` bytes, again after a failed flush, until all is durable. Returns early when the job is cancelled. */
  protected async copyAll(length: number): Promise<void> {
    let whole = false;
    while (!whole && !this.isCancelled) whole = (await this.#goThrough(length)) && (await this.#flush());
  }

  /** Goes through once. False: a failed flush may have lost what came before. */
  async #goThrough(length: number): Promise<boolean> {
    this.progress.setRemaining(length);
    let delayMs = 0;
    let tryAgain = false;
    try {
      for (let done = 0; done < length;) {
        await this.sleep(delayMs);
        if (this.isCancelled) return true;
        if (tryAgain && (await this.#recover())) return false;
        tryAgain = false;
        await this.#fill(done, length);
        const chunk = this.#chunks[0]!;
        const error = await chunk.result;
        delayMs = 0;
        if (error !== undefined && this.isCancelled) return true;
        if (error !== undefined && (await this.#decide(error, chunk)) === "retry") {
          if (!this.userPaused) delayMs = this.backoff.failed();
          tryAgain = true;
          continue;
        }
        this.#chunks.shift();
        done += chunk.bytes;
        this.progress.done(chunk.bytes);
        if (error === undefined) this.backoff.progress();
        if (chunk.copy) delayMs = this.rateDelayMs(chunk.bytes);
      }
      return true;
    } finally {
      await this.#settle();
      this.#chunks = [];
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

  protected override pauseHook(): Promise<void> | void {
    if (this.#chunks.length > 0) return this.#settle();
  }

  async #fill(done: number, length: number): Promise<void> {
    const most = this.speed > 0 ? 1 : maxInFlight;
    const last = this.#chunks.at(-1);
    let next = last ? last.offset + last.bytes : done;
    while (next < length && this.#chunks.length < most) {
      const chunk = await this.#begin(next, length - next);
      this.#chunks.push(chunk);
      next += chunk.bytes;
      if (this.pauseCount > 0 || this.isCancelled) return;
    }
  }

  async #begin(offset: number, bytes: number): Promise<Chunk> {
    try {
      const found = await this.look(offset, bytes);
      const chunk = { offset, copy: found.copy, bytes: Math.min(found.bytes, bytes) };
      if (!chunk.copy) return { ...chunk, result: Promise.resolve(undefined) };
      chunk.bytes = Math.min(chunk.bytes, chunkBytes);
      const result = this.copy(offset, chunk.bytes).then(
        () => undefined,
        (error: unknown) => error ?? new Error("failed"),
      );
      return { ...chunk, result };
    } catch (error) {
      return { offset, copy: false, bytes: Math.min(bytes, chunkBytes), result: Promise.resolve(error) };
    }
  }

  /** Before a chunk is tried again, those behind it are waited for and forgotten. */
  async #decide(error: unknown, { offset, bytes }: Chunk): Promise<ChunkVerdict> {
    this.failingRange = { node: this.source.name, offset, bytes };
    const verdict = this.failed(error);
    if (verdict === "retry") {
      await this.#settle();
      this.#chunks = [];
    }
    return verdict;
  }

  async #settle(): Promise<void> {
    await Promise.all(this.#chunks.map((chunk) => chunk.result));
  }
}
