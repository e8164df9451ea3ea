/** uPlot, for pages that carry it with them: the same that the daemon's dashboard has. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { report, type ReportFormat, type ResultDocument } from "../../../workload.ts";
import { toHtml } from "../../../workload/report/html.ts";

/** uPlot's script; undefined where the package was taken apart and has none: pictures are SVG then. */
function plotScript(): string | undefined {
  try {
    return readFileSync(fileURLToPath(new URL("../dashboard/uplot.js", import.meta.url)), "utf8");
  } catch {
    return undefined;
  }
}

/** One result, or two side by side, as a page. */
export function pageOf(results: readonly ResultDocument[]): string {
  return toHtml(results, { plotScript: plotScript() });
}

/** A result as text. Throws WorkloadError for a form that there is not. */
export function textOf(result: ResultDocument, format: ReportFormat): string {
  return format === "html" ? pageOf([result]) : report(result, format);
}
