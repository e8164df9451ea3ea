// Bins of latencies: a time belongs to the first boundary that is above it.
import { expect, it } from "vitest";
import { LatencyHistogram } from "../../../src/block/model/latency.ts";

it("a boundary begins a bin", () => {
  const histogram = new LatencyHistogram([10, 100]);
  for (const ns of [0, 9, 10, 99, 100, 5000, 99.5]) histogram.add(ns);
  expect(histogram.bins).toEqual([2, 3, 2]);
  const one = new LatencyHistogram([]);
  one.add(7);
  expect(one.bins).toEqual([1]);
});
