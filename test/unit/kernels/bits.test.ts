/** Bit arrays: the SIMD pool and the twin, driven by the same random operations, against an array of booleans. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { BlockError } from "../../../src/base/errors.ts";
import type { Bits } from "../../../src/kernels/kernels.ts";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";
import { noise } from "./support.ts";

const simd = loadKernels({ arenaBytes: 2 ** 16 });
const twin = loadTwinKernels({ arenaBytes: 2 ** 16 });

type Operation = { kind: number; from: number; to: number };

/** Runs of ones in a model. */
function runsOf(model: boolean[], from: number, end: number): number[] {
  const pairs: number[] = [];
  for (let at = from; at < end;) {
    const first = model.indexOf(true, at);
    if (first < 0 || first >= end) break;
    let stop = first;
    while (stop < end && model[stop]) stop++;
    pairs.push(first, stop - first);
    at = stop;
  }
  return pairs;
}

/** The next `value` in the range, or its end. */
function next(model: boolean[], value: boolean, range: { from: number; end: number }): number {
  const found = model.indexOf(value, range.from);
  return found < 0 || found > range.end ? range.end : found;
}

/** Asks everything that a bit array answers about a range. */
function compare(bits: Bits, model: boolean[], range: { from: number; end: number }): void {
  const { from, end } = range;
  expect(bits.count(from, end)).toBe(model.slice(from, end).filter(Boolean).length);
  expect(bits.nextOne(from, end)).toBe(next(model, true, range));
  expect(bits.nextZero(from, end)).toBe(next(model, false, range));
  const expected = runsOf(model, from, end);
  const out = new Float64Array(expected.length + 2);
  expect(bits.extents(from, end, out, 1)).toBe(expected.length / 2);
  expect([...out.subarray(0, -2)]).toEqual(expected);
  bits.extents(from, end, out, 65536);
  expect([...out.subarray(0, -2)]).toEqual(expected.map((index) => index * 65536));
  if (expected.length >= 4) {
    expect(bits.extents(from, end, out.subarray(0, 3), 1)).toBe(1);
    expect([...out.subarray(0, 2)]).toEqual(expected.slice(0, 2));
  }
  if (from < model.length) expect(bits.test(from)).toBe(model[from]);
}

/** Does one operation on a bit array and a model, and compares how many bits changed. */
function apply(bits: Bits, model: boolean[], operation: Operation): void {
  const n = model.length;
  const from = Math.min(operation.from, operation.to) % (n + 1);
  const end = Math.max(from, operation.to % (n + 1));
  const range = { from, end };
  switch (operation.kind) {
    case 0:
      expect(bits.set(from, end - from)).toBe(model.slice(from, end).filter((bit) => !bit).length);
      model.fill(true, from, end);
      break;
    case 1:
      expect(bits.reset(from, end - from)).toBe(model.slice(from, end).filter(Boolean).length);
      model.fill(false, from, end);
      break;
    case 2:
      bits.clear();
      model.fill(false);
      break;
    case 3: {
      const source = noise(Math.ceil(end / 8) - (from >> 3), end);
      bits.write(from >> 3, source);
      for (let i = (from >> 3) * 8; i < Math.min(n, Math.ceil(end / 8) * 8); i++) {
        model[i] = ((source[(i >> 3) - (from >> 3)]! >> (i & 7)) & 1) === 1;
      }
      break;
    }
    case 4:
      // Scattered single bits.
      for (let i = from; i < end; i += 1 + (operation.to % 700)) {
        bits.set(i, 1);
        model[i] = true;
      }
      break;
    default:
      break;
  }
  compare(bits, model, range);
}

function bytesOf(model: boolean[]): number[] {
  const bytes = Array.from({ length: Math.ceil(model.length / 8) }, () => 0);
  model.forEach((bit, i) => (bytes[i >> 3]! |= bit ? 1 << (i & 7) : 0));
  return bytes;
}

const operations = fc.array(fc.record({ kind: fc.nat(5), from: fc.nat(100_000), to: fc.nat(100_000) }), {
  minLength: 1,
  maxLength: 30,
});
const sizes = fc.oneof(fc.nat(130), fc.nat(3000), fc.integer({ min: 32_700, max: 40_000 }));

describe.each([
  ["simd", simd],
  ["twin", twin],
])("%s", (_, kernels) => {
  test("random operations", () => {
    fc.assert(
      fc.property(sizes, operations, (size, list) => {
        const bits = kernels.createBits(size);
        const model = Array.from({ length: size }, () => false);
        for (const operation of list) apply(bits, model, operation);
        compare(bits, model, { from: 0, end: size });
        const bytes = new Uint8Array(Math.ceil(size / 8));
        bits.read(0, bytes);
        expect([...bytes]).toEqual(bytesOf(model));
        bits.free();
      }),
      { numRuns: 120 },
    );
  });

  test("merge, at one granularity and between two", () => {
    fc.assert(
      fc.property(
        sizes,
        fc.integer({ min: -5, max: 5 }),
        operations,
        operations,
        (size, shift, into, from) => {
          // `unit` bits of the finer array are one of the coarser.
          const unit = 2 ** Math.abs(shift);
          const coarse = Math.ceil(size / unit);
          const target = Array.from({ length: shift >= 0 ? coarse : size }, () => false);
          const source = Array.from({ length: shift >= 0 ? size : coarse }, () => false);
          const bits = kernels.createBits(target.length);
          const other = kernels.createBits(source.length);
          for (const operation of into) apply(bits, target, operation);
          for (const operation of from) apply(other, source, operation);
          const before = target.filter(Boolean).length;
          source.forEach((bit, i) => {
            if (!bit) return;
            if (shift >= 0) target[Math.floor(i / unit)] = true;
            else target.fill(true, i * unit, (i + 1) * unit);
          });
          expect(bits.merge(other, shift)).toBe(target.filter(Boolean).length - before);
          compare(bits, target, { from: 0, end: target.length });
          compare(other, source, { from: 0, end: source.length });
          bits.free();
          other.free();
        },
      ),
      { numRuns: 120 },
    );
  });

  test("freed memory comes back clean", () => {
    for (let round = 0; round < 20; round++) {
      const bits = kernels.createBits(100_000 + round);
      expect(bits.nextOne(0, bits.length)).toBe(bits.length);
      expect(bits.count(0, bits.length)).toBe(0);
      bits.set(0, bits.length);
      bits.write(0, new Uint8Array(100).fill(0x55));
      bits.free();
    }
  });

  test("arrays keep their bits while others come and make the memory grow", () => {
    const small = kernels.createBits(1000);
    small.set(123, 5);
    const large = kernels.createBits(2 ** 24);
    large.set(2 ** 24 - 3, 3);
    expect([small.nextOne(0, 1000), small.count(0, 1000)]).toEqual([123, 5]);
    const out = new Float64Array(4);
    expect(large.extents(0, large.length, out, 1)).toBe(1);
    expect([...out]).toEqual([2 ** 24 - 3, 3, 0, 0]);
    small.free();
    large.free();
  });

  test("more runs than the kernel's own list holds", () => {
    const bits = kernels.createBits(9000);
    for (let i = 0; i < 9000; i += 3) bits.set(i, 1);
    const out = new Float64Array(2 * 3001);
    expect(bits.extents(0, 9000, out, 1)).toBe(3000);
    for (let i = 0; i < 3000; i++) expect([out[2 * i], out[2 * i + 1]]).toEqual([3 * i, 1]);
    bits.free();
  });
});

test("the largest array works to its last bit, and together they are bounded", () => {
  const own = loadKernels({ arenaBytes: 2 ** 16 });
  const size = 2 ** 31;
  const bits = own.createBits(size);
  bits.set(size - 70, 70);
  bits.set(2 ** 30, 1);
  expect(bits.nextOne(0, size)).toBe(2 ** 30);
  expect(bits.nextOne(2 ** 30 + 1, size)).toBe(size - 70);
  expect(bits.nextZero(size - 70, size)).toBe(size);
  expect(bits.count(0, size)).toBe(71);
  const others: Bits[] = [];
  expect(() => {
    for (let i = 0; i < 8; i++) others.push(own.createBits(size));
  }).toThrow(BlockError);
  expect(others.length).toBeGreaterThan(0);
  // What failed has changed nothing, and what is freed can be had again.
  others.pop()!.free();
  own.createBits(size).free();
  expect(bits.reset(0, size)).toBe(71);
  expect(bits.count(0, size)).toBe(0);
});
