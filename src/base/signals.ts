/**
 * Small asynchronous building blocks: a promise with its handles outside, a wait that an AbortSignal ends, one for all of
 * several, a FIFO mutex and a counter that can be awaited. None of them reads a clock.
 */
import { assert } from "./assert.ts";
import { withCause } from "./errors.ts";

/** A promise together with its settling functions. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/** Makes a Deferred. */
export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** Who waits for a signal, by the one listener of ours that is on it. */
const waiting = new WeakMap<
  AbortSignal,
  { callbacks: Set<{ readonly run: () => void }>; listener: () => void }
>();

function watch(signal: AbortSignal): Set<{ readonly run: () => void }> {
  const known = waiting.get(signal);
  if (known) return known.callbacks;
  const callbacks = new Set<{ readonly run: () => void }>();
  const listener = (): void => {
    waiting.delete(signal);
    for (const { run } of callbacks) run();
  };
  waiting.set(signal, { callbacks, listener });
  signal.addEventListener("abort", listener, { once: true });
  return callbacks;
}

/**
 * Calls `run` when `signal` aborts; the returned function takes that back and may be called at any time. However many
 * wait for one signal, it carries one listener of ours, and none once the last has gone: one signal for all requests of
 * an operation is the usual way, and platforms warn of many listeners. Does nothing for a signal that has aborted before.
 */
export function onAbort(signal: AbortSignal | undefined, run: () => void): () => void {
  if (!signal || signal.aborted) return () => undefined;
  const callbacks = watch(signal);
  const entry = { run };
  callbacks.add(entry);
  return () => {
    if (!callbacks.delete(entry) || callbacks.size > 0) return;
    const known = waiting.get(signal);
    if (known?.callbacks !== callbacks) return;
    waiting.delete(signal);
    signal.removeEventListener("abort", known.listener);
  };
}

/** Waits for `promise`, or rejects with `signal.reason` when the signal aborts first. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) return Promise.reject(signal.reason as Error);
  return new Promise<T>((resolve, reject) => {
    const forget = onAbort(signal, () => reject(signal.reason as Error));
    // Before the result is seen: who has it finds nothing of ours on the signal.
    promise.finally(forget).then(resolve, reject);
  });
}

/**
 * The values of what has settled. Throws the first failure, in the order of `results`, with the others as its causes.
 */
export function valuesOrFailure<T>(results: readonly PromiseSettledResult<T>[]): T[] {
  const failures = results.flatMap((result) =>
    result.status === "rejected" ? [result.reason as unknown] : [],
  );
  if (failures.length > 0) throw failures.reduce((first, later) => withCause(first, later));
  return results.flatMap((result) => (result.status === "fulfilled" ? [result.value] : []));
}

/**
 * Waits for all, whatever becomes of them, so that none is left under way behind the caller's back; then rejects as
 * valuesOrFailure() throws.
 */
export async function settleAll<T>(waits: readonly (T | PromiseLike<T>)[]): Promise<T[]> {
  return valuesOrFailure(await Promise.allSettled(waits));
}

/** A FIFO mutex. `await using held = await mutex.lock()` or lock()/unlock by the returned function. */
export class Mutex {
  #locked = false;
  readonly #waiters: (() => void)[] = [];

  get locked(): boolean {
    return this.#locked;
  }

  /** Waits for the lock and returns the function that gives it back. */
  async lock(): Promise<() => void> {
    if (this.#locked) {
      const turn = deferred();
      this.#waiters.push(() => turn.resolve());
      await turn.promise;
    }
    return this.#take();
  }

  /** The lock if nobody has it; undefined: wait for it by lock(). */
  tryLock(): (() => void) | undefined {
    return this.#locked ? undefined : this.#take();
  }

  #take(): () => void {
    this.#locked = true;
    let held = true;
    return () => {
      assert(held, "mutex unlocked twice");
      held = false;
      const next = this.#waiters.shift();
      if (next) next();
      else this.#locked = false;
    };
  }

  /** Runs `body` under the lock. */
  async run<T>(body: () => Promise<T>): Promise<T> {
    const unlock = await this.lock();
    try {
      return await body();
    } finally {
      unlock();
    }
  }
}

/** Wakes everyone who waits for "something changed"; waiters check their own condition again. */
export class Wakeup {
  #waiting: Deferred<void> | undefined;

  /** Resolves at the next wake(). */
  wait(): Promise<void> {
    this.#waiting ??= deferred();
    return this.#waiting.promise;
  }

  wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }

  /** Waits until `condition` holds; it is tested now and after each wake(). */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await this.wait();
  }
}
