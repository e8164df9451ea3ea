// Arithmetic on ranges and alignments, up to the largest offsets.
import { describe, expect, it } from "vitest";
import { alignDown, alignUp, isAligned, isPowerOfTwo } from "../../../src/base/ranges.ts";

describe("alignment", () => {
  it.each([
    [0, 512, 0, 0],
    [1, 512, 0, 512],
    [511, 512, 0, 512],
    [512, 512, 512, 512],
    [513, 512, 512, 1024],
    [10, 3, 9, 12],
    [7, 1, 7, 7],
    [2 ** 32 + 1, 65536, 2 ** 32, 2 ** 32 + 65536],
    [2 ** 52 + 1, 4096, 2 ** 52, 2 ** 52 + 4096],
  ])("of %i to %i lies between %i and %i", (value, unit, down, up) => {
    expect(alignDown(value, unit)).toBe(down);
    expect(alignUp(value, unit)).toBe(up);
    expect(isAligned(value, unit)).toBe(down === up);
  });

  it.each([
    [1, true],
    [2, true],
    [3, false],
    [512, true],
    [2 ** 40, true],
    [2 ** 40 + 1, false],
    [0, false],
    [-2, false],
    [0.5, false],
    [Number.NaN, false],
  ])("%d is a power of two: %s", (value, expected) => {
    expect(isPowerOfTwo(value)).toBe(expected);
  });
});
