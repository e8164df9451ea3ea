/** Noise: words that are pinned (results of a run are told by them), and the SIMD kernel against its twin. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { noiseWord } from "../../../src/kernels/twin-noise.ts";

const simd = loadKernels({ arenaBytes: 2 ** 20 });
const twin = loadTwinKernels({ arenaBytes: 2 ** 16 });

test("the words of a key do not change from release to release", () => {
  const key = { low: 0x01234567, high: 0x89abcdef };
  expect([0, 1, 2, 2 ** 32 - 1].map((at) => noiseWord(key, at))).toEqual([
    2147115870, 2266521644, 805532957, 2073640057,
  ]);
});

test("any length, place and number, in the arena and staged", () => {
  const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
  const lengths = fc.oneof(fc.nat(200), fc.integer({ min: 262_000, max: 262_400 }));
  fc.assert(
    fc.property(lengths, fc.nat(20), fc.tuple(word, word, word), (length, offset, [low, high, at]) => {
      const [expected, staged] = [new Uint8Array(length), new Uint8Array(length + offset)];
      twin.noise(expected, { low, high }, at);
      simd.noise(staged.subarray(offset), { low, high }, at);
      const inPlace = new Uint8Array(simd.area.buffer, simd.area.start + offset, length + 1);
      inPlace[length] = 0x5a;
      simd.noise(inPlace.subarray(0, length), { low, high }, at);
      expect(twin.firstDifference(staged.subarray(offset), expected)).toBe(-1);
      expect(twin.firstDifference(inPlace.subarray(0, length), expected)).toBe(-1);
      expect(inPlace[length]).toBe(0x5a);
    }),
    { numRuns: 60 },
  );
});

test("a part is what the whole has there", () => {
  const [whole, part] = [new Uint8Array(4096), new Uint8Array(96)];
  twin.noise(whole, { low: 7, high: 9 }, 2 ** 32 - 500);
  twin.noise(part, { low: 7, high: 9 }, (2 ** 32 - 500 + 600) % 2 ** 32);
  expect(part).toEqual(whole.slice(2400, 2496));
});

test("words are spread evenly", () => {
  const counts = new Array<number>(256).fill(0);
  const bytes = new Uint8Array(2 ** 18);
  twin.noise(bytes, { low: 1, high: 2 }, 0);
  for (const byte of bytes) counts[byte]! += 1;
  // 1024 of each are expected; six deviations are 192.
  expect(Math.min(...counts)).toBeGreaterThan(1024 - 192);
  expect(Math.max(...counts)).toBeLessThan(1024 + 192);
});
