/**
 * Text of OpenMetrics 1.0: families of counters, gauges and infos, and their samples. Knows nothing of what is measured.
 *
 * Invariants: the samples of a family stand together; a counter's sample ends with `_total`, an info's with `_info`; the text ends with
 * `# EOF`. Source: the OpenMetrics specification 1.0.0.
 */

/** The media type. */
export const OPEN_METRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/** One value. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** Values of one kind. */
export interface Family {
  /** Ends with the unit, where there is one. */
  readonly name: string;
  readonly type: "counter" | "gauge" | "info" | "stateset";
  readonly unit?: string;
  readonly help: string;
  readonly samples: readonly Sample[];
}

const ENDS = { counter: "_total", info: "_info", gauge: "", stateset: "" } as const;

/** The text of families. */
export function openMetrics(families: readonly Family[]): string {
  return `${families.flatMap((family) => linesOf(family)).join("\n")}\n# EOF\n`;
}

function linesOf({ name, type, unit, help, samples }: Family): string[] {
  return [
    `# TYPE ${name} ${type}`,
    ...(unit === undefined ? [] : [`# UNIT ${name} ${unit}`]),
    `# HELP ${name} ${escaped(help)}`,
    ...samples.map(({ labels, value }) => `${name}${ENDS[type]}${labelsOf(labels)} ${value}`),
  ];
}

function labelsOf(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
