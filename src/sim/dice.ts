/**
 * Repeatable randomness for stories: mulberry32. Streams forked from one seed do not disturb each other.
 */

/** A stream of random numbers. */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bf03635) >>> 0;
  }

  /** An integer 0 <= n < 2^32. */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** An integer 0 <= n < limit. */
  below(limit: number): number {
    return Math.floor((this.next() / 2 ** 32) * limit);
  }

  /** An integer low <= n <= high. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** A fraction 0 <= n < 1. */
  fraction(): number {
    return this.next() / 2 ** 32;
  }

  /** True once in `n` times. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** A stream of its own. */
  fork(): Dice {
    return new Dice(this.next());
  }
}
