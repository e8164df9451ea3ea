/**
 * Answers that may be here at once: a value, or a promise of it. Every verb of the block layer and every hook of a driver
 * gives one, so there is one way down for what is in memory and for what has to be waited for.
 *
 * Invariants: what is known at once is never made a promise of, so nothing is awaited that need not be; errors come as
 * they come, thrown or rejected, and the functions here treat both alike. No thenable is ever a value.
 */
import { settleAll } from "./signals.ts";

/** A value, or a promise of it. */
export type Answer<T> = T | Promise<T>;

/** Whether the answer has yet to come. */
export function isPromise<T>(answer: Answer<T>): answer is Promise<T> {
  if (typeof answer !== "object" || answer === null) return false;
  return answer instanceof Promise || typeof (answer as { then?: unknown }).then === "function";
}

/** What `then` makes of the answer: at once, if it is here. */
export function andThen<T, R>(answer: Answer<T>, then: (value: T) => Answer<R>): Answer<R> {
  if (!isPromise(answer)) return then(answer);
  return answer.then(then);
}

/** try … finally: calls `end` when the answer is here, or the error. */
export function ending<T>(body: () => Answer<T>, end: () => void): Answer<T> {
  let answer: Answer<T>;
  try {
    answer = body();
  } catch (error) {
    end();
    throw error;
  }
  if (isPromise(answer)) return answer.finally(end);
  end();
  return answer;
}

/** try … catch: what `repair` makes of an error, thrown or rejected. */
export function rescue<T>(body: () => Answer<T>, repair: (error: unknown) => Answer<T>): Answer<T> {
  try {
    const answer = body();
    return isPromise(answer) ? answer.catch(repair) : answer;
  } catch (error) {
    return repair(error);
  }
}

/** A promise that rejects with what was thrown. */
export async function rejected(error: unknown): Promise<never> {
  throw error;
}

/** The body's answer; what it throws is a rejection. For those who look at answers later, or at several. */
export function guarded<T>(body: () => Answer<T>): Answer<T> {
  try {
    return body();
  } catch (error) {
    return rejected(error);
  }
}

/** A loop: calls `step` again and again while it answers true. */
export function repeat(step: () => Answer<boolean>): Answer<void> {
  for (;;) {
    const more = step();
    if (isPromise(more)) return repeatLater(more, step);
    if (!more) return undefined;
  }
}

async function repeatLater(first: Promise<boolean>, step: () => Answer<boolean>): Promise<void> {
  for (let more = await first; more;) {
    const answer = step();
    more = isPromise(answer) ? await answer : answer;
  }
}

/**
 * Starts all, one after the other, and answers when the last of them has ended; the first error in their order is then
 * thrown or rejected. None is left under way behind the caller's back.
 */
export function together(works: readonly (() => Answer<void>)[]): Answer<void> {
  const waiting = works.map((work) => guarded(work)).filter((answer) => isPromise(answer));
  if (waiting.length === 0) return undefined;
  return settleAll(waiting).then(() => undefined);
}
