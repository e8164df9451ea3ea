// The rate limit and the back-off, in virtual time.
import { expect, test } from "vitest";
import { Backoff } from "../../../src/job/core/pace.ts";
import { RateLimit } from "../../../src/job/core/pace.ts";
import { VirtualClock } from "../support/virtual-host.ts";

async function pass(clock: VirtualClock, ms: number): Promise<void> {
  clock.timer(ms, () => undefined);
  await clock.step();
}

test("no limit, no delay", () => {
  const limit = new RateLimit(new VirtualClock());
  expect(limit.delayMs(1e12)).toBe(0);
});

test("a chunk is charged in full and paid for afterwards", async () => {
  const clock = new VirtualClock();
  const limit = new RateLimit(clock);
  limit.setSpeed(65536);
  await pass(clock, 5);
  // 1 MiB at 64 KiB/s takes 16 s; the quota of a slice is rounded down to whole bytes.
  expect(limit.delayMs(1 << 20)).toBeCloseTo(((1 << 20) / 6553) * 100, 6);
});

test("what fits into the slice's quota goes at once", async () => {
  const clock = new VirtualClock();
  const limit = new RateLimit(clock);
  limit.setSpeed(10_000);
  await pass(clock, 5);
  expect(limit.delayMs(999)).toBe(0);
  expect(limit.delayMs(1)).toBe(100);
});

test("a slice that is over starts anew", async () => {
  const clock = new VirtualClock();
  const limit = new RateLimit(clock);
  limit.setSpeed(10_000);
  await pass(clock, 5);
  const delay = limit.delayMs(3000);
  expect(delay).toBe(300);
  await pass(clock, delay + 1);
  expect(limit.delayMs(999)).toBe(0);
});

test("the smallest speed still moves", async () => {
  const clock = new VirtualClock();
  const limit = new RateLimit(clock);
  limit.setSpeed(1);
  await pass(clock, 5);
  expect(limit.delayMs(1)).toBe(100);
});

test("the first retries are immediate, later ones at most a second apart", () => {
  const backoff = new Backoff();
  const delays = Array.from({ length: 20 }, () => backoff.failed());
  expect(delays.slice(0, 3)).toEqual([0, 0, 0]);
  expect(delays[3]).toBeGreaterThan(0);
  expect(delays.every((delay, i) => i === 0 || delay >= delays[i - 1]!)).toBe(true);
  expect(delays.at(-1)).toBe(1000);
  backoff.progress();
  expect(backoff.failed()).toBe(0);
});
