/**
 * The interval of a ratio of two medians, by the bootstrap: what noise leaves of the answer to "how much slower". Pairs were
 * measured one beside the other, so they are drawn together.
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

/** How much larger `theirs` is than `ours`, which are as many and belong to each other. */
export function ratioInterval(
  ours: readonly number[],
  theirs: readonly number[],
  draws: Draws,
): RatioInterval {
  const pairs = Math.min(ours.length, theirs.length);
  const ratios: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const drawn = Array.from({ length: pairs }, () => draws.below(pairs));
    ratios.push(median(drawn.map((i) => theirs[i]!)) / median(drawn.map((i) => ours[i]!)));
  }
  ratios.sort((a, b) => a - b);
  return {
    ratio: median(theirs.slice(0, pairs)) / median(ours.slice(0, pairs)),
    low: ratios[Math.floor(ROUNDS * 0.025)]!,
    high: ratios[Math.ceil(ROUNDS * 0.975) - 1]!,
    pairs,
  };
}
