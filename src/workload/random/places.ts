/**
 * Where random requests go: an index 0 … n-1 of the blocks of a region, uniform, each once, or skewed as fio's distributions
 * (zipf, pareto, normal, zones). Popular blocks of zipf and pareto lie scattered over the region, as fio's do.
 */
import type { NoiseKey } from "../../kernels/twin-noise.ts";
import { noiseWord } from "../../kernels/twin-noise.ts";
import { exp, ln, pow } from "./log-exp.ts";
import type { Draws } from "./noise.ts";

/** A part of the accesses that goes to a part of the region, in percent; parts of the region follow each other. */
export interface HotSpot {
  readonly accesses: number;
  readonly of: number;
}

/** How random requests are spread. */
export type Spread =
  | { readonly kind: "uniform" }
  | { readonly kind: "once" }
  | { readonly kind: "zipf"; readonly theta: number }
  | { readonly kind: "pareto"; readonly h: number }
  | { readonly kind: "normal"; readonly deviationPercent: number }
  | { readonly kind: "hot"; readonly spots: readonly HotSpot[] };

/** A drawer of block numbers. */
export type Places = () => number;

/** A permutation of 0 … n-1 that needs no memory: a Feistel network over the next even power of two, walked until it falls below n. */
export function permutation(n: number, key: NoiseKey): (index: number) => number {
  let half = 1;
  while (4 ** half < n) half += 1;
  const size = 2 ** half;
  const round = (value: number, at: number): number => noiseWord(key, value + at * 0x1000003) % size;
  return (index) => {
    let x = index;
    do {
      let [left, right] = [Math.floor(x / size), x % size];
      for (let at = 0; at < 4; at++) [left, right] = [right, (left + round(right, at)) % size];
      x = left * size + right;
    } while (x >= n);
    return x;
  };
}

/** Terms of the zeta sum that are added one by one; the rest is its integral. */
const ZETA_TERMS = 1000;

/** The sum of 1/i^theta for i = 1 … n. */
export function zeta(n: number, theta: number): number {
  const direct = Math.min(n, ZETA_TERMS);
  let sum = 0;
  for (let i = 1; i <= direct; i++) sum += pow(i, -theta);
  if (n <= direct) return sum;
  const [from, to] = [direct + 0.5, n + 0.5];
  return sum + (theta === 1 ? ln(to / from) : (pow(to, 1 - theta) - pow(from, 1 - theta)) / (1 - theta));
}

/** Ranks by Zipf's law (0 the most popular), by inverting the integral of 1/x^theta above the first hundred ranks. */
function zipfRank(n: number, theta: number, draws: Draws): () => number {
  const total = zeta(n, theta);
  const exact = Math.min(n, 100);
  const sums: number[] = [];
  for (let i = 1, sum = 0; i <= exact; i++) sums.push((sum += pow(i, -theta)));
  const head = sums[exact - 1] ?? 0;
  const from = exact + 0.5;
  return () => {
    const u = draws.fraction() * total;
    if (u < head) return sums.findIndex((sum) => u < sum);
    const rest = u - head;
    const x =
      theta === 1 ? from * exp(rest) : pow(rest * (1 - theta) + pow(from, 1 - theta), 1 / (1 - theta));
    return Math.min(n - 1, Math.max(exact, Math.floor(x + 0.5) - 1));
  };
}

function hotSpots(n: number, spots: readonly HotSpot[], draws: Draws): Places {
  const accesses = spots.reduce((sum, spot) => sum + spot.accesses, 0);
  return () => {
    let left = draws.fraction() * accesses;
    let start = 0;
    for (const [i, spot] of spots.entries()) {
      const end = i === spots.length - 1 ? n : Math.min(n, start + Math.round((n * spot.of) / 100));
      if (left < spot.accesses || i === spots.length - 1)
        return Math.min(n - 1, start + draws.below(Math.max(1, end - start)));
      left -= spot.accesses;
      start = end;
    }
    return 0;
  };
}

function normalPlaces(n: number, deviationPercent: number, draws: Draws): Places {
  const deviation = (n * deviationPercent) / 100;
  return () => {
    for (;;) {
      const at = Math.floor(n / 2 + deviation * draws.normal());
      if (at >= 0 && at < n) return at;
    }
  };
}

/** A drawer for `n` >= 1 blocks. `once`: after all of them another order begins. */
export function placesOf(spread: Spread, n: number, { draws, key }: { draws: Draws; key: NoiseKey }): Places {
  const scattered = permutation(n, key);
  switch (spread.kind) {
    case "uniform":
      return () => draws.below(n);
    case "once": {
      let [taken, round] = [0, 0];
      let order = scattered;
      return () => {
        if (taken === n) {
          [taken, round] = [0, round + 1];
          order = permutation(n, { low: key.low, high: (key.high + round) >>> 0 });
        }
        return order(taken++);
      };
    }
    case "zipf": {
      const rank = zipfRank(n, spread.theta, draws);
      return () => scattered(rank());
    }
    case "pareto": {
      const power = ln(spread.h) / ln(1 - spread.h);
      return () => scattered(Math.min(n - 1, Math.floor(n * pow(1 - draws.fraction(), power))));
    }
    case "normal":
      return normalPlaces(n, spread.deviationPercent, draws);
    case "hot":
      return hotSpots(n, spread.spots, draws);
  }
}
