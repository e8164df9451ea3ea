/** A result as CSV: a line for each worker and operation, all of them together as `total`; failures as lines of their own. */
import { operations } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import { type Latencies, percentiles } from "../stats/histogram.ts";
import type { OperationResult } from "../stats/tally.ts";

/** A field, quoted where it must be. */
function field(value: string | number | null): string {
  const text = value === null ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const common = [
  "workload",
  "seed",
  "clock",
  "device",
  "digest_requests",
  "digest_data",
  "digest_disk",
  "status",
];
const counts = [
  "worker",
  "operation",
  "requests",
  "bytes",
  "errors",
  "requests_per_second",
  "bytes_per_second",
];
const latencies = ["min", "mean", "max", ...percentiles.map((percent) => `p${percent}`)];
const kinds = ["response", "service"] as const;

function latencyFields({ minNs, meanNs, maxNs, percentilesNs }: Latencies): number[] {
  return [minNs, meanNs, maxNs, ...percentiles.map((percent) => percentilesNs[`p${percent}`] ?? 0)];
}

function lineOf(worker: string, operation: string, result: OperationResult): (string | number)[] {
  const { requests, bytes, errors, requestsPerSecond, bytesPerSecond } = result;
  return [
    ...[worker, operation, requests, bytes, errors, requestsPerSecond, bytesPerSecond],
    ...kinds.flatMap((kind) => latencyFields(result[kind])),
    "",
  ];
}

/** The CSV. */
export function toCsv(result: ResultDocument): string {
  const { workload, seed, clock, device, digest, status } = result;
  const head = [
    ...common,
    ...counts,
    ...kinds.flatMap((kind) => latencies.map((name) => `${kind}_${name}_ns`)),
    "message",
  ];
  const start = [workload, seed, clock, device, digest.requests, digest.data, digest.disk, status];
  const rows: (string | number | null)[][] = [head];
  for (const { name, operations: own } of [...result.workers, { name: "total", operations: result.totals }]) {
    for (const operation of operations) {
      const one = own[operation];
      if (one) rows.push([...start, ...lineOf(name, operation, one)]);
    }
  }
  for (const { worker = "", operation = "error", times = 1, message } of result.errors) {
    const empty = new Array<string>(head.length - start.length - 6).fill("");
    rows.push([...start, worker, operation, "", "", times, ...empty, message]);
  }
  return rows.map((row) => `${row.map(field).join(",")}\n`).join("");
}
