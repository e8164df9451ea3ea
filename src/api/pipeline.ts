/**
 * A few tasks at once, their results in order: what compare and convert are made of. Invariant: when `drain` or `push` has
 * rejected, no task is under way any more.
 */

import { type Answer, guarded, isPromise } from "../base/answer.ts";
import type { Host } from "../base/host.ts";
import { MiB } from "../base/limits.ts";

/** How whole disks are gone through. */
export interface Pieces {
  /** Bytes that are read at once. */
  readonly bytes: number;
  /** Pieces under way at once. */
  readonly atOnce: number;
}

/**
 * The pieces for disks in files of `host`. Where requests are done in the caller's turn the large reads are not: two pieces
 * let the other processor read one while this one writes or compares the other, and the larger they are, the seldomer the
 * two wait for each other.
 */
export function piecesFor(host: Host): Pieces {
  return host.files.inTurn ? { bytes: 8 * MiB, atOnce: 2 } : { bytes: 2 * MiB, atOnce: 4 };
}

/** Runs tasks with bounded parallelism. */
export class Pipeline<T> {
  readonly #depth: number;
  readonly #take: (result: T) => void;
  #running: Promise<T>[] = [];

  /** At most `depth` (>= 1) tasks at once; `take` gets each result in the order of pushing. */
  constructor(depth: number, take: (result: T) => void) {
    this.#depth = depth;
    this.#take = take;
  }

  /**
   * Starts a task when there is room; one that answers at once is over then, and is taken at once if none is before it.
   * Fails, by rejecting, with the first failure, in order, or what `take` threw.
   */
  push(task: () => Answer<T>): Answer<void> {
    if (this.#running.length >= this.#depth) return this.#next().then(() => this.push(task));
    const running = guarded(task);
    if (this.#running.length === 0 && (this.#depth === 1 || !isPromise(running)))
      return isPromise(running) ? running.then((result) => this.#take(result)) : this.#take(running);
    const later = Promise.resolve(running);
    // It is looked at in its turn.
    later.catch(() => undefined);
    this.#running.push(later);
  }

  /** Waits for all tasks. Rejects as push(). */
  async drain(): Promise<void> {
    while (this.#running.length > 0) await this.#next();
  }

  /** Waits for all tasks whatever becomes of them. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#running);
    this.#running = [];
  }

  async #next(): Promise<void> {
    try {
      const result = await this.#running[0]!;
      this.#running = this.#running.slice(1);
      this.#take(result);
    } catch (error) {
      await this.settle();
      throw error;
    }
  }
}
