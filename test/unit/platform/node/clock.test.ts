// Time in Node: monotone, timers never early.
import { expect, test } from "vitest";
import { keepAlive, nodeClock } from "../../../../src/platform/node/clock.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";

test("both clocks go forward and the wall clock is near the system's", async () => {
  const before = [nodeClock.nowMs(), nodeClock.wallMicroseconds()] as const;
  await new Promise<void>((resolve) => nodeClock.timer(5, resolve));
  expect(nodeClock.nowMs() - before[0]).toBeGreaterThanOrEqual(5);
  expect(nodeClock.wallMicroseconds()).toBeGreaterThan(before[1]);
  expect(Math.abs(before[1] / 1000 - Date.now())).toBeLessThan(60_000);
  expect(Number.isSafeInteger(before[1])).toBe(true);
});

test("a cancelled timer does not fire, and one beyond setTimeout's range does not fire at once", async () => {
  const fired: string[] = [];
  nodeClock.timer(0, () => fired.push("cancelled"))();
  const cancel = nodeClock.timer(2 ** 40, () => fired.push("long"));
  await new Promise<void>((resolve) => nodeClock.timer(20, resolve));
  cancel();
  expect(fired).toEqual([]);
});

test("turn lets timers and other tasks run", async () => {
  let ran = false;
  setImmediate(() => (ran = true));
  await nodeClock.turn();
  expect(ran).toBe(true);
});

test("a timer that waits keeps the process alive, and so does keepAlive", () => {
  const timeouts = (): number =>
    process.getActiveResourcesInfo().filter((resource) => resource === "Timeout").length;
  const before = timeouts();
  const cancel = nodeClock.timer(600_000, () => undefined);
  expect(timeouts()).toBe(before + 1);
  cancel();
  const release = keepAlive();
  expect(timeouts()).toBe(before + 1);
  release();
  expect(timeouts()).toBe(before);
});

test("random numbers stay below their limit", () => {
  const { random } = nodeHost({ native: "off" });
  const drawn = Array.from({ length: 1000 }, () => random.below(3));
  expect(new Set(drawn)).toEqual(new Set([0, 1, 2]));
  expect(random.below(1)).toBe(0);
});
