/**
 * Throughput and response times over time, in at most a few hundred intervals of equal length: where a run goes on beyond the
 * last of them, neighbours are joined and the intervals become twice as long. Memory is bounded, whatever the run's length.
 */
import { type Operation, operations } from "../model/plan.ts";

/** The shortest interval, ns. */
const FIRST_NS = 1e6;
/** Most intervals; even. */
const MOST = 256;

/** One interval. */
export interface Interval {
  requests: number;
  bytes: number;
  errors: number;
  /** Sum of response times, ns. */
  responseNs: number;
  /** The longest response time, ns. */
  longestNs: number;
  readonly byOperation: Record<Operation, number>;
}

/** A timeline in a result. */
export interface TimelineJson {
  readonly intervalNs: number;
  readonly requests: readonly number[];
  readonly bytes: readonly number[];
  readonly errors: readonly number[];
  readonly meanResponseNs: readonly number[];
  readonly longestResponseNs: readonly number[];
}

function empty(): Interval {
  return {
    requests: 0,
    bytes: 0,
    errors: 0,
    responseNs: 0,
    longestNs: 0,
    byOperation: { read: 0, write: 0, zero: 0, discard: 0, flush: 0 },
  };
}

function join(one: Interval, other: Interval | undefined): Interval {
  if (!other) return one;
  one.requests += other.requests;
  one.bytes += other.bytes;
  one.errors += other.errors;
  one.responseNs += other.responseNs;
  one.longestNs = Math.max(one.longestNs, other.longestNs);
  for (const operation of operations) one.byOperation[operation] += other.byOperation[operation];
  return one;
}

/** A request that has ended. */
export interface Ended {
  readonly operation: Operation;
  readonly bytes: number;
  /** Since the begin of the run. */
  readonly atNs: number;
  readonly responseNs: number;
  readonly failed: boolean;
}

/** One timeline. */
export class Timeline {
  #intervalNs = FIRST_NS;
  #intervals: Interval[] = [];

  get intervalNs(): number {
    return this.#intervalNs;
  }

  get intervals(): readonly Interval[] {
    return this.#intervals;
  }

  /** Counts a request by when it ended. */
  record({ operation, bytes, atNs, responseNs, failed }: Ended): void {
    while (atNs >= this.#intervalNs * MOST) this.#halve();
    const at = Math.floor(atNs / this.#intervalNs);
    while (this.#intervals.length <= at) this.#intervals.push(empty());
    const interval = this.#intervals[at]!;
    interval.requests += 1;
    if (failed) interval.errors += 1;
    else interval.bytes += bytes;
    interval.responseNs += responseNs;
    interval.longestNs = Math.max(interval.longestNs, responseNs);
    interval.byOperation[operation] += 1;
  }

  #halve(): void {
    const joined: Interval[] = [];
    for (let i = 0; i < this.#intervals.length; i += 2)
      joined.push(join(this.#intervals[i]!, this.#intervals[i + 1]));
    this.#intervals = joined;
    this.#intervalNs *= 2;
  }

  /** What results tell. */
  toJSON(): TimelineJson {
    const all = this.#intervals;
    return {
      intervalNs: this.#intervalNs,
      requests: all.map(({ requests }) => requests),
      bytes: all.map(({ bytes }) => bytes),
      errors: all.map(({ errors }) => errors),
      meanResponseNs: all.map(({ requests, responseNs }) =>
        requests === 0 ? 0 : Math.round(responseNs / requests),
      ),
      longestResponseNs: all.map(({ longestNs }) => longestNs),
    };
  }
}
