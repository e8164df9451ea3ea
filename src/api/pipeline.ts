/**
 * A few tasks at once, their results in order: what compare and convert are made of. Invariant: when `drain` or `push` has
 * rejected, no task is under way any more.
 */

import type { Host } from "../base/host.ts";
import { KiB, MiB } from "../base/limits.ts";

/** How whole disks are gone through. */
export interface Pieces {
  /** Bytes that are read at once. */
  readonly bytes: number;
  /** Pieces under way at once. */
  readonly atOnce: number;
}

const pooled: Pieces = { bytes: 2 * MiB, atOnce: 4 };

/**
 * The pieces for comparing disks in files of `host`. Where requests are done in the caller's turn, one at a time is all there
 * can be, and a piece should stay in the second-level cache until it was looked at.
 */
export function comparePieces(host: Host): Pieces {
  return host.files.inTurn ? { bytes: 512 * KiB, atOnce: 1 } : pooled;
}

/** The pieces for copying: large ones are read on the other processor while this one writes. */
export function copyPieces(host: Host): Pieces & {
  /** Shorter pieces are copied at once, which is the cheapest. */
  readonly copyNowBelow: number;
} {
  return host.files.inTurn
    ? { bytes: 8 * MiB, atOnce: 2, copyNowBelow: MiB }
    : { ...pooled, copyNowBelow: 0 };
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

  /** Starts a task when there is room. Rejects with the first failure, in order, or what `take` threw. */
  async push(task: () => Promise<T>): Promise<void> {
    if (this.#depth === 1) {
      this.#take(await task());
      return;
    }
    if (this.#running.length >= this.#depth) await this.#next();
    const running = task();
    // It is looked at in its turn.
    running.catch(() => undefined);
    this.#running.push(running);
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
