/**
 * What is counted of a drive: whether failed and refused requests are, and how long requests took over intervals of time.
 * Source: behaviour of QEMU 7.2's block accounting.
 */
import { Account, type AccountedKind } from "../../block/model/node.ts";
import { accountStats } from "../../block/stats.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

/** What `-drive` wants to have counted. */
export interface Counting {
  /** Refused requests are accesses. */
  readonly invalid: boolean;
  /** So are failed ones, and their time counts. */
  readonly failed: boolean;
  /** Seconds. */
  readonly intervals: readonly number[];
}

/** Every drive without such wishes. */
export const defaultCounting: Counting = { invalid: true, failed: true, intervals: [] };

const timedKinds = ["read", "write", "flush"] as const;

/** Of requests in a window of time, nanoseconds. */
interface Window {
  /** When it is over, ms. */
  endMs: number;
  least: number;
  most: number;
  sum: number;
  count: number;
}

const emptyWindow = (endMs: number): Window => ({ endMs, least: Infinity, most: 0, sum: 0, count: 0 });

/** Whose time it is: the host's, or a machine's that stands still. */
export interface AccountClock {
  nowMs(): number;
  /** What every request takes; undefined: as long as it takes. */
  readonly latencyMs?: number | undefined;
}

/** Two windows, half an interval apart: the older one tells. */
class Average {
  readonly #periodMs: number;
  /** From the first look on. */
  #windows: Window[] = [];

  constructor(periodMs: number) {
    this.#periodMs = periodMs;
  }

  add(ns: number, nowMs: number): void {
    this.#current(nowMs);
    for (const window of this.#windows) {
      window.least = Math.min(window.least, ns);
      window.most = Math.max(window.most, ns);
      window.sum += ns;
      window.count += 1;
    }
  }

  told(nowMs: number): { least: number; most: number; mean: number; depth: number } {
    const { least, most, sum, count, endMs } = this.#current(nowMs);
    const elapsedMs = this.#periodMs - (endMs - nowMs);
    return {
      least: count === 0 ? 0 : least,
      most,
      mean: count === 0 ? 0 : Math.floor(sum / count),
      depth: elapsedMs > 0 ? sum / (elapsedMs * 1e6) : 0,
    };
  }

  #current(nowMs: number): Window {
    const period = this.#periodMs;
    if (this.#windows.length === 0)
      this.#windows = [emptyWindow(nowMs + period / 2), emptyWindow(nowMs + period)];
    for (const [at, { endMs }] of this.#windows.entries())
      if (endMs <= nowMs) this.#windows[at] = emptyWindow(nowMs + period - ((nowMs - endMs) % period));
    const [one, other] = this.#windows as [Window, Window];
    return one.endMs < other.endMs ? one : other;
  }
}

/** The account of a drive. */
export class DriveAccount extends Account {
  readonly #counting: Counting;
  readonly #clock: () => AccountClock;
  readonly #intervals: { seconds: number; averages: Record<(typeof timedKinds)[number], Average> }[];

  constructor(counting: Counting, clock: () => AccountClock) {
    super();
    this.#counting = counting;
    this.#clock = clock;
    const average = (seconds: number): Average => new Average(seconds * 1000);
    this.#intervals = counting.intervals.map((seconds) => ({
      seconds,
      averages: { read: average(seconds), write: average(seconds), flush: average(seconds) },
    }));
  }

  override done(kind: AccountedKind, bytes: number, tookMs = 0): void {
    const { latencyMs = tookMs } = this.#clock();
    super.done(kind, bytes, latencyMs);
    this.#over(kind, latencyMs);
  }

  override failed(kind: AccountedKind, tookMs = 0): void {
    const { failed } = this.#counting;
    const { latencyMs = tookMs } = this.#clock();
    super.failed(kind, failed ? latencyMs : 0);
    if (failed) this.#over(kind, latencyMs);
  }

  /** A request was refused. */
  invalid(kind: AccountedKind): void {
    this[kind].invalid += 1;
    if (this.#counting.invalid) this.lastAccessMs = this.#clock().nowMs();
  }

  #over(kind: AccountedKind, tookMs: number): void {
    const now = this.#clock().nowMs();
    this.lastAccessMs = now;
    if (kind === "unmap") return;
    for (const { averages } of this.#intervals) averages[kind].add(Math.round(tookMs * 1e6), now);
  }

  /** All of it. */
  stats(highestWrite: number): TypeOf<"BlockDeviceStats"> {
    const nowMs = this.#clock().nowMs();
    const { invalid, failed } = this.#counting;
    return {
      ...accountStats(this, highestWrite, { nowMs }),
      account_invalid: invalid,
      account_failed: failed,
      timed_stats: this.#intervals.map(({ seconds, averages }) => {
        const [rd, wr, flush] = timedKinds.map((kind) => averages[kind].told(nowMs)) as [
          ReturnType<Average["told"]>,
          ReturnType<Average["told"]>,
          ReturnType<Average["told"]>,
        ];
        return {
          interval_length: seconds,
          ...{ min_rd_latency_ns: rd.least, max_rd_latency_ns: rd.most, avg_rd_latency_ns: rd.mean },
          ...{ min_wr_latency_ns: wr.least, max_wr_latency_ns: wr.most, avg_wr_latency_ns: wr.mean },
          ...{ min_flush_latency_ns: flush.least, max_flush_latency_ns: flush.most },
          avg_flush_latency_ns: flush.mean,
          ...{ avg_rd_queue_depth: rd.depth, avg_wr_queue_depth: wr.depth },
        };
      }),
    };
  }
}
