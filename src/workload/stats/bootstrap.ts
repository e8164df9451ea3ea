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

/** The part of many runs that the machine and collections of garbage had least part in. */
const QUIETEST = 1 / 10;

/** Runs, the quickest first, each with its group. */
function sortedRuns(values: readonly number[], groups: number, size: number): readonly [number, number][] {
  const runs = values
    .slice(0, groups * size)
    .map((value, i): [number, number] => [value, Math.floor(i / size)]);
  return runs.sort(([a], [b]) => a - b);
}

/** The mean of the quickest, at least one, of the groups that were drawn; each as often as it was drawn. */
function quietest(runs: readonly [number, number][], times: readonly number[]): number {
  const count = Math.max(1, Math.floor(runs.length * QUIETEST));
  let sum = 0;
  let left = count;
  for (const [value, group] of runs) {
    const taken = Math.min(left, times[group]!);
    sum += value * taken;
    left -= taken;
    if (left === 0) break;
  }
  return sum / count;
}

/**
 * The same of many short runs on a machine that does other things beside: of either side the quickest tenth counts, and the
 * bootstrap draws whole groups of runs that followed each other, which a busy while has struck together. At least two runs a group.
 */
export function quietInterval(
  ours: readonly number[],
  theirs: readonly number[],
  { draws, groups }: { draws: Draws; groups: number },
): RatioInterval {
  const size = Math.floor(Math.min(ours.length, theirs.length) / groups);
  const [one, other] = [sortedRuns(ours, groups, size), sortedRuns(theirs, groups, size)];
  return bootstrap(groups, draws, (drawn) => {
    const times = Array.from({ length: groups }, () => 0);
    for (const group of drawn) times[group]! += 1;
    return quietest(other, times) / quietest(one, times);
  });
}
