/**
 * How long to wait before work that failed is tried again. The first retries go at once, as QEMU's do; an error that
 * stays is then tried less and less often, at least once a second, so that a job in an error loop uses no CPU.
 */

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
