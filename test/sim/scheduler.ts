// Virtual time. Everything that will happen stands in one queue; between two entries all microtasks run, so that the
// order of everything follows from the seed alone. No real clock is read.

interface Entry {
  atMs: number;
  order: number;
  callback: () => void;
  live: boolean;
}

/** Resolves in a task of its own, when all microtasks have run. */
export function macrotask(): Promise<void> {
  return new Promise((resolve) => {
    if (typeof setImmediate === "function") setImmediate(resolve);
    else onMessage(resolve);
  });
}

function onMessage(resolve: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    resolve();
  };
  port2.postMessage(0);
}

/** The queue of all that will happen. */
export class Scheduler {
  readonly #heap: Entry[] = [];
  #order = 0;
  #live = 0;
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

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => {
      this.after(delayMs, resolve);
    });
  }

  /** Lets time go on until the promise settles. Rejects when nothing is left to happen, or after `limitMs` or `maxSteps`. */
  async settle<T>(promise: Promise<T>, limits: { limitMs: number; maxSteps: number }): Promise<T> {
    let settled = false;
    const mark = (): void => {
      settled = true;
    };
    promise.then(mark, mark);
    const endMs = this.nowMs + limits.limitMs;
    const endStep = this.steps + limits.maxSteps;
    for (;;) {
      await macrotask();
      if (settled) return promise;
      if (!this.step()) throw new Error(`stuck at ${this.nowMs} ms: nothing is left that could happen`);
      if (this.nowMs > endMs) throw new Error(`not done after ${limits.limitMs} virtual milliseconds`);
      if (this.steps > endStep) throw new Error(`not done after ${limits.maxSteps} steps`);
    }
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
