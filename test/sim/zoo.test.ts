/** Every bug of the zoo is found by the story of its seed, which is sound without it. `npm run sim -- --zoo` makes them smaller, too. */
import { describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { runStory } from "./run-story.ts";
import { bugs } from "./zoo/bugs.ts";
import { hunt } from "./zoo/hunt.ts";

describe("the zoo", () => {
  it("has bugs of names of their own", () => {
    expect(new Set(bugs.map(({ name }) => name)).size).toBe(bugs.length);
    expect(bugs.length).toBeGreaterThanOrEqual(25);
  });

  it.each(bugs)("$name: $history", async (bug) => {
    expect((await runStory(bug.seed)).violations).toEqual([]);
    const { found } = await hunt(root, bug, { shrink: false });
    expect(found?.violations.length).toBeGreaterThan(0);
  });
});
