/**
 * Leases: rights that are taken for a while (a node made writable, a reference, a drained section, a frozen chain, a filter in
 * its place) and given back on every way out, by `await using` or by end().
 *
 * Invariants: a right is given back once; of several, the newest goes first and all of them go, whatever fails; what is thrown
 * is what failed first, in its own words. It runs in engines without `Symbol.asyncDispose` too: what esbuild makes of `using`
 * looks for `Symbol.for("Symbol.asyncDispose")` there, so members must be named by the constants below, never by Symbol's own.
 *
 * closing() is for what was opened, whatever happened in between. Invariants: everything is closed, in the order given, also after a
 * failure; what is thrown is what failed first, in its own words, with what failed later as its cause. (A `finally` that
 * awaits a close throws the close's error instead: on a full disk both fail, and the reason would be lost.)
 */
import { withCause } from "./errors.ts";

/** Carries out `body`, then each of `closes`. Throws the first failure of all of them. */
export async function closing<T>(
  body: () => Promise<T>,
  ...closes: readonly (() => Promise<unknown>)[]
): Promise<T> {
  const failures: unknown[] = [];
  const attempt = async <R>(step: () => Promise<R>): Promise<R | undefined> => {
    try {
      return await step();
    } catch (error) {
      failures.push(error);
      return undefined;
    }
  };
  const result = await attempt(body);
  for (const close of closes) await attempt(close);
  if (failures.length === 0) return result as T;
  const [first, ...later] = failures;
  throw later.reduce((error, next) => withCause(error, next), first);
}

/** After a failure: carries out each of `closes`, then throws `error`, with what failed meanwhile as its cause. */
export function failed(error: unknown, ...closes: readonly (() => Promise<unknown>)[]): Promise<never> {
  const body = (): never => {
    throw error;
  };
  return closing(body, ...closes);
}

/** `Symbol.asyncDispose`, or what stands in for it where the engine has none. */
export const asyncDispose: typeof Symbol.asyncDispose =
  Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose");

/** `Symbol.dispose`, or what stands in for it where the engine has none. */
export const dispose: typeof Symbol.dispose = Symbol.dispose ?? Symbol.for("Symbol.dispose");

/** One right that is held until end(). */
export class Lease implements AsyncDisposable {
  #giveBack: (() => Promise<unknown> | void) | undefined;

  /** `giveBack` is called once, at the end. Without it there is nothing to give back. */
  constructor(giveBack?: () => Promise<unknown> | void) {
    this.#giveBack = giveBack;
  }

  /** Whether the right has not been given back yet. */
  get isHeld(): boolean {
    return this.#giveBack !== undefined;
  }

  /** Gives the right back; does nothing the second time. Rejects with what giving back fails with. */
  async end(): Promise<void> {
    const giveBack = this.#giveBack;
    this.#giveBack = undefined;
    await giveBack?.();
  }

  /** The right stays taken: there is nothing to give back any more. */
  keep(): void {
    this.#giveBack = undefined;
  }

  /** end(), for `await using`. */
  [asyncDispose](): Promise<void> {
    return this.end();
  }
}

/** Leases that end together, newest first. */
export class Leases extends Lease {
  readonly #held: Lease[];

  constructor() {
    const held: Lease[] = [];
    super(() => giveBackAll(held));
    this.#held = held;
  }

  /** Takes a lease in, and hands it on. */
  add<T extends Lease>(lease: T): T {
    this.#held.push(lease);
    return lease;
  }

  /** Carries out `step` at the end. */
  defer(step: () => Promise<unknown> | void): Lease {
    return this.add(new Lease(step));
  }
}

async function giveBackAll(held: readonly Lease[]): Promise<void> {
  const steps = held.toReversed().map((lease) => () => lease.end());
  await closing(() => Promise.resolve(), ...steps);
}
