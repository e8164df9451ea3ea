/**
 * How a job gets on: how far it is, how fast it may go, and how long it waits before what failed is tried again.
 *
 * Invariants: a progress is done work and what is left, both of which may change at any time, in bytes for jobs that copy. The rate
 * limit has slices of 100 ms; work is charged in full when it is done, and the delay follows from what was charged, so the first
 * chunk always goes at once. The first retries go at once, as QEMU's do; an error that stays is tried less and less often, at least
 * once a second, so that a job in an error loop uses no CPU. Source: behaviour of QEMU 7.2's ratelimit.
 */
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/host.ts";

/** Counts a job's work. */
export class JobProgress {
  /** Told whenever something was done. */
  onDone: (() => void) | undefined;
  #current = 0;
  #remaining = 0;

  get current(): number {
    return this.#current;
  }

  get total(): number {
    return this.#current + this.#remaining;
  }

  /** `units` of what was left are done. */
  done(units: number): void {
    assert(units >= 0, "a job has undone work");
    this.#current += units;
    this.#remaining -= units;
    this.onDone?.();
  }

  /** Sets what is left. */
  setRemaining(units: number): void {
    assert(units >= 0, "less than nothing is left");
    this.#remaining = units;
  }

  /** There is more (or, negative, less) to do than was known. */
  increaseRemaining(units: number): void {
    this.#remaining += units;
  }
}

/** Length of a slice, milliseconds. */
export const sliceMs = 100;

/** Limits a speed. */
export class RateLimit {
  readonly #clock: Clock;
  #quota = 0;
  #sliceStartMs = 0;
  #sliceEndMs = 0;
  #dispatched = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Bytes per second, >= 0; 0 is no limit. */
  setSpeed(bytesPerSecond: number): void {
    assert(bytesPerSecond >= 0, "speed");
    this.#quota = bytesPerSecond === 0 ? 0 : Math.max(Math.floor((bytesPerSecond * sliceMs) / 1000), 1);
  }

  /** Charges `bytes` and returns how long to wait before the next piece of work, milliseconds. */
  delayMs(bytes: number): number {
    assert(bytes >= 0, "less than nothing is charged");
    if (this.#quota === 0) return 0;
    const now = this.#clock.nowMs();
    if (this.#sliceEndMs < now) {
      this.#sliceStartMs = now;
      this.#sliceEndMs = now + sliceMs;
      this.#dispatched = 0;
    }
    this.#dispatched += bytes;
    if (this.#dispatched < this.#quota) return 0;
    this.#sliceEndMs = this.#sliceStartMs + (this.#dispatched / this.#quota) * sliceMs;
    return Math.max(this.#sliceEndMs - now, 0);
  }
}

/** Retries in a row without a delay. */
const freeRetries = 3;
const firstDelayMs = 10;
const maxDelayMs = 1000;

/** Counts failures in a row; one per job (or per independent stream of work). */
export class Backoff {
  #failures = 0;

  /** Something got done: the next failure is the first again. */
  progress(): void {
    this.#failures = 0;
  }

  /** Something failed and is to be tried again: milliseconds to wait before, 0 … 1000. */
  failed(): number {
    this.#failures += 1;
    const beyond = this.#failures - freeRetries;
    if (beyond <= 0) return 0;
    return Math.min(firstDelayMs * 2 ** Math.min(beyond - 1, 10), maxDelayMs);
  }
}
