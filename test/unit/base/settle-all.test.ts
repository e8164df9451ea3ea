// Waiting for several: none is left behind, and the first failure in their order is what everybody sees.
import { expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { deferred, settleAll, valuesOrFailure } from "../../../src/base/signals.ts";

test("the values are given in the order of the waits, whenever they come", async () => {
  const late = deferred<number>();
  const all = settleAll([late.promise, 2, Promise.resolve(3)]);
  late.resolve(1);
  await expect(all).resolves.toEqual([1, 2, 3]);
  await expect(settleAll([])).resolves.toEqual([]);
});

test("a failure waits for those that are still under way", async () => {
  const last = deferred();
  let over = false;
  const error = blockError("EIO", "pread");
  const all = settleAll([Promise.reject(error), last.promise]).finally(() => {
    over = true;
  });
  all.catch(() => undefined);
  for (let turn = 0; turn < 10; turn++) await Promise.resolve();
  expect(over).toBe(false);
  last.resolve();
  await expect(all).rejects.toBe(error);
});

test("the first in order is thrown, not the first in time, with the others as its causes", async () => {
  const [one, two, three] = [blockError("EIO", "one"), blockError("ENOSPC", "two"), new Error("three")];
  const first = deferred();
  const all = settleAll([first.promise, Promise.reject(two), Promise.resolve(), Promise.reject(three)]);
  first.reject(one);
  await expect(all).rejects.toBe(one);
  expect(one.cause).toBe(two);
  expect(two.cause).toBe(three);
  expect(three.cause).toBeUndefined();
});

test("errors that several get in different orders make no ring of causes", () => {
  const [one, two] = [blockError("EIO", "one"), blockError("EIO", "two")];
  const rejected = (...errors: Error[]) =>
    errors.map((reason): PromiseRejectedResult => ({ status: "rejected", reason }));
  expect(() => valuesOrFailure(rejected(one, two, one))).toThrow(one);
  expect(() => valuesOrFailure(rejected(two, one))).toThrow(two);
  expect(one.cause).toBe(two);
  expect(two.cause).toBeUndefined();
  expect(() => valuesOrFailure(rejected(two, new Error("three"), one))).toThrow(two);
  expect(two.cause).toHaveProperty("message", "three");
});
