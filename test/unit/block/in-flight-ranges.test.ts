// The ranges in flight: nobody comes in between the wait for a range and its taking.
import { expect, test } from "vitest";
import { InFlightRanges } from "../../../src/block/copy/in-flight-ranges.ts";

test("of two that wait for one range, only one takes it at a time", async () => {
  const ranges = new InFlightRanges();
  const first = ranges.add({ offset: 0, bytes: 10 });
  const order: string[] = [];
  const work = async (name: string): Promise<void> => {
    const release = await ranges.take({ offset: 5, bytes: 10 });
    order.push(`${name} in`);
    await Promise.resolve();
    await Promise.resolve();
    order.push(`${name} out`);
    release();
  };
  const both = Promise.all([work("a"), work("b")]);
  first();
  await both;
  expect(order).toEqual(["a in", "a out", "b in", "b out"]);
  expect(ranges.size).toBe(0);
});

test("a range that is free is taken before anybody else can", async () => {
  const ranges = new InFlightRanges();
  const taking = ranges.take({ offset: 0, bytes: 4 });
  expect(ranges.overlaps({ offset: 3, bytes: 1 })).toBe(true);
  (await taking)();
  expect(ranges.bytes).toBe(0);
});
