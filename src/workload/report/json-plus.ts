/**
 * fio's json+: the members that fio's own tools read (fio_jsonplus_clat2csv among them), beside the seed, clock, device and digest
 * of our own document. A request's `clat` here is its service time, its `lat` the response time from the intended start.
 * Source: output of fio 3.33 and its tools' reading of it.
 */
import type { Operation } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import { Histogram, type Latencies } from "../stats/histogram.ts";
import type { OperationResult } from "../stats/tally.ts";

/** fio's names of directions, and which of our operations they are. */
const DIRECTIONS: readonly (readonly [name: string, operation: Operation])[] = [
  ["read", "read"],
  ["write", "write"],
  ["trim", "discard"],
];

const GROUP_BITS = 6;

/** The middle of fio's bucket of a time: 64 buckets for each doubling. */
export function fioBucket(ns: number): number {
  if (ns < 2 ** (GROUP_BITS + 1)) return ns;
  let shift = 0;
  while (ns / 2 ** shift >= 2 ** (GROUP_BITS + 1)) shift += 1;
  return Math.floor(ns / 2 ** shift) * 2 ** shift + 2 ** (shift - 1);
}

/** fio's statistics of a kind of time. */
function times(latencies: Latencies): Record<string, unknown> {
  const bins: Record<string, number> = {};
  for (const { count, largestNs } of Histogram.decode(latencies.hdr).buckets()) {
    const bucket = String(fioBucket(largestNs));
    bins[bucket] = (bins[bucket] ?? 0) + count;
  }
  const percentile = Object.entries(latencies.percentilesNs).map(([name, ns]) => [
    Number(name.slice(1)).toFixed(6),
    ns,
  ]);
  return {
    min: latencies.minNs,
    max: latencies.maxNs,
    mean: latencies.meanNs,
    stddev: latencies.deviationNs,
    N: latencies.count,
    ...(latencies.count === 0 ? {} : { percentile: Object.fromEntries(percentile) as unknown, bins }),
  };
}

function none(): Latencies {
  return new Histogram().summary();
}

function direction(result: OperationResult | undefined, runtimeNs: number): Record<string, unknown> {
  const bytesPerSecond = Math.round(result?.bytesPerSecond ?? 0);
  return {
    io_bytes: result?.bytes ?? 0,
    io_kbytes: Math.floor((result?.bytes ?? 0) / 1024),
    bw_bytes: bytesPerSecond,
    bw: Math.floor(bytesPerSecond / 1024),
    iops: result?.requestsPerSecond ?? 0,
    runtime: Math.round(runtimeNs / 1e6),
    total_ios: result?.requests ?? 0,
    short_ios: 0,
    drop_ios: 0,
    slat_ns: { min: 0, max: 0, mean: 0, stddev: 0, N: 0 },
    clat_ns: times(result?.service ?? none()),
    lat_ns: times(result?.response ?? none()),
  };
}

/** The document in fio's shape. */
export function toJsonPlus(result: ResultDocument): Record<string, unknown> {
  const jobs = result.workers.map((worker, i) => {
    const runtimeNs = worker.endNs - worker.beginNs;
    const errors = result.errors.filter((error) => error.worker === worker.name).length;
    return {
      jobname: worker.name,
      groupid: i,
      error: errors,
      elapsed: Math.ceil(runtimeNs / 1e9),
      ...Object.fromEntries(
        DIRECTIONS.map(([name, operation]) => [name, direction(worker.operations[operation], runtimeNs)]),
      ),
      sync: {
        total_ios: worker.operations.flush?.requests ?? 0,
        lat_ns: times(worker.operations.flush?.response ?? none()),
      },
      job_runtime: Math.round(runtimeNs / 1e6),
    };
  });
  const { seed, clock, device, digest, status, errors, ignored, notes } = result;
  return {
    "fio version": "blockwright",
    time_ms: 0,
    seed,
    clock,
    device,
    digest,
    status,
    errors,
    ignored,
    notes,
    jobs,
  };
}
