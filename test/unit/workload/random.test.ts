/** Arithmetic of our own beside Math's, permutations that are some, and distributions that have the shares they should. */
import { describe, expect, it } from "vitest";
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import { exp, ln, pow } from "../../../src/workload/random/log-exp.ts";
import { Draws, streamKey } from "../../../src/workload/random/noise.ts";
import { type Spread, permutation, placesOf, zeta } from "../../../src/workload/random/places.ts";

const kernels = loadTwinKernels({ arenaBytes: 65_536 });
const draws = (name: string): Draws => new Draws(kernels, streamKey(1, 0, name));

function relative(own: number, other: number): number {
  return own === other ? 0 : Math.abs(own / other - 1);
}

describe("logarithm and exponential", () => {
  it("are Math's to fourteen digits", () => {
    const some = draws("some");
    for (let i = 0; i < 20_000; i++) {
      const x = exp((some.fraction() - 0.5) * 1400);
      if (Math.abs(Math.log(x)) > 1e-3) expect(relative(ln(x), Math.log(x))).toBeLessThan(4e-15);
      const y = (some.fraction() - 0.5) * 1400;
      expect(relative(exp(y), Math.exp(y))).toBeLessThan(3e-13);
      expect(relative(pow(1 + i, 0.7), (1 + i) ** 0.7)).toBeLessThan(1e-14);
    }
  });

  it("know the ends", () => {
    expect([ln(1), ln(0), ln(Infinity), ln(-1)]).toEqual([0, -Infinity, Infinity, Number.NaN]);
    expect([exp(0), exp(-800), exp(800), exp(Number.NaN)]).toEqual([1, 0, Infinity, Number.NaN]);
    expect(relative(ln(5e-324), Math.log(5e-324))).toBeLessThan(1e-15);
  });

  it("do not change from release to release", () => {
    expect([ln(10), exp(1), pow(3, 0.3)]).toEqual([
      2.302585092994046, 2.7182818284590455, 1.3903891703159093,
    ]);
  });
});

it.each([1, 2, 3, 15, 16, 17, 1000, 4097])("a permutation of %i has each number once", (n) => {
  const order = permutation(n, { low: 5, high: 9 });
  const all = Array.from({ length: n }, (_, i) => order(i));
  expect(new Set(all).size).toBe(n);
  expect(Math.min(...all)).toBe(0);
  expect(Math.max(...all)).toBe(n - 1);
});

it("the sum of zeta is the sum", () => {
  for (const theta of [0.5, 1, 1.2]) {
    let sum = 0;
    for (let i = 1; i <= 50_000; i++) sum += i ** -theta;
    expect(relative(zeta(50_000, theta), sum)).toBeLessThan(1e-6);
  }
});

describe("places", () => {
  const n = 10_000;
  const count = 100_000;
  function sample(spread: Spread): number[] {
    const place = placesOf(spread, n, { draws: draws(spread.kind), key: { low: 1, high: 2 } });
    const hits = new Array<number>(n).fill(0);
    for (let i = 0; i < count; i++) hits[place()]! += 1;
    return hits;
  }
  const share = (hits: readonly number[]): number => hits.reduce((sum, times) => sum + times, 0) / count;

  it("once: each as often as the other", () => {
    expect(new Set(sample({ kind: "once" }))).toEqual(new Set([count / n]));
  });

  it("zipf: the most popular have the law's shares, wherever they lie", () => {
    for (const theta of [0.9, 1, 1.2]) {
      const hits = sample({ kind: "zipf", theta }).toSorted((a, b) => b - a);
      let all = 0;
      for (let i = 1; i <= n; i++) all += i ** -theta;
      expect(hits[0]! / count).toBeCloseTo(1 / all, 2);
      let first = 0;
      for (let i = 1; i <= 1000; i++) first += i ** -theta;
      expect(share(hits.slice(0, 1000))).toBeCloseTo(first / all, 1);
    }
  });

  it("pareto: h of the blocks have 1 - h of the accesses", () => {
    const hits = sample({ kind: "pareto", h: 0.2 }).toSorted((a, b) => b - a);
    expect(share(hits.slice(0, 0.2 * n))).toBeCloseTo(0.8, 1);
  });

  it("hot spots: in their order on the disk", () => {
    const spots = [
      { accesses: 50, of: 5 },
      { accesses: 30, of: 15 },
      { accesses: 20, of: 80 },
    ];
    const hits = sample({ kind: "hot", spots });
    expect(share(hits.slice(0, 500))).toBeCloseTo(0.5, 2);
    expect(share(hits.slice(500, 2000))).toBeCloseTo(0.3, 2);
  });

  it("normal: two thirds within one deviation of the middle", () => {
    const hits = sample({ kind: "normal", deviationPercent: 10 });
    expect(share(hits.slice(4000, 6000))).toBeCloseTo(0.683, 1);
  });
});

it("streams of one seed do not move each other", () => {
  const alone = draws("a");
  const expected = Array.from({ length: 1000 }, () => alone.word());
  const [again, other] = [draws("a"), draws("b")];
  const mixed = Array.from({ length: 1000 }, () => {
    other.word();
    return again.word();
  });
  expect(mixed).toEqual(expected);
});
