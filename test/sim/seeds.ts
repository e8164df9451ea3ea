// Stories that once went wrong, and why. They are told in every run.
import type { StoryPlan } from "../../src/sim/plan.ts";

/** Seeds that found bugs. */
export const regressions: readonly number[] = [
  // A background copy slipped in between a write-blocking guest write's wait for a range and its taking.
  1240,
  // A qcow2 read failed while its request still looked up the next extent: nobody handled it.
  839, 566,
  // The flush behind the dirty bit of lazy refcounts failed, and nobody took the bit back at the close.
  100_054,
];

/**
 * Makes a story one of a write-blocking mirror of a sparse image whose tables take long to read, under a busy guest. What
 * the guest wrote behind the first look for data was lost.
 */
export function sparseMirror(plan: StoryPlan): void {
  const image = {
    ...plan.chain[0]!,
    format: "qcow2" as const,
    version: "v3" as const,
    refcountBits: 16,
    memory: false,
    shape: undefined,
    size: 2 ** 21,
    clusterSize: 512,
    fill: 40,
    fillSectors: 2,
  };
  plan.chain = [image];
  plan.target = { ...image, name: "target", fill: 0, format: "raw", discard: "unmap" };
  Object.assign(plan, { faults: [], space: [], userMs: 0, alignment: 1, mayCancel: false });
  plan.cutMs = 0;
  plan.latency = { usualMs: 20, slowOneIn: 0 };
  Object.assign(plan.guest, { lanes: 8, pauseMs: 2, maxBytes: 8192, unaligned: false, vagueDiscard: false });
  Object.assign(plan.job, { kind: "mirror", sync: "full", writeBlocking: true, granularity: 0, bufBytes: 0 });
  Object.assign(plan.job, { speed: 0, startMs: 5, ending: "complete", top: 0, base: -1 });
}
