/** A result in the forms that other programs read: our JSON, fio's json+, CSV, OpenMetrics, and a page. */
import { WorkloadError } from "../model/plan.ts";
import type { ResultDocument } from "../run/document.ts";
import { toCsv } from "./csv.ts";
import { type ReportOptions, toHtml } from "./html.ts";
import { toJsonPlus } from "./json-plus.ts";
import { toOpenMetrics } from "./openmetrics.ts";

/** The forms. */
export const reportFormats = ["json", "json+", "csv", "html", "openmetrics"] as const;
/** One of them. */
export type ReportFormat = (typeof reportFormats)[number];

/** The document as text, with its last line ended; options are of pages. Throws WorkloadError for a form that there is not. */
export function report(result: ResultDocument, format: ReportFormat, options: ReportOptions = {}): string {
  switch (format) {
    case "json":
      return `${JSON.stringify(result, undefined, 2)}\n`;
    case "json+":
      return `${JSON.stringify(toJsonPlus(result), undefined, 2)}\n`;
    case "csv":
      return toCsv(result);
    case "html":
      return toHtml([result], options);
    case "openmetrics":
      return toOpenMetrics(result);
    default:
      throw new WorkloadError(
        `there is no output '${String(format)}': there are ${reportFormats.join(", ")}`,
      );
  }
}
