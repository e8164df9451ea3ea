/**
 * What the clock takes away from a plan: a batch begins only if it should end before its phase does, at the pace that this
 * machine has shown. What began is never cut short.
 */
import { type Batch, secondsOf } from "./plan.ts";

/** Batches that tell the pace; fewer of them say little. */
const ENOUGH_SECONDS = 30;

/** The pace of this machine: seconds that pass for each one that a batch usually takes. */
export class Pace {
  #usual = 0;
  #actual = 0;

  /** A batch took this long. */
  note(batch: Batch, seconds: number): void {
    this.#usual += secondsOf(batch);
    this.#actual += seconds;
  }

  /** 1 is as usual, 2 half as fast. A machine that seems faster is taken for a usual one. */
  get factor(): number {
    return this.#usual < ENOUGH_SECONDS ? 1 : Math.max(1, this.#actual / this.#usual);
  }
}

/** When a lane looks for its next batch. */
export interface Moment {
  readonly secondsLeft: number;
  readonly pace: number;
  /** Suites of which something has begun. */
  readonly touched: ReadonlySet<string>;
  /** Suites that run, and run alone. */
  readonly busy: ReadonlySet<string>;
}

/**
 * Takes the next batch that should be over in `secondsLeft` from the queue, or the first whatever it takes while the suite
 * in it is not `touched`; none of a suite that is `busy`. Undefined when there is none.
 */
export function nextBatch(queue: Batch[], { secondsLeft, pace, touched, busy }: Moment): Batch | undefined {
  const index = queue.findIndex(
    (batch) =>
      !busy.has(batch.suite) && (!touched.has(batch.suite) || secondsOf(batch) * pace <= secondsLeft),
  );
  return index < 0 ? undefined : queue.splice(index, 1)[0];
}
