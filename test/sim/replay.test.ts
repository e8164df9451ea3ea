// Replays one seed (BLOCKWRIGHT_SIM_SEED), and shows that a seed is a story: twice the same trace.
import { describe, expect, it } from "vitest";
import { report } from "./report.ts";
import { runStory } from "./run-story.ts";

const wanted = process.env["BLOCKWRIGHT_SIM_SEED"];

describe.runIf(wanted !== undefined)("the wanted story", () => {
  it(`${wanted}`, async () => {
    const result = await runStory(Number(wanted), { keepIo: process.env["BLOCKWRIGHT_SIM_IO"] === "1" });
    const text = report(result, { whole: true });
    if (result.violations.length > 0 || process.env["BLOCKWRIGHT_SIM_TRACE"] === "1") console.log(text);
    expect(result.violations).toEqual([]);
  });
});

describe.runIf(wanted === undefined)("a seed replays", () => {
  it("some stories use their files at once, others never", async () => {
    const stories = [await runStory(5), await runStory(9), await runStory(13), await runStory(6)];
    expect(stories.map(({ atOnce }) => atOnce > 0)).toEqual([true, true, true, false]);
  });

  it.each(Array.from({ length: 20 }, (_, index) => 11 + 37 * index))("seed %i", async (seed) => {
    const first = await runStory(seed);
    const second = await runStory(seed);
    expect(second.hash).toBe(first.hash);
    expect(second.trace).toEqual(first.trace);
  });
});
