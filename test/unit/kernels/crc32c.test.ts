/** CRC-32C: published vectors, and the SIMD kernel against its twin. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { noise, placed } from "./support.ts";

const simd = loadKernels({ arenaBytes: 2 ** 20 });
const twin = loadTwinKernels({ arenaBytes: 2 ** 16 });

test("the platform has SIMD, so that these tests compare two implementations", () => {
  expect(simd.kind).toBe("simd");
  expect(twin.kind).toBe("twin");
});

// RFC 3720, appendix B.4, and the check value of the CRC catalogue.
const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
const vectors: [string, Uint8Array, number][] = [
  ["nothing", new Uint8Array(0), 0],
  ["32 zeros", new Uint8Array(32), 0x8a9136aa],
  ["32 ones", new Uint8Array(32).fill(255), 0x62a8ab43],
  ["ascending", ascending, 0x46dd794e],
  ["descending", ascending.slice().reverse(), 0x113fdb5c],
  ["123456789", new TextEncoder().encode("123456789"), 0xe3069283],
];

test.each(vectors)("CRC-32C of %s", (_, bytes, expected) => {
  expect(simd.crc32c(bytes)).toBe(expected);
  expect(twin.crc32c(bytes)).toBe(expected);
});

test("every length around the thresholds of the long form", () => {
  const source = noise(6144 + 600, 7);
  const inArena = placed(simd, source, 3);
  for (let length = 6144 - 40; length < 6144 + 560; length++) {
    const expected = twin.crc32c(source.subarray(0, length));
    expect(simd.crc32c(inArena.subarray(0, length)), `length ${length}`).toBe(expected);
  }
});

test("any length, alignment and split, in the arena and outside", () => {
  fc.assert(
    fc.property(
      fc.record({
        length: fc.oneof(fc.nat(300), fc.nat(40_000), fc.integer({ min: 262_000, max: 530_000 })),
        offset: fc.nat(20),
        cut: fc.double({ min: 0, max: 1, noNaN: true }),
        seed: fc.nat(1000),
        crc: fc.oneof(fc.constant(0), fc.nat(0xffffffff)),
      }),
      ({ length, offset, cut, seed, crc }) => {
        const outside = noise(length + offset, seed).subarray(offset);
        const inside = placed(simd, outside, offset);
        const at = Math.floor(cut * length);
        const expected = twin.crc32c(outside, crc);
        expect(simd.crc32c(outside, crc)).toBe(expected);
        expect(simd.crc32c(inside, crc)).toBe(expected);
        expect(simd.crc32c(inside.subarray(at), simd.crc32c(inside.subarray(0, at), crc))).toBe(expected);
      },
    ),
    { numRuns: 150 },
  );
});
