/** XXH3-64: published vectors, and the SIMD kernel against its twin. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { noise, placed } from "./support.ts";

const simd = loadKernels({ arenaBytes: 2 ** 21 });
const twin = loadTwinKernels({ arenaBytes: 2 ** 16 });

/** The buffer that xxHash's own sanity checks hash: the top bytes of a multiplicative sequence. */
function sanityBuffer(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = 2654435761n;
  for (let i = 0; i < length; i++) {
    bytes[i] = Number(state >> 56n);
    state = (state * 11400714785074694797n) & 0xffffffffffffffffn;
  }
  return bytes;
}

// XXH3_64bits with seed 0 in xxHash's sanity test, one for each path through the algorithm.
const vectors: [number, bigint][] = [
  [0, 0x2d06800538d394c2n],
  [1, 0xc44bdff4074eecdbn],
  [6, 0x27b56a84cd2d7325n],
  [12, 0xa713daf0dfbb77e7n],
  [24, 0xa3fe70bf9d3510ebn],
  [48, 0x397da259ecba1f11n],
  [80, 0xbcdefbbb2c47c90an],
  [195, 0xcd94217ee362ec3an],
  [403, 0xcdeb804d65c6dea4n],
  [512, 0x617e49599013cb6bn],
  [2048, 0xdd59e2c3a5f038e0n],
  [2099, 0xc6b9d9b3fc9ac765n],
  [2240, 0x6e73a90539cf2948n],
  [2367, 0xcb37aeb9e5d361edn],
];

test.each(vectors)("XXH3-64 of %i bytes as xxHash's sanity test has it", (length, expected) => {
  const bytes = sanityBuffer(length);
  expect(twin.xxh3(bytes)).toBe(expected);
  expect(simd.xxh3(bytes)).toBe(expected);
});

test("every length up to three blocks", () => {
  const source = noise(3100, 5);
  const inArena = placed(simd, source, 1);
  for (let length = 0; length <= source.length; length++) {
    const expected = twin.xxh3(source.subarray(0, length));
    expect(simd.xxh3(inArena.subarray(0, length)), `length ${length}`).toBe(expected);
  }
});

test("any alignment, in the arena and staged in pieces", () => {
  const lengths = fc.oneof(
    fc.nat(5000),
    fc.integer({ min: 262_000, max: 263_400 }),
    fc.integer({ min: 524_200, max: 525_400 }),
  );
  fc.assert(
    fc.property(lengths, fc.nat(20), fc.nat(1000), (length, offset, seed) => {
      const outside = noise(length + offset, seed).subarray(offset);
      const expected = twin.xxh3(outside);
      expect(simd.xxh3(outside)).toBe(expected);
      expect(simd.xxh3(placed(simd, outside, offset))).toBe(expected);
    }),
    { numRuns: 100 },
  );
});
