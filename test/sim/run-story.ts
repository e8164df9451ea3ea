// Runs one story from its seed to its judgement, in virtual time.
import { Dice } from "./dice.ts";
import { SimHost } from "./host.ts";
import { Judge } from "./judge.ts";
import { planStory } from "./plan.ts";
import { describe, Story, type StoryOptions, type StoryResult } from "./story.ts";

/** Runs the story of a seed. Never rejects. */
export async function runStory(seed: number, options: StoryOptions = {}): Promise<StoryResult> {
  const dice = new Dice(seed);
  const plan = planStory(seed, dice.fork());
  options.adjust?.(plan);
  const host = new SimHost(seed, { keepIo: options.keepIo ?? false });
  const story = new Story(host, plan, dice);
  const play = async (): Promise<void> => {
    await story.run(options);
    await new Judge(story).judge();
  };
  const rejected = (reason: unknown): void => {
    host.trace.add("VIOLATION unhandled rejection");
    story.violations.push(`unhandled rejection: ${describe(reason)}`);
  };
  const { process } = globalThis as { process?: NodeJS.Process };
  process?.on("unhandledRejection", rejected);
  try {
    await host.scheduler.settle(play(), { limitMs: 200_000, maxSteps: 400_000 });
  } catch (error) {
    story.violations.push(describe(error));
  } finally {
    process?.off("unhandledRejection", rejected);
  }
  return story.result();
}
