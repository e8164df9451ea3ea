/**
 * A job's rate limit in slices of 100 ms. Work is charged in full when it is done, and the delay follows from what was
 * charged, so the first chunk always goes at once. Source: behaviour of QEMU 7.2's ratelimit.
 */
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/host.ts";

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
