/** Distributions of times in device models: draws in whole nanoseconds, by arithmetic that every engine does alike. */
import { WorkloadError } from "../model/plan.ts";
import { timeOf } from "../model/units.ts";
import { exp } from "../random/log-exp.ts";
import type { Draws } from "../random/noise.ts";

type Time = number | string;

/** A distribution in a model file. */
export type LatencyJson =
  | Time
  | { uniform: readonly Time[] }
  | { mean: Time; deviation: Time; least?: Time }
  | { median: Time; sigma: number; most?: Time }
  | { exponential: Time; base?: Time }
  | { percentiles: readonly { at: number; time: Time }[] };

/** Draws a time, ns. */
export type Latency = (draws: Draws) => number;

function uniform(from: number, to: number): Latency {
  return (draws) => from + draws.below(to - from + 1);
}

/** Linear between the points; flat before the first and after the last. */
function percentiles(points: readonly { at: number; ns: number }[]): Latency {
  return (draws) => {
    const at = draws.fraction() * 100;
    const next = points.findIndex((point) => point.at > at);
    if (next === 0) return points[0]!.ns;
    const low = points.at(next < 0 ? -1 : next - 1)!;
    if (next < 0) return low.ns;
    const high = points[next]!;
    return Math.round(low.ns + ((high.ns - low.ns) * (at - low.at)) / (high.at - low.at));
  };
}

function readPercentiles(points: readonly { at: number; time: Time }[], what: string): Latency {
  const read = points.map(({ at, time }, i) => ({ at, ns: timeOf(time, `${what}.percentiles[${i}].time`) }));
  const isRising = read.every(({ at, ns }, i) => i === 0 || (at > read[i - 1]!.at && ns >= read[i - 1]!.ns));
  if (!isRising) throw new WorkloadError(`${what}.percentiles: they must rise`);
  return percentiles(read);
}

/** Reads a distribution; absent: no time at all. Throws WorkloadError. */
export function readLatency(json: LatencyJson | undefined, what: string): Latency {
  if (json === undefined) return () => 0;
  if (typeof json !== "object") {
    const ns = timeOf(json, what);
    return () => ns;
  }
  const time = (value: Time, name: string): number => timeOf(value, `${what}.${name}`);
  if ("uniform" in json) {
    const [from, to] = [time(json.uniform[0]!, "uniform"), time(json.uniform[1]!, "uniform")];
    if (from > to) throw new WorkloadError(`${what}.uniform: the range is empty`);
    return uniform(from, to);
  }
  if ("mean" in json) {
    const [mean, deviation] = [time(json.mean, "mean"), time(json.deviation, "deviation")];
    const least = time(json.least ?? 0, "least");
    return (draws) => Math.max(least, Math.round(mean + deviation * draws.normal()));
  }
  if ("median" in json) {
    const median = time(json.median, "median");
    const most = json.most === undefined ? Infinity : time(json.most, "most");
    return (draws) => Math.min(most, Math.round(median * exp(json.sigma * draws.normal())));
  }
  if ("exponential" in json) {
    const [mean, base] = [time(json.exponential, "exponential"), time(json.base ?? 0, "base")];
    return (draws) => base + Math.round(mean * draws.exponential());
  }
  return readPercentiles(json.percentiles, what);
}
