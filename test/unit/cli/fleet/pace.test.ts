// The speed of a worker's steps, by a clock of the test's.
import { expect, it } from "vitest";
import { Pace } from "../../../../src/cli/fleet/pace.ts";

const MiB = 2 ** 20;

/** Steps of 16 MiB at 16 MiB/s, with so long between two of them, ms; answers how long all took, ms. */
function run(steps: number, betweenMs: number): number {
  let now = 5000;
  const pace = new Pace(() => now);
  for (let i = 0; i < steps; i++) {
    // The copy keeps to what it is told.
    now += ((16 * MiB) / pace.next(16 * MiB, 16 * MiB)) * 1000;
    now += betweenMs;
  }
  return now - 5000;
}

it("the speed holds in the mean, whatever lies between the steps", () => {
  expect(run(100, 0)).toBeCloseTo(100_000, 3);
  expect(run(100, 300)).toBeCloseTo(100_300, 3);
});

it("no step goes twice as fast as it may, and what was missed long ago is not made good", () => {
  let now = 0;
  const pace = new Pace(() => now);
  expect(pace.next(16 * MiB, 16 * MiB)).toBe(16 * MiB);
  now = 60_000;
  expect(pace.next(64 * MiB, 16 * MiB)).toBeCloseTo((64 / 3) * MiB, 3);
  now = 60_900;
  expect(pace.next(MiB, 16 * MiB)).toBeCloseTo(MiB / 2.1625, 3);
  // Half a second is what a step of one second takes at the least.
  expect(run(100, 700)).toBeCloseTo(1700 + 99 * 1200, 3);
});

it("what moves nothing, and what has no limit, is let pass", () => {
  const pace = new Pace(() => 0);
  expect(pace.next(0, MiB)).toBe(MiB);
  expect(pace.next(MiB, 0)).toBe(0);
});
