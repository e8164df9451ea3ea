// Ranges that the system copies: whole, in more calls than one, up to where it can no more, or not at all.
import { expect, test } from "vitest";
import type { TwoRanges } from "../../../../src/platform/node/file-thread.ts";
import { copiedWithin, Offload } from "../../../../src/platform/node/offload.ts";

const ranges: TwoRanges[] = [
  { a: 3, atA: 0, atB: 1000, bytes: 100 },
  { a: 4, atA: 500, atB: 0, bytes: 50 },
];

test("a range is asked for until it is whole", async () => {
  const asked: TwoRanges[] = [];
  const counts = await copiedWithin(ranges, (range) => {
    asked.push(range);
    return Promise.resolve(Math.min(range.bytes, 60));
  });
  expect(counts).toEqual([100, 50]);
  expect(asked).toEqual([ranges[0], { a: 3, atA: 60, atB: 1060, bytes: 40 }, ranges[1]]);
});

test("an error, or the end of a file, ends the copy there", async () => {
  for (const end of [0, -28]) {
    const answers = [60, end];
    expect(await copiedWithin(ranges, () => Promise.resolve(answers.shift()!))).toEqual([60, 0]);
  }
});

test("what can't be begun is told apart", async () => {
  expect(await copiedWithin(ranges, () => Promise.resolve(-18))).toBeUndefined();
});

test("lists into one file are copied one after the other, whatever becomes of them", async () => {
  const offload = new Offload();
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const list = (atB: number): typeof ranges => [{ a: 3, atA: 0, atB, bytes: 100 }];
  const copies = [0, 100, 200].map((atB) =>
    offload.copy(list(atB), async (range) => {
      begun.push(range.atB);
      await new Promise<void>((resolve) => ends.push(resolve));
      if (range.atB === 100) throw new Error("no answer");
      return range.bytes;
    }),
  );
  const settled = Promise.allSettled(copies);
  for (const at of [1, 2, 3]) {
    await expect.poll(() => ends.length).toBe(at);
    expect(begun).toEqual([0, 100, 200].slice(0, at));
    ends[at - 1]!();
  }
  expect((await settled).map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
});
