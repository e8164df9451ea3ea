/** How late verbs of the command line have V8 optimise. It is counted in calls, not in time, so that it is the same on every machine. */
import { setFlagsFromString } from "node:v8";
import { expect, test } from "vitest";
import { optimiseLater } from "../../../../src/platform/node/compiler.ts";

type Work = (from: number) => number;

setFlagsFromString("--allow-natives-syntax");
// Compiled in our turn, code is there as soon as it is asked for.
setFlagsFromString("--no-concurrent-recompilation");
// oxlint-disable-next-line no-implied-eval -- V8's own word for it is no JavaScript
const statusOf = new Function("work", "return %GetOptimizationStatus(work)") as (work: Work) => number;
const OPTIMISED = 1 << 4;
const MOST_CALLS = 100_000;
let serial = 0;

/** How often a function is called that V8 knows nothing of yet, before it is optimised. */
function callsBefore(): number {
  // oxlint-disable-next-line no-implied-eval -- each time another one: V8 remembers those that it has seen
  const work = new Function(
    "from",
    `let sum = ${serial++}; for (let i = 0; i < 10; i++) sum += from ^ i; return sum;`,
  ) as Work;
  for (let call = 0; call < MOST_CALLS; call++) {
    work(call);
    if (statusOf(work) & OPTIMISED) return call;
  }
  return MOST_CALLS;
}

/** The least of several: whatever else V8 is told of a function puts its turn off. */
const least = (): number => Math.min(...Array.from({ length: 20 }, callsBefore));

test.runIf(process.versions.v8.startsWith("11."))(
  "a program that ends soon has V8 optimise later than it does of itself",
  () => {
    const before = least();
    optimiseLater();
    const later = least();
    expect(before).toBeLessThan(MOST_CALLS / 10);
    expect(later).toBeGreaterThan(3 * before);
  },
);
