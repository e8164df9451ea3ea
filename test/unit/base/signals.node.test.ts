// One signal for many requests: one listener, none left behind, everybody told.
import { getEventListeners } from "node:events";
import { expect, test } from "vitest";
import { abortable, deferred, onAbort } from "../../../src/base/signals.ts";
import { sleep } from "../../../src/base/sleep.ts";
import { nodeClock } from "../../../src/platform/node/clock.ts";

const listeners = (signal: AbortSignal): number => getEventListeners(signal, "abort").length;

test("a signal carries one listener for all who wait, and none after the last", async () => {
  const { signal } = new AbortController();
  const waits = Array.from({ length: 50 }, () => deferred());
  const all = waits.map(({ promise }) => abortable(promise, signal));
  expect(listeners(signal)).toBe(1);
  for (const wait of waits.slice(1)) wait.resolve();
  await Promise.all(all.slice(1));
  expect(listeners(signal)).toBe(1);
  waits[0]!.resolve();
  await all[0];
  expect(listeners(signal)).toBe(0);
});

test("everybody is told of an abort, but who has taken it back", () => {
  const controller = new AbortController();
  const told: string[] = [];
  onAbort(controller.signal, () => told.push("a"));
  const forget = onAbort(controller.signal, () => told.push("b"));
  const run = (): void => void told.push("twice");
  onAbort(controller.signal, run);
  onAbort(controller.signal, run);
  forget();
  forget();
  controller.abort();
  expect(told).toEqual(["a", "twice", "twice"]);
  expect(listeners(controller.signal)).toBe(0);
});

test("an abort ends every wait with the signal's reason, and a late taking back harms nobody", async () => {
  const controller = new AbortController();
  const reason = new Error("enough");
  const waits = [
    ...Array.from({ length: 20 }, () => abortable(deferred().promise, controller.signal)),
    ...Array.from({ length: 20 }, () => sleep(nodeClock, 600_000, controller.signal)),
  ];
  expect(listeners(controller.signal)).toBe(1);
  controller.abort(reason);
  const ends = await Promise.allSettled(waits);
  expect(ends).toEqual(ends.map(() => ({ status: "rejected", reason })));
  expect(listeners(controller.signal)).toBe(0);
  await expect(abortable(Promise.resolve(1), controller.signal)).rejects.toBe(reason);
});

test("a signal that is waited for anew gets its listener anew", () => {
  const controller = new AbortController();
  const told: number[] = [];
  onAbort(controller.signal, () => told.push(1))();
  expect(listeners(controller.signal)).toBe(0);
  onAbort(controller.signal, () => told.push(2));
  controller.abort();
  expect(told).toEqual([2]);
});
