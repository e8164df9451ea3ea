/** Zero test, comparison and copy: the SIMD kernels and their twins against the plainest model. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Kernels } from "../../../src/kernels/kernels.ts";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { noise } from "./support.ts";

const AREA = 2 ** 23;
const simd = loadKernels({ arenaBytes: AREA });
const twin = loadTwinKernels({ arenaBytes: AREA });

type Runs = [number, number][];

/** The runs of granules for which `matches` holds, found one granule at a time. */
function modelRuns(length: number, granule: number, matches: (start: number, end: number) => boolean): Runs {
  const runs: Runs = [];
  for (let start = 0; start < length; start += granule) {
    const end = Math.min(length, start + granule);
    if (!matches(start, end)) continue;
    const last = runs.at(-1);
    if (last && last[0] + last[1] === start) last[1] += end - start;
    else runs.push([start, end - start]);
  }
  return runs;
}

/** All runs, fetched `batch` pairs at a time by going on behind the last one. */
function fetchRuns(length: number, batch: number, fetch: (from: number, out: Uint32Array) => number): Runs {
  const out = new Uint32Array(2 * batch);
  const runs: Runs = [];
  for (let from = 0; from < length;) {
    const count = fetch(from, out);
    for (let i = 0; i < count; i++) runs.push([from + out[2 * i]!, out[2 * i + 1]!]);
    if (count < batch) break;
    from += out[2 * count - 2]! + out[2 * count - 1]!;
  }
  return runs;
}

/** Zeros with short islands of data, at random places. */
const islands = fc.record({
  length: fc.oneof(fc.nat(3000), fc.nat(70_000), fc.integer({ min: 262_100, max: 300_000 })),
  offset: fc.nat(70),
  at: fc.array(fc.tuple(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(700)), { maxLength: 12 }),
});

function withIslands(target: Uint8Array, at: readonly (readonly [number, number])[]): void {
  for (const [where, length] of at) {
    const start = Math.floor(where * target.length);
    target.fill(0x5a, start, start + length);
  }
}

/** A zeroed view: in the kernels' area (at `place`, a quarter of it), or outside. */
function view(
  kernels: Kernels,
  inside: boolean,
  spot: { place: number; offset: number; length: number },
): Uint8Array {
  const { buffer, start } = kernels.area;
  if (!inside) return new Uint8Array(new ArrayBuffer(spot.offset + spot.length), spot.offset, spot.length);
  const at = start + (spot.place * AREA) / 4 + spot.offset;
  new Uint8Array(buffer, start + (spot.place * AREA) / 4, AREA / 4).fill(0xee);
  return new Uint8Array(buffer, at, spot.length).fill(0);
}

const isZeroModel = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

describe.each([
  ["simd, in the arena", simd, true],
  ["simd, staged", simd, false],
  ["twin", twin, false],
] as const)("%s", (_, kernels, inside) => {
  test("a single byte is seen at every place of every length", () => {
    for (let length = 0; length < 600; length += length < 40 ? 1 : 37) {
      const bytes = view(kernels, inside, { place: 0, offset: length % 19, length });
      expect(kernels.isZero(bytes)).toBe(true);
      for (let at = 0; at < length; at++) {
        bytes[at] = 1 << (at & 7);
        expect(kernels.isZero(bytes), `byte ${at} of ${length}`).toBe(false);
        bytes[at] = 0;
      }
    }
  });

  test("the first byte that differs is found at every place of every length", () => {
    for (let length = 0; length < 600; length += length < 40 ? 1 : 37) {
      const a = view(kernels, inside, { place: 0, offset: length % 7, length });
      const b = view(kernels, inside, { place: 1, offset: length % 11, length });
      a.set(noise(length, length));
      b.set(a);
      expect(kernels.firstDifference(a, b)).toBe(-1);
      for (let at = 0; at < length; at++) {
        b[at] = b[at]! ^ 0x80;
        if (at + 9 < length) b[at + 9] = b[at + 9]! ^ 1;
        expect(kernels.firstDifference(a, b), `byte ${at} of ${length}`).toBe(at);
        b.set(a);
      }
    }
  });

  test("copying sees a single byte at every place of every length", () => {
    for (let length = 0; length < 300; length += length < 40 ? 1 : 37) {
      const source = view(kernels, inside, { place: 0, offset: length % 19, length });
      const target = view(kernels, inside, { place: 1, offset: length % 5, length });
      for (let at = 0; at < length; at++) {
        source[at] = 0x80 >> (at & 7);
        expect(kernels.copyAndTestZero(target, source), `byte ${at} of ${length}`).toBe(false);
        expect(target.indexOf(source[at]!)).toBe(at);
        source[at] = 0;
      }
      expect(kernels.copyAndTestZero(target, source)).toBe(true);
      expect(isZeroModel(target)).toBe(true);
    }
  });

  test("zero runs", () => {
    fc.assert(
      fc.property(
        islands,
        fc.integer({ min: 9, max: 19 }),
        fc.integer({ min: 1, max: 5 }),
        (spot, shift, batch) => {
          const granule = 2 ** shift;
          const bytes = view(kernels, inside, { place: 0, ...spot });
          withIslands(bytes, spot.at);
          const expected = modelRuns(bytes.length, granule, (s, e) => isZeroModel(bytes.subarray(s, e)));
          expect(kernels.isZero(bytes)).toBe(isZeroModel(bytes));
          for (const pairs of [batch, 1000]) {
            const runs = fetchRuns(bytes.length, pairs, (from, out) =>
              kernels.zeroRuns(bytes.subarray(from), granule, out),
            );
            expect(runs).toEqual(expected);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("difference runs", () => {
    fc.assert(
      fc.property(
        islands,
        fc.integer({ min: 9, max: 19 }),
        fc.integer({ min: 1, max: 5 }),
        (spot, shift, batch) => {
          const granule = 2 ** shift;
          const a = view(kernels, inside, { place: 0, ...spot });
          const b = view(kernels, inside, { place: 2, ...spot, offset: spot.offset >> 1 });
          a.set(noise(a.length, 1));
          b.set(a);
          withIslands(b, spot.at);
          const differs = (s: number, e: number): boolean =>
            a.subarray(s, e).some((byte, i) => byte !== b[s + i]);
          const expected = modelRuns(a.length, granule, differs);
          for (const pairs of [batch, 1000]) {
            const runs = fetchRuns(a.length, pairs, (from, out) =>
              kernels.differenceRuns(a.subarray(from), b.subarray(from), granule, out),
            );
            expect(runs).toEqual(expected);
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  test("copy with zero test writes the target and nothing beside it", () => {
    fc.assert(
      fc.property(islands, fc.constantFrom("both", "target", "source"), (spot, where) => {
        const source = view(kernels, inside && where !== "target", { place: 0, ...spot });
        const target = view(kernels, inside && where !== "source", { place: 2, ...spot, offset: 64 });
        withIslands(source, spot.at);
        target.fill(0x11);
        expect(kernels.copyAndTestZero(target, source)).toBe(isZeroModel(source));
        expect(kernels.firstDifference(target, source)).toBe(-1);
        if (target.buffer === kernels.area.buffer) {
          const around = new Uint8Array(target.buffer, target.byteOffset - 8, target.length + 16);
          expect([...around.subarray(0, 8), ...around.subarray(-8)]).toEqual(
            Array.from({ length: 16 }, () => 0xee),
          );
        }
      }),
      { numRuns: 60 },
    );
  });

  test("copy takes overlapping ranges", () => {
    const bytes = view(kernels, inside, { place: 0, offset: 3, length: 5000 });
    const source = noise(5000, 9);
    bytes.set(source);
    kernels.copy(bytes.subarray(100), bytes.subarray(0, 4900));
    expect(kernels.firstDifference(bytes.subarray(100), source.subarray(0, 4900))).toBe(-1);
  });

  test("many runs pass the kernel's own list", () => {
    const bytes = view(kernels, inside, { place: 0, offset: 0, length: 1280 * 1024 });
    for (let at = 0; at < bytes.length; at += 1024) bytes[at] = 1;
    const out = new Uint32Array(2600);
    const count = kernels.zeroRuns(bytes, 512, out);
    expect(count).toBe(1280);
    for (let i = 0; i < count; i++) expect([out[2 * i], out[2 * i + 1]]).toEqual([i * 1024 + 512, 512]);
  });

  test("bad granules and unequal lengths are programmer errors", () => {
    const bytes = new Uint8Array(16);
    const out = new Uint32Array(2);
    for (const granule of [0, 256, 513, 768, 2 ** 31]) {
      expect(() => kernels.zeroRuns(bytes, granule, out)).toThrow("granule");
    }
    expect(() => kernels.firstDifference(bytes, new Uint8Array(15))).toThrow("length");
    expect(() => kernels.copyAndTestZero(bytes, new Uint8Array(17))).toThrow("length");
  });
});

test("a list without room takes nothing", () => {
  expect(simd.zeroRuns(new Uint8Array(512), 512, new Uint32Array(0))).toBe(0);
  expect(twin.zeroRuns(new Uint8Array(512), 512, new Uint32Array(1))).toBe(0);
});
