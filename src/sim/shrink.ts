/**
 * Makes a story that goes wrong smaller, as long as it goes wrong in the same way: fewer faults, fewer requests, less of
 * everything that is not needed. Deterministic: a seed shrinks to the same story each time.
 */
import type { StoryPlan } from "./plan.ts";
import { runStory } from "./run-story.ts";
import type { StoryOptions, StoryResult } from "./story.ts";

/** Stories that are told for it at most. */
const MOST_RUNS = 400;

/** What a violation is, whatever its numbers. */
function kindOf(violation: string): string {
  return violation.split("\n")[0]!.replaceAll(/\d+/g, "#");
}

/** One attempt: changes a copy of the plan; false: there is nothing to do. */
type Attempt = (plan: StoryPlan) => boolean | void;

/** Simpler settings, the coarse ones first. */
const simpler: readonly Attempt[] = [
  (plan) => (plan.faults.length > 0 ? void (plan.faults = []) : false),
  (plan) => (plan.space.length > 0 ? void (plan.space = []) : false),
  (plan) => (plan.mostActs === 0 || plan.userMs === 0 ? false : void (plan.mostActs = 0)),
  (plan) => (plan.cutMs > 0 ? void (plan.cutMs = 0) : false),
  (plan) => (plan.guest.lanes > 1 ? void (plan.guest.lanes = 1) : false),
  (plan) => (plan.alignment > 1 ? void (plan.alignment = 1) : false),
  (plan) => (plan.latency.slowOneIn > 0 ? void (plan.latency = { ...plan.latency, slowOneIn: 0 }) : false),
  (plan) => (plan.notNowOneIn > 0 ? void (plan.notNowOneIn = 0) : false),
  (plan) => (plan.guest.unaligned ? void (plan.guest.unaligned = false) : false),
  (plan) => (plan.job.speed > 0 ? void (plan.job.speed = 0) : false),
  (plan) => dropLowest(plan),
  (plan) => {
    const images = [...plan.chain, ...(plan.target ? [plan.target] : [])];
    if (images.every(({ shape }) => !shape)) return false;
    for (const image of images) image.shape = undefined;
    return undefined;
  },
];

/** Takes the lowest image away, if the job does without it. */
function dropLowest(plan: StoryPlan): boolean | void {
  const { chain, job } = plan;
  const needed = job.kind === "stream" || job.kind.endsWith("commit") || job.sync === "top" ? 2 : 1;
  if (chain.length <= needed || job.base === 0 || job.top === 0) return false;
  chain.shift();
  job.top -= 1;
  if (job.base > 0) job.base -= 1;
  return undefined;
}

class Shrinker {
  best: StoryResult;
  readonly #kinds: ReadonlySet<string>;
  readonly #options: StoryOptions;
  #runs = 0;

  constructor(result: StoryResult, options: StoryOptions) {
    this.best = result;
    this.#options = options;
    this.#kinds = new Set(result.violations.map(kindOf));
  }

  /** Takes an attempt over if the story still goes wrong in the same way, and has become no longer. */
  async #try(attempt: Attempt): Promise<boolean> {
    const plan = structuredClone(this.best.plan);
    if (this.#runs >= MOST_RUNS || attempt(plan) === false) return false;
    this.#runs += 1;
    const { adjust: _done, ...options } = this.#options;
    const result = await runStory(plan.seed, { ...options, plan });
    if (!result.violations.some((text) => this.#kinds.has(kindOf(text)))) return false;
    if (result.told > this.best.told) return false;
    this.best = result;
    return true;
  }

  async run(): Promise<StoryResult> {
    for (let before = Infinity; this.best.told < before;) {
      before = this.best.told;
      await this.#fewestRequests();
      for (const attempt of simpler) await this.#try(attempt);
      await this.#withoutEach((plan) => plan.faults);
      await this.#withoutEach((plan) => plan.space);
      await this.#fewestRequests();
      await this.#fewestActs();
      await this.#withoutRequests();
    }
    return this.best;
  }

  async #withoutEach(listOf: (plan: StoryPlan) => unknown[]): Promise<void> {
    for (let at = listOf(this.best.plan).length - 1; at >= 0; at--)
      await this.#try((plan) => void listOf(plan).splice(at, 1));
  }

  /** The smallest number with which it still goes wrong, if more is never better. */
  async #fewest(now: number, set: (plan: StoryPlan, count: number) => void): Promise<void> {
    let [low, high] = [0, now];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (await this.#try((plan) => set(plan, middle))) high = middle;
      else low = middle + 1;
    }
  }

  #fewestRequests(): Promise<void> {
    const { guest } = this.best.plan;
    const now = this.best.requests + (guest.skip?.length ?? 0);
    return this.#fewest(now, (plan, count) => void (plan.guest.most = count));
  }

  #fewestActs(): Promise<void> {
    return this.#fewest(this.best.acts, (plan, count) => void (plan.mostActs = count));
  }

  /** Leaves requests out, many at first, then one by one. */
  async #withoutRequests(): Promise<void> {
    const { most = 0 } = this.best.plan.guest;
    for (let size = Math.ceil(most / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let from = 0; from < most; from += size) {
        await this.#try((plan) => {
          const skip = new Set(plan.guest.skip);
          const before = skip.size;
          for (let number = from; number < Math.min(most, from + size); number++) skip.add(number);
          plan.guest.skip = [...skip].toSorted((a, b) => a - b);
          return skip.size > before;
        });
      }
    }
  }
}

/** The smallest story that goes wrong as this one does; `options` as it was told with. */
export function shrinkStory(result: StoryResult, options: StoryOptions): Promise<StoryResult> {
  return new Shrinker(result, options).run();
}
