/**
 * Leases: rights that are taken for a while (a node made writable, a reference, a drained section, a frozen chain, a filter in
 * its place) and given back on every way out, by `await using` or by end().
 *
 * Invariants: a right is given back once; of several, the newest goes first and all of them go, whatever fails; what is thrown
 * is what failed first, in its own words. It runs in engines without `Symbol.asyncDispose` too: what esbuild makes of `using`
 * looks for `Symbol.for("Symbol.asyncDispose")` there, so members must be named by the constants below, never by Symbol's own.
 */
import { closing } from "./closing.ts";

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
