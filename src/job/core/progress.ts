/**
 * A job's progress: what is done and what is left; both may change at any time.
 * Invariant: total = current + remaining. Units are bytes for jobs that copy.
 */
import { assert } from "../../base/assert.ts";

/** Counts a job's work. */
export class JobProgress {
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
  }

  /** Sets what is left. */
  setRemaining(units: number): void {
    assert(units >= 0, "less than nothing is left of a job");
    this.#remaining = units;
  }

  /** There is more (or, negative, less) to do than was known. */
  increaseRemaining(units: number): void {
    this.#remaining += units;
  }
}
