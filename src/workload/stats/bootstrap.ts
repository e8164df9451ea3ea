/**
 * The interval of a ratio, by the bootstrap: what noise leaves of the answer to "how much slower". Pairs were measured one
 * beside the other, so they are drawn together.
 */
import type { Draws } from "../random/noise.ts";

/** An interval at 95 %. */
export interface RatioInterval {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
  readonly pairs: number;
}

/** Rounds of the bootstrap. */
const ROUNDS = 2000;

/** The middle value; the mean of both where there are two. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** The interval of what `estimate` makes of pairs that are drawn, by their numbers. */
function bootstrap(
  pairs: number,
  draws: Draws,
  estimate: (drawn: readonly number[]) => number,
): RatioInterval {
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++)
    ratios.push(estimate(Array.from({ length: pairs }, () => draws.below(pairs))));
  ratios.sort((a, b) => a - b);
  return {
    ratio: estimate(Array.from({ length: pairs }, (_, pair) => pair)),
    low: ratios[Math.floor(ROUNDS * 0.025)]!,
    high: ratios[Math.ceil(ROUNDS * 0.975) - 1]!,
    pairs,
  };
}

/** How much larger `theirs` is than `ours`, which are as many and belong to each other. */
export function ratioInterval(
  ours: readonly number[],
  theirs: readonly number[],
  draws: Draws,
): RatioInterval {
  const of = (values: readonly number[], drawn: readonly number[]): number =>
    median(drawn.map((i) => values[i]!));
  const pairs = Math.min(ours.length, theirs.length);
  return bootstrap(pairs, draws, (drawn) => of(theirs, drawn) / of(ours, drawn));
}

/**
 * The same of many short runs on a machine that does other things beside: each `groups`-th part of them counts by its quickest
 * run of either side, which is what the machine, collections of garbage and clocks that change had the least part in. At least
 * two runs a group.
 */
export function quietInterval(
  ours: readonly number[],
  theirs: readonly number[],
  { draws, groups }: { draws: Draws; groups: number },
): RatioInterval {
  const size = Math.floor(Math.min(ours.length, theirs.length) / groups);
  const quickest = (values: readonly number[], group: number): number =>
    Math.min(...values.slice(group * size, (group + 1) * size));
  const ratios = Array.from(
    { length: groups },
    (_, group) => quickest(theirs, group) / quickest(ours, group),
  );
  return bootstrap(groups, draws, (drawn) => median(drawn.map((group) => ratios[group]!)));
}
