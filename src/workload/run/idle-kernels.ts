/**
 * The kernels of runs that are over, for the next one: a memory for an arena is asked of the system, and the collection of garbage that it
 * forces takes longer than a short run itself.
 *
 * Invariant: kernels are lent to one run at a time. Nobody but the collector keeps those that are idle.
 */
import { type EngineOptions, kernelsFor } from "../../api/engine.ts";
import { MiB } from "../../base/limits.ts";
import type { Kernels } from "../../kernels/kernels.ts";

/** Of a run's engine: a request's own memory is outside of it. */
const ARENA_BYTES = 24 * MiB;

/** What a run asks of its kernels. */
interface Wish {
  readonly kernels: EngineOptions["kernels"];
  readonly equals: ((a: Uint8Array, b: Uint8Array) => boolean) | undefined;
}

/** Those of the last run that has ended. */
let idle: (Wish & { readonly lent: WeakRef<Kernels> }) | undefined;

/** Kernels for a run. Throws BlockError ENOMEM. */
export function takeKernels(wish: Wish): Kernels {
  const { kernels, equals } = wish;
  const same = idle && idle.kernels === kernels && idle.equals === equals ? idle.lent.deref() : undefined;
  if (same) idle = undefined;
  return (
    same ?? kernelsFor(equals ? { equals } : {}, { kernels: kernels ?? "auto", arenaBytes: ARENA_BYTES })
  );
}

/** Gives back what a run took, once its engine is closed. */
export function giveBackKernels(wish: Wish, kernels: Kernels): void {
  idle = { kernels: wish.kernels, equals: wish.equals, lent: new WeakRef(kernels) };
}
