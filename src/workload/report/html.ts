/**
 * A result, or two of them side by side, as one page that needs nothing else, and no network. Pictures are uPlot's, whose script the page
 * has with it, or SVG and no script.
 *
 * Invariant: every text of a result is escaped; the page has no link out.
 */
import { type Operation, operations } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import { Histogram } from "../stats/histogram.ts";
import type { OperationResult } from "../stats/tally.ts";
import { mapPicture } from "./map-picture.ts";
import type { Series } from "./picture.ts";
import { Plots, embedded } from "./plots.ts";

/** How a page is made. */
export interface ReportOptions {
  /**
   * The text of uPlot's script (its package's dist/uPlot.iife.min.js), which the page then carries: pictures that can be zoomed, and that
   * tell their values. Default: pictures are SVG.
   */
  readonly plotScript?: string | undefined;
}

/** Text in HTML. */
export function escaped(text: string): string {
  const entities: Readonly<Record<string, string>> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replaceAll(/[&<>"]/g, (character) => entities[character]!);
}

/** A time for people. */
export function timeText(ns: number): string {
  if (ns < 1e3) return `${ns.toFixed(0)} ns`;
  if (ns < 1e6) return `${(ns / 1e3).toPrecision(4)} µs`;
  return ns < 1e9 ? `${(ns / 1e6).toPrecision(4)} ms` : `${(ns / 1e9).toPrecision(4)} s`;
}

function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  return `${value.toPrecision(4)} ${units[unit]!}`;
}

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1b1f24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}table{border-collapse:collapse}td,th{padding:.25rem .75rem;text-align:right;border-bottom:1px solid #d0d7de}
td:first-child,th:first-child{text-align:left}code{font-size:.9em}.failed{color:#b00020}svg{width:100%;height:auto}figure{margin:1rem 0}img.map{width:100%;height:10rem;image-rendering:pixelated;border:1px solid #d0d7de}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}.failed{color:#ff8a80}}`;

function row(cells: readonly string[], tag: "td" | "th" = "td"): string {
  return `<tr>${cells.map((cell) => `<${tag}>${cell}</${tag}>`).join("")}</tr>\n`;
}

function operationRow(name: string, { requests, errors, ...rest }: OperationResult): string {
  const p = rest.response.percentilesNs;
  return row([
    escaped(name),
    String(requests),
    rest.requestsPerSecond.toFixed(1),
    `${bytesText(rest.bytesPerSecond)}/s`,
    ...["p50", "p99", "p99.9"].map((percent) => timeText(p[percent] ?? 0)),
    timeText(rest.response.maxNs),
    timeText(rest.service.percentilesNs["p99"] ?? 0),
    String(errors),
  ]);
}

function table(result: ResultDocument): string {
  const head = [
    "",
    "requests",
    "per second",
    "bytes",
    "p50",
    "p99",
    "p99.9",
    "longest",
    "service p99",
    "errors",
  ];
  const all = operations.flatMap((operation) => {
    const total = result.totals[operation];
    return total ? [operationRow(operation, total)] : [];
  });
  const workers = result.workers.flatMap((worker) =>
    operations.flatMap((operation) => {
      const own = worker.operations[operation];
      return own && result.workers.length > 1 ? [operationRow(`${worker.name}: ${operation}`, own)] : [];
    }),
  );
  return `<table>${row(head, "th")}${all.join("")}${workers.join("")}</table>`;
}

/** Response times by the share of requests that are at least as slow, which shows the tail. */
function distribution(plots: Plots, results: readonly ResultDocument[]): string {
  const series: Series[] = [];
  for (const [i, result] of results.entries()) {
    for (const operation of operations) {
      const total = result.totals[operation];
      if (!total || total.response.count === 0) continue;
      let sum = 0;
      const points = [...Histogram.decode(total.response.hdr).buckets()].map(({ count, largestNs }) => {
        sum += count;
        const left = Math.max(1 - sum / total.response.count, 0.5 / total.response.count);
        return { x: -Math.log10(left), y: largestNs / 1e6 };
      });
      series.push({ name: `${results.length > 1 ? `${"AB"[i] ?? i + 1} ` : ""}${operation}`, points });
    }
  }
  const ticks = [0, 1, 2, 3, 4, 5].map((x) => ({ at: x, text: `${100 - 100 / 10 ** x} %` }));
  return plots.picture(series, {
    xTicks: ticks,
    yLabel: "ms",
    logY: true,
    title: "response time by percentile",
  });
}

function overTime(
  { plots, results }: { plots: Plots; results: readonly ResultDocument[] },
  what: { title: string; yLabel: string; of: (result: ResultDocument, i: number) => number },
): string {
  const series = results.flatMap((result, i): Series[] => {
    const { timeline } = result;
    if (!timeline) return [];
    const points = timeline.requests.map((_count, at) => ({
      x: (at * timeline.intervalNs) / 1e9,
      y: what.of(result, at),
    }));
    return [{ name: results.length > 1 ? `${"AB"[i] ?? i + 1}` : "all", points }];
  });
  return plots.picture(series, { yLabel: what.yLabel, xLabel: "s", title: what.title });
}

function pictures(plots: Plots, results: readonly ResultDocument[]): string {
  const page = { plots, results };
  const perSecond = (result: ResultDocument, value: number): number =>
    (value * 1e9) / (result.timeline?.intervalNs ?? 1);
  return [
    "<h2>Response time</h2>",
    distribution(plots, results),
    "<h2>Over time</h2>",
    overTime(page, {
      title: "requests over time",
      yLabel: "requests/s",
      of: (result, i) => perSecond(result, result.timeline!.requests[i]!),
    }),
    overTime(page, {
      title: "bytes over time",
      yLabel: "MiB/s",
      of: (result, i) => perSecond(result, result.timeline!.bytes[i]!) / 2 ** 20,
    }),
    overTime(page, {
      title: "longest response over time",
      yLabel: "ms",
      of: (result, i) => result.timeline!.longestResponseNs[i]! / 1e6,
    }),
  ].join("\n");
}

/** Which parts of the disk were read and changed: time goes to the right, the disk upwards. */
function maps(results: readonly ResultDocument[]): string {
  const pictures = results.flatMap((result, i) => {
    const { diskMap } = result;
    if (!diskMap) return [];
    const whose = results.length > 1 ? `${"AB"[i] ?? i + 1}: ` : "";
    return [
      mapPicture(diskMap.read, { title: `${whose}bytes read`, colour: [9, 105, 218] }),
      mapPicture(diskMap.changed, { title: `${whose}bytes changed`, colour: [207, 34, 46] }),
    ];
  });
  const all = pictures.join("");
  return all === ""
    ? ""
    : `<h2>The disk over time</h2><p>Time goes to the right, the disk upwards.</p>${all}`;
}

function facts(result: ResultDocument): string {
  const { digest } = result;
  const rows: [string, string][] = [
    ["status", result.status],
    ["seed", String(result.seed)],
    ["clock", result.clock],
    ["device", result.device ?? "the real one"],
    ["disk", result.target ? `${result.target.name}, ${bytesText(result.target.length)}` : "none"],
    ["elapsed", timeText(result.elapsedNs)],
    ["digests", `requests ${digest.requests ?? "–"}, data ${digest.data ?? "–"}, disk ${digest.disk ?? "–"}`],
  ];
  const errors = result.errors.map(
    ({ message, worker }) =>
      `<p class="failed">${escaped(worker === undefined ? message : `${worker}: ${message}`)}</p>`,
  );
  const lines = rows.map(([name, value]) => row([name, `<code>${escaped(value)}</code>`]));
  return `<table>${lines.join("")}</table>${errors.join("")}`;
}

function compared(results: readonly ResultDocument[]): string {
  const [a, b] = results;
  if (!a || !b) return "";
  const change = (before: number, after: number): string =>
    before === 0 ? "–" : `${after >= before ? "+" : ""}${(100 * (after / before - 1)).toFixed(2)} %`;
  const lines = operations.flatMap((operation: Operation) => {
    const [before, after] = [a.totals[operation], b.totals[operation]];
    if (!before || !after) return [];
    const cell = (of: (result: OperationResult) => number): string => change(of(before), of(after));
    return [
      row([
        operation,
        cell((one) => one.requestsPerSecond),
        cell((one) => one.response.meanNs),
        cell((one) => one.response.percentilesNs["p50"]!),
        cell((one) => one.response.percentilesNs["p99"]!),
        cell((one) => one.response.percentilesNs["p99.9"]!),
      ]),
    ];
  });
  const head = row(["B against A", "per second", "mean", "p50", "p99", "p99.9"], "th");
  return `<h2>B against A</h2><table>${head}${lines.join("")}</table>`;
}

/** The page of one result, or of two; `plotScript` is uPlot's, see ReportOptions. */
export function toHtml(results: readonly ResultDocument[], { plotScript }: ReportOptions = {}): string {
  const title = results.map(({ workload }) => workload).join(" and ");
  const plots = new Plots(plotScript);
  const parts = results.map((result, i) => {
    const name = results.length > 1 ? `${"AB"[i] ?? i + 1}: ${result.workload}` : "Run";
    return `<h2>${escaped(name)}</h2>${facts(result)}${table(result)}`;
  });
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escaped(title)}</title><style>${STYLE}</style></head><body>
<h1>${escaped(title)}</h1>
${parts.join("\n")}
${compared(results)}
${pictures(plots, results)}
${maps(results)}
${embedded("results", results)}
${plots.scripts}
</body></html>
`;
}
