/** Runs a story under Node: a promise that nobody waited for is the story's fault, and does not end the run. */
import { watchRejections } from "../../src/platform/node/rejections.ts";
import { runStory as run } from "../../src/sim/run-story.ts";
import type { StoryOptions, StoryResult } from "../../src/sim/story.ts";

/** Runs the story of a seed. Never rejects. */
export function runStory(seed: number, options: StoryOptions = {}): Promise<StoryResult> {
  return run(seed, { watchRejections, ...options });
}
