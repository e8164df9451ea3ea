/**
 * Runs one story from its seed to its judgement, in virtual time.
 */
import { judgeCut } from "./cut.ts";
import { Dice } from "./dice.ts";
import { SimHost } from "./host.ts";
import { Judge } from "./judge.ts";
import { planStory } from "./plan.ts";
import { describe, Story, type StoryOptions, type StoryResult } from "./story.ts";

/** Runs the story of a seed. Never rejects. */
export async function runStory(seed: number, options: StoryOptions = {}): Promise<StoryResult> {
  const dice = new Dice(seed);
  const drawn = planStory(seed, dice.fork(), options.graph);
  const plan = options.plan ?? drawn;
  options.adjust?.(plan);
  const host = new SimHost(seed, { keepIo: options.keepIo ?? false });
  const story = new Story(host, plan, dice);
  const play = async (): Promise<void> => {
    await story.run(options);
    await (story.cutRoot === undefined ? new Judge(story).judge() : judgeCut(story, story.cutRoot));
  };
  const rejected = (reason: unknown): void => {
    host.trace.add("VIOLATION unhandled rejection");
    story.violations.push(`unhandled rejection: ${describe(reason)}`);
  };
  const stopWatching = options.watchRejections?.(rejected);
  try {
    await host.scheduler.settle(play(), { limitMs: 200_000, maxSteps: 400_000 });
  } catch (error) {
    story.violations.push(describe(error));
  } finally {
    stopWatching?.();
  }
  return story.result();
}
