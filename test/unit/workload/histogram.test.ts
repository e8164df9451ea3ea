/** Histograms: percentiles that were measured, sums of several, and the V2 encoding. */
import { describe, expect, it } from "vitest";
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import { Draws, streamKey } from "../../../src/workload/random/noise.ts";
import { Histogram, bucketOf, endOfBucket } from "../../../src/workload/stats/histogram.ts";
import { storedContent, storedZlib } from "../../../src/workload/stats/zlib.ts";

const kernels = loadTwinKernels({ arenaBytes: 65_536 });

function times(count: number): number[] {
  const draws = new Draws(kernels, streamKey(3, 0, "times"));
  return Array.from({ length: count }, () => Math.floor(draws.exponential() * 1e6) + 100);
}

it("every bucket ends where the next begins, and is no wider than a thousandth", () => {
  for (let bucket = 0; bucket < 40 * 1024; bucket += 7) {
    const end = endOfBucket(bucket);
    expect(bucketOf(end)).toBe(bucket);
    expect(bucketOf(end + 1)).toBe(bucket + 1);
    if (bucket > 0) expect(end - endOfBucket(bucket - 1)).toBeLessThanOrEqual(Math.max(1, end / 1000));
  }
});

describe("percentiles", () => {
  it("are times that were measured, within a thousandth of the exact one", () => {
    const all = times(50_000);
    const histogram = new Histogram();
    for (const time of all) histogram.record(time);
    const sorted = all.toSorted((a, b) => a - b);
    for (const percent of [1, 50, 90, 99, 99.9, 99.99]) {
      const exact = sorted[Math.ceil((percent * sorted.length) / 100) - 1]!;
      const told = histogram.percentile(percent);
      expect(all).toContain(told);
      expect(told / exact - 1).toBeGreaterThanOrEqual(0);
      expect(told / exact - 1).toBeLessThan(0.001);
    }
  });

  it("of few different times are exact", () => {
    const histogram = new Histogram();
    histogram.record(1_000_000, 999);
    histogram.record(500_123_456, 1);
    expect(histogram.percentile(99.9)).toBe(1_000_000);
    expect(histogram.percentile(99.95)).toBe(500_123_456);
    expect(histogram.summary()).toMatchObject({ count: 1000, minNs: 1_000_000, maxNs: 500_123_456 });
  });
});

it("the sum of two is the histogram of all", () => {
  const all = times(5000);
  const [one, other, whole] = [new Histogram(), new Histogram(), new Histogram()];
  for (const [i, time] of all.entries()) {
    (i % 3 === 0 ? one : other).record(time);
    whole.record(time);
  }
  one.add(other);
  const { meanNs, deviationNs, ...rest } = one.summary();
  const expected = whole.summary();
  expect({ ...rest, meanNs: expected.meanNs, deviationNs: expected.deviationNs }).toEqual(expected);
  expect(meanNs).toBeCloseTo(expected.meanNs, 6);
  expect(deviationNs).toBeCloseTo(expected.deviationNs, 3);
});

describe("the V2 encoding", () => {
  it("is read back", () => {
    const histogram = new Histogram();
    for (const time of times(3000)) histogram.record(time);
    histogram.record(3000e9, 70_000);
    const again = Histogram.decode(histogram.encode());
    const plain = (one: Histogram): unknown => [...one.buckets()].map(({ bucket, count }) => [bucket, count]);
    expect(plain(again)).toEqual(plain(histogram));
  });

  it("is, byte for byte, what the format says of one value of 5", () => {
    const histogram = new Histogram();
    histogram.record(5, 3);
    const bytes = Uint8Array.from(atob(histogram.encode()), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    expect(view.getUint32(0)).toBe(0x1c849314);
    const inner = storedContent(bytes.subarray(8))!;
    const head = new DataView(inner.buffer);
    expect([head.getUint32(0), head.getUint32(4), head.getUint32(12)]).toEqual([0x1c849313, 2, 3]);
    // Five empty counts, then 3: ZigZag.
    expect([...inner.subarray(40)]).toEqual([9, 6]);
  });

  it("refuses what is another's", () => {
    expect(() => Histogram.decode("AAAA")).toThrow("none of Blockwright's");
  });
});

it("stored frames are read by the platform's inflater", async () => {
  const bytes = new Uint8Array(150_000).map((_, i) => i * 7);
  const stream = new Blob([storedZlib(bytes) as Uint8Array<ArrayBuffer>])
    .stream()
    .pipeThrough(new DecompressionStream("deflate"));
  expect(new Uint8Array(await new Response(stream).arrayBuffer())).toEqual(bytes);
});
