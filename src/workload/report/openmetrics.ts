/** A result as OpenMetrics 1.0 text: what Prometheus scrapes, or a push gateway takes. Times are seconds. */
import { operations } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import type { OperationResult } from "../stats/tally.ts";

type Labels = Readonly<Record<string, string>>;

function labelled(name: string, labels: Labels, value: number): string {
  const text = Object.entries(labels).map(([key, label]) => {
    const escaped = label.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${key}="${escaped}"`;
  });
  return `${name}{${text.join(",")}} ${value}\n`;
}

interface Row {
  readonly labels: Labels;
  readonly result: OperationResult;
}

function rowsOf(result: ResultDocument, common: Labels): Row[] {
  return operations.flatMap((operation) => {
    const total = result.totals[operation];
    return total ? [{ labels: { ...common, operation }, result: total }] : [];
  });
}

function counter(
  name: string,
  help: string,
  rows: readonly Row[],
  of: (result: OperationResult) => number,
): string {
  const lines = rows.map(({ labels, result }) => labelled(`${name}_total`, labels, of(result)));
  return `# TYPE ${name} counter\n# HELP ${name} ${help}\n${lines.join("")}`;
}

function summary(name: string, help: string, rows: readonly Row[], kind: "response" | "service"): string {
  const lines = rows.flatMap(({ labels, result }) => {
    const { percentilesNs, meanNs, count } = result[kind];
    const quantiles = Object.entries(percentilesNs).map(([percent, ns]) =>
      labelled(name, { ...labels, quantile: String(Number(percent.slice(1)) / 100) }, ns / 1e9),
    );
    return [
      ...quantiles,
      labelled(`${name}_sum`, labels, (meanNs * count) / 1e9),
      labelled(`${name}_count`, labels, count),
    ];
  });
  return `# TYPE ${name} summary\n# UNIT ${name} seconds\n# HELP ${name} ${help}\n${lines.join("")}`;
}

/** The text, with its `# EOF`. */
export function toOpenMetrics(result: ResultDocument): string {
  const { workload, clock, device, seed, digest, status, errors } = result;
  const common = { workload, clock, device: device ?? "" };
  const info = {
    ...common,
    seed: String(seed),
    status,
    digest_requests: digest.requests ?? "",
    digest_data: digest.data ?? "",
    digest_disk: digest.disk ?? "",
  };
  const rows = rowsOf(result, common);
  const prefix = "blockwright_workload";
  return [
    `# TYPE ${prefix} info\n# HELP ${prefix} What was run.\n${labelled(`${prefix}_info`, info, 1)}`,
    `# TYPE ${prefix}_elapsed_seconds gauge\n# UNIT ${prefix}_elapsed_seconds seconds\n`,
    labelled(`${prefix}_elapsed_seconds`, common, result.elapsedNs / 1e9),
    `# TYPE ${prefix}_failures gauge\n# HELP ${prefix}_failures Kinds of failures of the run.\n`,
    labelled(`${prefix}_failures`, common, errors.length),
    counter(`${prefix}_requests`, "Requests that ended.", rows, ({ requests }) => requests),
    counter(`${prefix}_bytes`, "Bytes that were moved.", rows, ({ bytes }) => bytes),
    counter(`${prefix}_request_errors`, "Requests that failed.", rows, (one) => one.errors),
    summary(`${prefix}_response_seconds`, "From the intended start.", rows, "response"),
    summary(`${prefix}_service_seconds`, "From the sending.", rows, "service"),
    "# EOF\n",
  ].join("");
}
