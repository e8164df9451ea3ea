// Bit arrays of several pieces, beside one piece of the same length: random changes, every scan, and merges both ways.
import { expect, test } from "vitest";
import { createLongBits, JoinedBits } from "../../../src/kernels/joined-bits.ts";
import type { Bits } from "../../../src/kernels/kernels.ts";
import { TwinBits } from "../../../src/kernels/twin-bits.ts";
import { randomness } from "../../support/random.ts";

const PIECE = 64;
const LENGTH = 5 * PIECE - 11;
const kernels = { createBits: (bits: number): Bits => new TwinBits(bits) };

/** The runs of ones, neighbours joined. */
function runs(bits: Bits, from: number, end: number, room: number): number[][] {
  const found: number[][] = [];
  const out = new Float64Array(2 * room);
  for (let at = from; ;) {
    const got = bits.extents(at, end, out, 1);
    for (let index = 0; index < got; index++) {
      const [first, count] = [out[2 * index]!, out[2 * index + 1]!];
      const last = found.at(-1);
      if (last && last[0]! + last[1]! === first) last[1]! += count;
      else found.push([first, count]);
      at = first + count;
    }
    if (got < room) return found;
  }
}

test("arrays of several pieces answer as one of a single piece", () => {
  const below = randomness(7);
  const joined = createLongBits(kernels, LENGTH, PIECE);
  const whole = createLongBits(kernels, LENGTH);
  expect(joined).toBeInstanceOf(JoinedBits);
  expect(whole).not.toBeInstanceOf(JoinedBits);
  for (let step = 0; step < 500; step++) {
    const first = below(LENGTH);
    const count = 1 + below(Math.min(LENGTH - first, 3 * PIECE));
    const verb = below(3) > 0 ? "set" : "reset";
    expect(joined[verb](first, count)).toBe(whole[verb](first, count));
    const from = below(LENGTH);
    const end = from + below(LENGTH - from + 1);
    expect(joined.test(from)).toBe(whole.test(from));
    for (const scan of ["nextOne", "nextZero", "count"] as const)
      expect(joined[scan](from, end), scan).toBe(whole[scan](from, end));
    expect(runs(joined, from, end, 1 + below(4))).toEqual(runs(whole, from, end, 64));
  }
  const [a, b] = [new Uint8Array(Math.ceil(LENGTH / 8)), new Uint8Array(Math.ceil(LENGTH / 8))];
  joined.read(0, a);
  whole.read(0, b);
  expect(a).toEqual(b);
  joined.clear();
  expect(joined.count(0, LENGTH)).toBe(0);
  joined.write(3, b.subarray(3));
  expect(joined.count(24, LENGTH)).toBe(whole.count(24, LENGTH));
  joined.free();
});

test("merges with finer and coarser arrays, of one piece or of several", () => {
  const fine = createLongBits(kernels, LENGTH, PIECE);
  fine.set(60, 10);
  fine.set(200, 1);
  const coarse = createLongBits(kernels, Math.ceil(LENGTH / 4));
  expect(coarse.merge(fine, 2)).toBe(4);
  expect(runs(coarse, 0, coarse.length, 8)).toEqual([
    [15, 3],
    [50, 1],
  ]);
  const other = createLongBits(kernels, LENGTH, PIECE);
  expect(other.merge(coarse, -2)).toBe(16);
  expect(other.merge(fine, 0)).toBe(0);
  expect(runs(other, 0, LENGTH, 8)).toEqual([
    [60, 12],
    [200, 4],
  ]);
});

test("what was made is given back when there is no memory for the rest", () => {
  let alive = 0;
  const short = {
    createBits(bits: number): Bits {
      if (alive === 2) throw new Error("no more");
      const made = new TwinBits(bits);
      alive += 1;
      made.free = () => void (alive -= 1);
      return made;
    },
  };
  expect(() => createLongBits(short, LENGTH, PIECE)).toThrow("no more");
  expect(alive).toBe(0);
});
