/**
 * How fast a worker copies that is held to a speed: so fast that the speed holds in the mean over its steps and what lies between them
 * (flushes, the fence, the next shard).
 *
 * Invariants: never faster than twice the speed; what was missed for longer than a second is not made good.
 */

/** How far behind a worker may be and catch up, ms. */
const MOST_LAG_MS = 1000;
/** The fastest step, in parts of the speed. */
const MOST_HASTE = 2;

/** The pace of one worker in one job. */
export class Pace {
  readonly #nowMs: () => number;
  /** When all that was begun ends at the speed; undefined: nothing was. */
  #dueMs: number | undefined;

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** The speed of a step that moves so many bytes and begins now, bytes per second. */
  next(bytes: number, bytesPerSecond: number): number {
    if (bytes === 0 || bytesPerSecond === 0) return bytesPerSecond;
    const now = this.#nowMs();
    const since = Math.max(this.#dueMs ?? now, now - MOST_LAG_MS);
    this.#dueMs = since + (bytes / bytesPerSecond) * 1000;
    const leastMs = (bytes / (MOST_HASTE * bytesPerSecond)) * 1000;
    return (bytes / Math.max(this.#dueMs - now, leastMs)) * 1000;
  }
}
