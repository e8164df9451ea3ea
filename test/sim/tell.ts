// Runs a chunk of seeds, one test each. With BLOCKWRIGHT_SIM_SEED only that seed is told (replay.test.ts).
import { describe, expect, it } from "vitest";
import { inShard } from "../support/shard.ts";
import { tally } from "../support/tally.ts";
import { report } from "./report.ts";
import { runStory } from "./run-story.ts";

/** Makes a test of each seed from `first` on, or of those in the wanted shard. */
export function tellStories(first: number, count: number): void {
  const seeds = inShard(Array.from({ length: count }, (_, index) => first + index));
  describe.runIf(process.env["BLOCKWRIGHT_SIM_SEED"] === undefined)(
    `stories ${first} to ${first + count - 1}`,
    () => {
      it.each(seeds)("story %i", async (seed) => {
        const result = await runStory(seed);
        tally({ stories: 1, requests: result.fileRequests, faults: result.faults });
        if (result.violations.length > 0) expect.fail(report(result));
      });
    },
  );
}
