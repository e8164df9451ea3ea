/** Bitmap: byte offsets over bit arrays, against a set of dirty granules. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ByteRange } from "../../../src/base/ranges.ts";
import { Bitmap } from "../../../src/kernels/bitmap.ts";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";

const kernelSets = [
  ["simd", loadKernels({ arenaBytes: 2 ** 16 })],
  ["twin", loadTwinKernels({ arenaBytes: 2 ** 16 })],
] as const;

const KiB = 1024;
const MiB = 1024 * KiB;

/** The extents of a set of granules, clipped to a range. */
function extentsOf(
  dirty: Set<number>,
  granularity: number,
  range: { offset: number; end: number },
): ByteRange[] {
  const found: { offset: number; bytes: number }[] = [];
  for (const index of [...dirty].sort((a, b) => a - b)) {
    const start = Math.max(range.offset, index * granularity);
    const end = Math.min(range.end, (index + 1) * granularity);
    if (start >= end) continue;
    const last = found.at(-1);
    if (last && last.offset + last.bytes === start) last.bytes += end - start;
    else found.push({ offset: start, bytes: end - start });
  }
  return found;
}

const granularities = fc.integer({ min: 9, max: 26 }).map((shift) => 2 ** shift);
const fraction = fc.double({ min: 0, max: 1, noNaN: true });
const action = fc.record({
  kind: fc.constantFrom("set", "set", "reset", "query", "clear"),
  a: fraction,
  b: fraction,
});

describe.each(kernelSets)("%s", (_, kernels) => {
  test("random operations at every granularity", () => {
    const shape = fc.record({ granularity: granularities, granules: fc.nat(2000), rest: fraction });
    fc.assert(
      fc.property(shape, fc.array(action, { maxLength: 25 }), ({ granularity, granules, rest }, actions) => {
        const length = granules * granularity + Math.floor(rest * granularity);
        const bitmap = new Bitmap(length, granularity, kernels);
        const dirty = new Set<number>();
        for (const { kind, a, b } of actions) {
          let offset = Math.floor(Math.min(a, b) * length);
          let end = Math.floor(Math.max(a, b) * length);
          if (kind === "reset") {
            offset -= offset % granularity;
            if (b > a) end -= end % granularity;
            else end = length;
            end = Math.max(offset, end);
            bitmap.reset(offset, end - offset);
            for (let i = offset / granularity; i * granularity < end; i++) dirty.delete(i);
          } else if (kind === "set") {
            bitmap.set(offset, end - offset);
            for (let i = Math.floor(offset / granularity); i * granularity < end && end > offset; i++)
              dirty.add(i);
          } else if (kind === "clear" && a < 0.3) {
            bitmap.clear();
            dirty.clear();
          }
          const expected = extentsOf(dirty, granularity, { offset, end });
          expect(bitmap.count()).toBe(dirty.size * granularity);
          expect(bitmap.isEmpty).toBe(dirty.size === 0);
          expect(bitmap.extents(offset, end, 10_000)).toEqual(expected);
          expect(bitmap.extents(offset, end, 2)).toEqual(expected.slice(0, 2));
          expect(bitmap.nextDirty(offset, end)).toBe(expected[0]?.offset ?? -1);
          const firstRun = expected[0];
          const clean = offset === end ? -1 : firstRun?.offset === offset ? offset + firstRun.bytes : offset;
          expect(bitmap.nextZero(offset, end)).toBe(clean >= end ? -1 : clean);
          if (offset < length) expect(bitmap.get(offset)).toBe(dirty.has(Math.floor(offset / granularity)));
        }
        bitmap.free();
      }),
      { numRuns: 100 },
    );
  });

  test("merge between all granularities, clone and setAll", () => {
    fc.assert(
      fc.property(
        granularities,
        granularities,
        fc.integer({ min: 1, max: 3000 }),
        fraction,
        (g1, g2, n, at) => {
          const length = n * Math.min(g1, g2) - Math.floor(at * 511);
          const target = new Bitmap(length, g1, kernels);
          const source = new Bitmap(length, g2, kernels);
          const offset = Math.floor(at * (length - 1));
          source.set(offset, Math.min(length - offset, 3 * 512));
          target.set(0, 1);
          const clone = target.clone();
          target.merge(source);
          for (const { offset: start, bytes } of source.extents(0, length, 10)) clone.set(start, bytes);
          expect(target.extents(0, length, 100)).toEqual(clone.extents(0, length, 100));
          expect(target.count()).toBe(clone.count());
          target.setAll();
          expect(target.count()).toBe(Math.ceil(length / g1) * g1);
          expect(target.extents(0, length, 5)).toEqual([{ offset: 0, bytes: length }]);
          for (const bitmap of [target, source, clone]) bitmap.free();
        },
      ),
      { numRuns: 100 },
    );
  });

  test("truncate keeps what remains and adds clean granules", () => {
    const bitmap = new Bitmap(10 * KiB + 5, KiB, kernels);
    bitmap.set(10 * KiB, 5);
    bitmap.set(3 * KiB, 1);
    bitmap.truncate(20 * KiB);
    expect(bitmap.extents(0, 20 * KiB, 9)).toEqual([
      { offset: 3 * KiB, bytes: KiB },
      { offset: 10 * KiB, bytes: KiB },
    ]);
    bitmap.truncate(10 * KiB);
    expect(bitmap.count()).toBe(KiB);
    bitmap.truncate(20 * KiB);
    expect(bitmap.extents(0, 20 * KiB, 9)).toEqual([{ offset: 3 * KiB, bytes: KiB }]);
    for (let at = 0; at < 20 * KiB; at += 2 * KiB) bitmap.set(at, 1);
    bitmap.truncate(2 ** 24);
    expect(bitmap.count()).toBe(11 * KiB);
    bitmap.truncate(0);
    expect([bitmap.count(), bitmap.length, bitmap.nextDirty(0)]).toEqual([0, 0, -1]);
  });

  test("the serialized form is QEMU's: little-endian bits, tail bits dropped", () => {
    const bitmap = new Bitmap(20 * KiB, KiB, kernels);
    bitmap.set(0, 1);
    bitmap.set(9 * KiB, 2 * KiB);
    expect([...bitmap.serialize()]).toEqual([0x01, 0x06, 0x00]);
    bitmap.deserialize(Uint8Array.of(0x80, 0x00, 0xff));
    expect(bitmap.extents(0, 20 * KiB, 9)).toEqual([
      { offset: 7 * KiB, bytes: KiB },
      { offset: 16 * KiB, bytes: 4 * KiB },
    ]);
    expect(bitmap.count()).toBe(5 * KiB);
    bitmap.deserializePart(1, Uint8Array.of(0x01));
    const part = new Uint8Array(2);
    bitmap.serializePart(0, part);
    expect([...part]).toEqual([0x80, 0x01]);
    expect(bitmap.count()).toBe(6 * KiB);
    expect(() => bitmap.deserialize(new Uint8Array(4))).toThrow("size");
    expect(() => bitmap.deserializePart(2, new Uint8Array(2))).toThrow("range");
  });

  test("a serialized copy equals the original", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(99_999), { maxLength: 60 }), (granules) => {
        const bitmap = new Bitmap(100_000 * 512, 512, kernels);
        for (const index of granules) bitmap.set(index * 512, 512);
        const copy = new Bitmap(bitmap.length, 512, kernels);
        const bytes = bitmap.serialize();
        for (let at = 0; at < bytes.length; at += 4096)
          copy.deserializePart(at, bytes.subarray(at, at + 4096));
        expect(copy.count()).toBe(bitmap.count());
        expect(copy.extents(0, copy.length, 100)).toEqual(bitmap.extents(0, bitmap.length, 100));
        bitmap.free();
        copy.free();
      }),
      { numRuns: 30 },
    );
  });

  test("extents go on over more than one batch", () => {
    const bitmap = new Bitmap(2000 * 512, 512, kernels);
    for (let i = 0; i < 1000; i++) bitmap.set(2 * i * 512, 1);
    expect(bitmap.extents(0, bitmap.length, 5000)).toHaveLength(1000);
    const out = new Float64Array(2 * 700 + 1);
    expect(bitmap.writeExtents(5, bitmap.length, out)).toBe(700);
    expect([...out.subarray(0, 4)]).toEqual([5, 507, 1024, 512]);
    expect([...out.subarray(1398, 1400)]).toEqual([1398 * 512, 512]);
  });

  test("wrong ranges are programmer errors", () => {
    const bitmap = new Bitmap(10 * KiB, KiB, kernels);
    expect(() => bitmap.set(10 * KiB, 1)).toThrow("range");
    expect(() => bitmap.set(-1, 1)).toThrow("range");
    expect(() => bitmap.set(0.5, 1)).toThrow("range");
    expect(() => bitmap.get(10 * KiB)).toThrow("range");
    expect(() => bitmap.nextDirty(0, 11 * KiB)).toThrow("range");
    expect(() => bitmap.reset(512, KiB)).toThrow("granule");
    expect(() => bitmap.reset(0, 512)).toThrow("granule");
    expect(() => bitmap.merge(new Bitmap(9 * KiB, KiB, kernels))).toThrow("length");
    expect(() => new Bitmap(1, 256, kernels)).toThrow("granularity");
    expect(() => new Bitmap(1, 4096 * MiB, kernels)).toThrow("granularity");
    expect(() => new Bitmap(1, 1000, kernels)).toThrow("granularity");
    bitmap.free();
    bitmap.free();
    expect(() => bitmap.set(0, 1)).toThrow("freed");
  });
});

test("huge sizes: cost is bounded, refusals name the way out", () => {
  const kernels = kernelSets[0][1];
  const petabyte = 2 ** 50;
  expect(() => new Bitmap(petabyte, 64 * KiB, kernels)).toThrow(
    expect.objectContaining({
      code: "EFBIG",
      message: expect.stringContaining("larger granularity") as string,
    }),
  );
  const size = 2 ** 53 - 2 ** 33;
  const bitmap = new Bitmap(size, 64 * MiB, kernels);
  bitmap.set(size - 1, 1);
  expect(bitmap.nextDirty(0)).toBe(size - 64 * MiB);
  expect(bitmap.extents(0, size, 3)).toEqual([{ offset: size - 64 * MiB, bytes: 64 * MiB }]);
  expect(bitmap.nextZero(size - 64 * MiB)).toBe(-1);
  bitmap.free();
});
