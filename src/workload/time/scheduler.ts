/**
 * Virtual time. Everything that will happen stands in one queue; between two entries all microtasks run, and all that the
 * platform does in a time of its own (reading a file, inflating a cluster) comes to its end, so that the order of everything
 * follows from the seed alone.
 *
 * Invariants: no real clock is read; time never goes back; entries of one time happen in the order in which they were made.
 */
import { macrotask } from "./macrotask.ts";

interface Entry {
  atMs: number;
  order: number;
  callback: () => void;
  live: boolean;
}

/** How long `settle` goes on. */
export interface SettleLimits {
  /** Virtual milliseconds; default: no end. */
  limitMs?: number;
  /** Entries that may happen; default: no end. */
  maxSteps?: number;
}

/** The queue of all that will happen. */
export class Scheduler {
  readonly #heap: Entry[] = [];
  #order = 0;
  #live = 0;
  #outside = 0;
  #outsideEnded: (() => void) | undefined;
  /** Virtual milliseconds since the start. */
  nowMs = 0;
  /** Entries that have happened. */
  steps = 0;

  /** Entries that still wait. */
  get pending(): number {
    return this.#live;
  }

  /** Has `callback` called in `delayMs`; the returned function cancels that. */
  after(delayMs: number, callback: () => void): () => void {
    const entry = { atMs: this.nowMs + delayMs, order: this.#order++, callback, live: true };
    this.#push(entry);
    this.#live += 1;
    return () => {
      if (!entry.live) return;
      entry.live = false;
      this.#live -= 1;
    };
  }

  /** Resolves in `delayMs`. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /** Work of the platform, which takes a time of its own: virtual time stands still until it has ended. */
  outside<T>(work: Promise<T>): Promise<T> {
    this.#outside += 1;
    const end = (): void => {
      this.#outside -= 1;
      if (this.#outside === 0) this.#outsideEnded?.();
    };
    work.then(end, end);
    return work;
  }

  /** Lets time go on until the promise settles. Rejects when nothing is left to happen, or beyond the limits. */
  async settle<T>(
    promise: Promise<T>,
    { limitMs = Infinity, maxSteps = Infinity }: SettleLimits,
  ): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    const endMs = this.nowMs + limitMs;
    const endStep = this.steps + maxSteps;
    for (;;) {
      await this.#quiet();
      if (settled) return promise;
      if (!this.step()) throw new Error(`stuck at ${this.nowMs} ms: nothing is left that could happen`);
      if (this.nowMs > endMs) throw new Error(`not done after ${limitMs} virtual milliseconds`);
      if (this.steps > endStep) throw new Error(`not done after ${maxSteps} steps`);
    }
  }

  /** Resolves when all microtasks have run and nothing of the platform's is under way. */
  async #quiet(): Promise<void> {
    await macrotask();
    while (this.#outside > 0) {
      await new Promise<void>((resolve) => (this.#outsideEnded = resolve));
      await macrotask();
    }
  }

  /** Nothing of what waits will happen: the power is cut. */
  forget(): void {
    this.#heap.length = 0;
    this.#live = 0;
  }

  /** Makes the next thing happen; false if there is none. */
  step(): boolean {
    for (let entry = this.#pop(); entry; entry = this.#pop()) {
      if (!entry.live) continue;
      entry.live = false;
      this.#live -= 1;
      this.steps += 1;
      this.nowMs = Math.max(this.nowMs, entry.atMs);
      entry.callback();
      return true;
    }
    return false;
  }

  #push(entry: Entry): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(entry);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!before(entry, heap[up]!)) break;
      heap[at] = heap[up]!;
      at = up;
    }
    heap[at] = entry;
  }

  #pop(): Entry | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (!top || !last || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && before(heap[down + 1]!, heap[down]!)) down += 1;
      if (!before(heap[down]!, last)) break;
      heap[at] = heap[down]!;
      at = down;
    }
    heap[at] = last;
    return top;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order);
}
