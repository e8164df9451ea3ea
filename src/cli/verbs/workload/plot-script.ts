/** A workload's results as text and as pages, which carry uPlot with them; without it pictures are SVG. */
import { plotLibrary } from "../../../platform/node/plot-library.ts";
import { report, type ReportFormat, type ResultDocument } from "../../../workload.ts";
import { toHtml } from "../../../workload/report/html.ts";

/** One result, or two side by side, as a page. */
export function pageOf(results: readonly ResultDocument[]): string {
  return toHtml(results, { plotScript: plotLibrary() });
}

/** A result as text. Throws WorkloadError for a form that there is not. */
export function textOf(result: ResultDocument, format: ReportFormat): string {
  return format === "html" ? pageOf([result]) : report(result, format);
}
