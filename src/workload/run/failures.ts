/** The requests of a run that failed: the first of each worker, operation and errno in full, the others counted. */
import type { ResultError } from "./document.ts";
import type { Failure } from "./worker.ts";

/** Most that are told one by one. */
const MOST = 100;

/** Collected failures. */
export class Failures {
  readonly #first = new Map<string, { failure: Failure; times: number }>();
  #isFatal = false;

  /** Whether one of them ended the run. */
  get isFatal(): boolean {
    return this.#isFatal;
  }

  /** Counts one. */
  add(failure: Failure, isFatal: boolean): void {
    this.#isFatal ||= isFatal;
    const key = `${failure.worker}\n${failure.operation ?? "job"}\n${failure.errno}`;
    const known = this.#first.get(key);
    if (known) known.times += 1;
    else if (this.#first.size < MOST) this.#first.set(key, { failure, times: 1 });
  }

  /** What results tell. */
  get errors(): ResultError[] {
    return [...this.#first.values()].map(({ failure, times }) => {
      const { errno, message, ...where } = failure;
      const told = { message, code: errno, ...where };
      return times === 1 ? told : { ...told, times };
    });
  }
}
