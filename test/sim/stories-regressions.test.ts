// Stories that found bugs once.
import { describe, expect, it } from "vitest";
import { report } from "./report.ts";
import { regressions, sparseMirror } from "./seeds.ts";
import { runStory } from "./run-story.ts";

describe.runIf(process.env["BLOCKWRIGHT_SIM_SEED"] === undefined)("what went wrong once", () => {
  it.each(regressions)("story %i", async (seed) => {
    const result = await runStory(seed, { adjust: (plan) => (plan.cutMs = 0) });
    if (result.violations.length > 0) expect.fail(report(result));
  });

  it.each([1, 2, 3, 4, 5, 6])("a sparse mirror, %i", async (seed) => {
    const result = await runStory(seed, { adjust: sparseMirror });
    if (result.violations.length > 0) expect.fail(report(result));
  });
});
