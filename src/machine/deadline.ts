/**
 * A deadline for the requests of a guest's disk. One timer serves them all: it waits for the oldest request that is under
 * way, so that a request which is answered in time costs no timer of its own.
 *
 * Invariants: each request is late at most once; no timer waits while `limitMs` is 0 or after stop().
 */
import type { Clock } from "../base/host.ts";

interface Watched<T> {
  readonly what: T;
  /** When its time began, ms of the clock. */
  since: number;
}

/** Watches over requests under way. */
export class Deadline<T> {
  readonly #clock: Clock;
  readonly #limitMs: number;
  readonly #late: (what: T) => void;
  /** In the order in which their time began. */
  readonly #watched = new Set<Watched<T>>();
  #cancel: (() => void) | undefined;

  /** `late` is told of each request that is still under way after `limitMs` (0: of none). */
  constructor(clock: Clock, limitMs: number, late: (what: T) => void) {
    this.#clock = clock;
    this.#limitMs = limitMs;
    this.#late = late;
  }

  /** Waits for the request. It may be late and answered all the same. */
  async watch<R>(what: T, request: Promise<R>): Promise<R> {
    if (this.#limitMs === 0) return request;
    const watched = { what, since: this.#clock.nowMs() };
    this.#watched.add(watched);
    if (!this.#cancel) this.#arm(this.#limitMs);
    try {
      return await request;
    } finally {
      this.#watched.delete(watched);
    }
  }

  /** Gives every request under way, also a late one, its full time again. */
  restart(): void {
    const now = this.#clock.nowMs();
    for (const watched of this.#watched) watched.since = now;
    if (!this.#cancel && this.#watched.size > 0) this.#arm(this.#limitMs);
  }

  /** Nobody is late any more. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#watched.clear();
  }

  #arm(delayMs: number): void {
    this.#cancel = this.#clock.timer(delayMs, () => this.#look());
  }

  #look(): void {
    this.#cancel = undefined;
    const now = this.#clock.nowMs();
    const late: T[] = [];
    for (const watched of this.#watched) {
      const left = watched.since + this.#limitMs - now;
      if (left === Infinity) continue;
      if (left > 0) {
        this.#arm(left);
        break;
      }
      watched.since = Infinity;
      late.push(watched.what);
    }
    for (const what of late) this.#late(what);
  }
}
