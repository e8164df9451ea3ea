/**
 * The window of work of all that copies or compares: a few works under way at once, within a number and a sum of bytes. A
 * mirror and a point-in-time copy take what has ended in any order; streams, commits, convert and compare in that of its start.
 *
 * Invariants: a work has its place from add() to end(), and no other; one alone always has room, however large it is; what a
 * work of run() rejects with, which is nobody's error but ours, is told by the next wait. When a Pipeline has rejected, no task
 * of it is under way any more.
 */
import { type Answer, guarded, isPromise } from "../../base/answer.ts";
import { assert } from "../../base/assert.ts";
import type { Host } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import { Wakeup } from "../../base/signals.ts";

/** Something under way. */
export interface Work<T = void> {
  /** What it counts for, >= 0; does not change while it is in a window. */
  readonly bytes: number;
  /** Settles when it has ended. */
  readonly result: Promise<T>;
}

/** What a window holds at most. */
export interface WindowLimits {
  /** Works, >= 1. */
  readonly works: number;
  /** Called when the last work has ended. */
  onEmpty?(): void;
}

/** Works under way, the oldest first. */
export class Window<W extends Work<unknown> = Work> {
  readonly #limits: WindowLimits;
  readonly #works = new Set<W>();
  readonly #changed = new Wakeup();
  #bytes = 0;
  #broken: { error: unknown } | undefined;

  constructor(limits: WindowLimits) {
    assert(limits.works >= 1, "no room for any");
    this.#limits = limits;
  }

  /** Works that have a place. */
  get size(): number {
    return this.#works.size;
  }

  /** Their bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The works, the oldest first; of a window that does not change meanwhile. */
  get works(): IterableIterator<W> {
    return this.#works.values();
  }

  /** The work that began first. */
  get oldest(): W | undefined {
    return this.#works.values().next().value;
  }

  /** Whether a work of at most so many bytes may begin, where all together may have `most`. */
  hasRoom(bytes = 0, most = Infinity): boolean {
    return this.size === 0 || (this.size < this.#limits.works && this.#bytes + bytes <= most);
  }

  /** Gives a work its place, which it keeps when it has ended, until end(). */
  add(work: W): void {
    assert(this.hasRoom(), "more works are under way");
    assert(!this.#works.has(work) && work.bytes >= 0, "a work begins once");
    this.#works.add(work);
    this.#bytes += work.bytes;
  }

  /** Takes a work's place from it. */
  end(work: W): void {
    assert(this.#works.delete(work), "a work ended that was not under way");
    this.#bytes -= work.bytes;
    assert(this.size > 0 || this.#bytes === 0, "an empty window of work counts bytes");
    this.wake();
    if (this.size === 0) this.#limits.onEmpty?.();
  }

  /** Gives a work that deals with its own errors its place until its result is there; `ended` is called just before it goes. */
  run(work: W, ended: () => void): void {
    this.add(work);
    const end = (): void => {
      ended();
      this.end(work);
    };
    work.result.then(end, (error: unknown) => {
      this.#broken ??= { error };
      end();
    });
  }

  /** Ends every wait(), so that whoever waits looks again. */
  wake(): void {
    this.#changed.wake();
  }

  /** Until a work ends, or wake(). */
  async wait(): Promise<void> {
    await this.#changed.wait();
    this.#check();
  }

  /** Until another work may begin. */
  async room(): Promise<void> {
    while (!this.hasRoom()) await this.wait();
    this.#check();
  }

  /** Until no work has a place. */
  async empty(): Promise<void> {
    await this.#changed.until(() => this.size === 0);
    this.#check();
  }

  /** Waits for the results of all, whatever they are; none loses its place. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#works].map(({ result }) => result));
  }

  #check(): void {
    if (this.#broken) throw this.#broken.error;
  }
}

/** A few tasks at once, their results in order: what compare and convert are made of. */
export class Pipeline<T> {
  readonly #depth: number;
  readonly #window: Window<Work<T>>;
  readonly #take: (result: T) => void;

  /** At most `depth` (>= 1) tasks at once; `take` gets each result in the order of pushing. */
  constructor(depth: number, take: (result: T) => void) {
    this.#depth = depth;
    this.#window = new Window({ works: depth });
    this.#take = take;
  }

  /**
   * Starts a task when there is room; one that answers at once is over then, and is taken at once if none is before it.
   * Fails, by rejecting, with the first failure, in order, or what `take` threw.
   */
  push(task: () => Answer<T>): Answer<void> {
    if (!this.#window.hasRoom()) return this.#next().then(() => this.push(task));
    const running = guarded(task);
    if (this.#window.size === 0 && (this.#depth === 1 || !isPromise(running)))
      return isPromise(running) ? running.then((result) => this.#take(result)) : this.#take(running);
    const result = Promise.resolve(running);
    // It is looked at in its turn.
    result.catch(() => undefined);
    this.#window.add({ bytes: 0, result });
  }

  /** Waits for all tasks. Rejects as push(). */
  async drain(): Promise<void> {
    while (this.#window.size > 0) await this.#next();
  }

  /** Waits for all tasks whatever becomes of them. */
  async settle(): Promise<void> {
    for (let work = this.#window.oldest; work; work = this.#window.oldest) {
      await work.result.catch(() => undefined);
      this.#window.end(work);
    }
  }

  async #next(): Promise<void> {
    try {
      const work = this.#window.oldest;
      assert(work, "somebody works");
      const result = await work.result;
      this.#window.end(work);
      this.#take(result);
    } catch (error) {
      await this.settle();
      throw error;
    }
  }
}

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
 * two wait for each other. Elsewhere a third is asked for while one is written.
 */
export function piecesFor(host: Host): Pieces {
  return host.files.inTurn ? { bytes: 8 * MiB, atOnce: 2 } : { bytes: 4 * MiB, atOnce: 3 };
}

/** Those that the host goes through by itself: each is gone through by all its threads, and the next is there as one ends. */
export const piecesOfFiles: Pieces = { bytes: 16 * MiB, atOnce: 2 };
