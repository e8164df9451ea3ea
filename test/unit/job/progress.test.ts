// The progress of a job: what is done and what is left add up, and neither goes backwards unseen.
import { expect, test } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { JobProgress } from "../../../src/job/core/pace.ts";

test("what is done and what is left make the whole", () => {
  const progress = new JobProgress();
  progress.setRemaining(100);
  progress.done(30);
  progress.increaseRemaining(10);
  expect([progress.current, progress.total]).toEqual([30, 110]);
});

test("work that is undone, or less than nothing that is left, breaks an invariant", () => {
  const progress = new JobProgress();
  expect(() => progress.done(-1)).toThrow(AssertionError);
  expect(() => progress.setRemaining(-1)).toThrow(AssertionError);
  expect([progress.current, progress.total]).toEqual([0, 0]);
});
