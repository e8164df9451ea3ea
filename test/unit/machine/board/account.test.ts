// The statistics of a drive over intervals, by a clock that is set by hand: the windows of QEMU's averages, and what counts.
import { expect, test } from "vitest";
import { DriveAccount } from "../../../../src/machine/board/account.ts";

function made(counting: Partial<{ invalid: boolean; failed: boolean }> = {}): {
  account: DriveAccount;
  clock: { now: number; nowMs(): number; latencyMs: number | undefined };
} {
  const clock = { now: 1000, nowMs: () => clock.now, latencyMs: undefined as number | undefined };
  const wishes = { invalid: true, failed: true, intervals: [10, 60], ...counting };
  return { account: new DriveAccount(wishes, () => clock), clock };
}

test("tells the least, the most and the mean of an interval, and how many requests were under way", () => {
  const { account, clock } = made();
  expect(account.stats(0).timed_stats.map((row) => row.interval_length)).toEqual([10, 60]);
  account.done("read", 512, 2);
  clock.now += 1000;
  account.done("read", 512, 4);
  account.done("write", 512, 10);
  account.failed("flush", 1);
  const [row] = account.stats(0).timed_stats;
  // The older of two windows began half an interval before the first look.
  expect(row).toEqual({
    interval_length: 10,
    ...{ min_rd_latency_ns: 2e6, max_rd_latency_ns: 4e6, avg_rd_latency_ns: 3e6 },
    ...{ min_wr_latency_ns: 10e6, max_wr_latency_ns: 10e6, avg_wr_latency_ns: 10e6 },
    ...{ min_flush_latency_ns: 1e6, max_flush_latency_ns: 1e6, avg_flush_latency_ns: 1e6 },
    ...{ avg_rd_queue_depth: 0.001, avg_wr_queue_depth: 10 / 6000 },
  });
});

test("forgets an interval that is over", () => {
  const { account, clock } = made();
  account.done("read", 512, 2);
  clock.now += 4999;
  expect(account.stats(0).timed_stats[0]).toMatchObject({ max_rd_latency_ns: 2e6 });
  clock.now += 5001;
  expect(account.stats(0).timed_stats[0]).toMatchObject({ min_rd_latency_ns: 0, max_rd_latency_ns: 0 });
  expect(account.stats(0).timed_stats[1]).toMatchObject({ max_rd_latency_ns: 2e6 });
});

test("counts failed and refused requests as accesses only where it is told to", () => {
  const { account, clock } = made({ invalid: false, failed: false });
  account.failed("write", 5);
  account.invalid("read");
  const stats = account.stats(7);
  expect(stats).toMatchObject({ failed_wr_operations: 1, invalid_rd_operations: 1, wr_total_time_ns: 0 });
  expect(stats).toMatchObject({ account_failed: false, account_invalid: false, wr_highest_offset: 7 });
  expect(stats).not.toHaveProperty("idle_time_ns");
  account.done("unmap", 512, 1);
  clock.now += 3;
  expect(account.stats(0)).toMatchObject({ idle_time_ns: 3e6, unmap_operations: 1 });
});

test("takes each request for as long as a clock that stands still says", () => {
  const { account, clock } = made();
  clock.latencyMs = 1;
  account.done("read", 512, 250);
  expect(account.stats(0)).toMatchObject({ rd_total_time_ns: 1e6 });
});
