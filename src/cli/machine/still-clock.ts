/**
 * The virtual clock of a machine under qtest: it stands still until it is stepped, and then tells those who wait for a moment.
 * Invariant: it never goes back.
 */
import type { VirtualClock } from "../../server/qtest/protocol.ts";

interface Timer {
  readonly at: bigint;
  readonly callback: () => void;
}

const NANOSECONDS_PER_MS = 1_000_000;

/** The clock. */
export class StillClock implements VirtualClock {
  #now = 0n;
  readonly #timers = new Set<Timer>();

  now(): bigint {
    return this.#now;
  }

  /** Milliseconds since the start, for what throttles and counts. */
  nowMs(): number {
    return Number(this.#now) / NANOSECONDS_PER_MS;
  }

  /** Calls back once after so many milliseconds of this clock; the answer cancels it. */
  timer(delayMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + BigInt(Math.ceil(delayMs * NANOSECONDS_PER_MS)), callback };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }

  step(nanoseconds: bigint | undefined): bigint {
    const next = this.#first()?.at;
    return this.set(nanoseconds === undefined ? (next ?? this.#now) : this.#now + nanoseconds);
  }

  set(nanoseconds: bigint): bigint {
    for (let timer = this.#first(); timer && timer.at <= nanoseconds; timer = this.#first()) {
      this.#timers.delete(timer);
      if (timer.at > this.#now) this.#now = timer.at;
      timer.callback();
    }
    if (nanoseconds > this.#now) this.#now = nanoseconds;
    return this.#now;
  }

  #first(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (!first || timer.at < first.at) first = timer;
    return first;
  }
}
