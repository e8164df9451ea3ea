/**
 * What the documentation says about speed and size, made of docs/benchmarks.json: docs/BENCHMARKS.md as a whole, the
 * table of headlines in README.md, and the picture docs/speed.svg. `npm run docs` writes them (report.ts); test/tidy holds
 * them equal to what is committed. Pure: text from data.
 */
import type { Row } from "./support/contest.ts";
import type { Sheet } from "./support/sheet.ts";

/** A value of a table: a name, a figure, or "–" where there is none. */
type Cell = string | number;

/** A table of figures that are compared with nobody's. */
export interface Figures {
  readonly title: string;
  readonly command: string;
  readonly method: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

/** docs/benchmarks.json. */
export interface Benchmarks {
  /** Paragraphs on where it loses, and why. */
  readonly losses: readonly string[];
  /** The rows that README shows, by their table, their name there and, where there are two of it, whom they are held against. */
  readonly headlines: readonly {
    readonly table: string;
    readonly row: string;
    readonly peer?: string;
    readonly label: string;
  }[];
  readonly tables: Readonly<Record<string, Figures | Sheet>>;
}

/** A comparison with QEMU's program: seconds of both, and how many times faster ours is. */
interface Headline {
  readonly label: string;
  readonly theirs: number;
  readonly ours: number;
  readonly ratio: number;
}

function lineOf(cells: readonly Cell[]): string {
  return `| ${cells.join(" | ")} |`;
}

function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [lineOf(columns), lineOf(columns.map(() => "---")), ...rows.map(lineOf)].join("\n");
}

/** A ratio, and its interval at 95 %. */
function ratioCell({ ratio, low, high }: Row["better"]): string {
  const digits = (value: number): string => (value < 10 ? value.toFixed(2) : value.toPrecision(3));
  return `${digits(ratio)} (${digits(low)}–${digits(high)})`;
}

/** The columns that a sheet's rows have something for: heading, and a row's cell. */
function columnsOf({ rows, peer, unit }: Sheet): (readonly [heading: string, cell: (row: Row) => Cell])[] {
  const has = (key: keyof Row): boolean => rows.some((row) => row[key] !== undefined);
  const all = [
    [true, "", ({ name }: Row) => name],
    [has("peer"), "beside", (row: Row) => row.peer ?? peer],
    [true, has("peer") ? `the other's${unit}` : `${peer}${unit}`, ({ theirs }: Row) => theirs],
    [true, `Blockwright${unit}`, ({ ours }: Row) => ours],
    [true, "times better (95 %)", ({ better }: Row) => ratioCell(better)],
    [has("goal"), "goal", ({ goal }: Row) => (goal === undefined ? "–" : Number(goal.toFixed(2)))],
    [has("cpu"), "CPU: theirs, s", ({ cpu }: Row) => cpu?.theirs ?? "–"],
    [has("cpu"), "ours, s", ({ cpu }: Row) => cpu?.ours ?? "–"],
    [has("peakMiB"), "our peak memory, MiB", ({ peakMiB }: Row) => peakMiB ?? "–"],
  ] as const;
  return all.filter(([shown]) => shown).map(([, heading, cell]) => [heading, cell] as const);
}

function pairsOf(rows: readonly Row[]): string {
  const counts = [...new Set(rows.map(({ better }) => better.pairs))].toSorted((a, b) => a - b);
  return counts.length === 1 ? `${counts[0]}` : `${counts[0]} to ${counts.at(-1)}`;
}

/** Where and when a sheet was measured, and how often. */
function whereOf({ where, rows }: Sheet): string {
  const { date, node, machine, load, stealPercent } = where;
  const steal = stealPercent === null ? "" : `, ${stealPercent} % stolen`;
  return `Medians of ${pairsOf(rows)} pairs, ${date}, ${machine}, Node ${node.slice(1)}, load ${load[0]} to ${load[1]}${steal}.`;
}

function section(of: Figures | Sheet): string {
  const told = `\`${of.command}\`: ${of.method}.`;
  if (!("where" in of)) return [`## ${of.title}`, table(of.columns, of.rows), told].join("\n\n");
  const columns = columnsOf(of);
  const rows = of.rows.map((row) => columns.map(([, cell]) => cell(row)));
  const headings = columns.map(([heading]) => heading);
  return [`## ${of.title}`, table(headings, rows), `${told} ${whereOf(of)}`].join("\n\n");
}

/** The whole of docs/BENCHMARKS.md. */
export function benchmarkPage({ losses, tables }: Benchmarks): string {
  const head = [
    "# Measurements",
    "<!-- Made of docs/benchmarks.json by `npm run docs`: `npm run bench:… -- --record` puts the figures there. -->",
    'Programs are measured in turn with their peers. "Times better" above 1: Blockwright is ahead; beside it the interval at 95 % (bootstrap over the pairs), as `blockwright workload compare` tells it. Where it includes 1, neither is ahead.',
    "![seconds of both programs, by command](speed.svg)",
    ...losses,
  ];
  return `${[...head, ...Object.values(tables).map(section)].join("\n\n")}\n`;
}

/** The rows that README shows. Throws where docs/benchmarks.json names a row that it has not. */
export function headlinesOf({ headlines, tables }: Benchmarks): Headline[] {
  return headlines.map(({ table: name, row: wanted, peer, label }) => {
    const sheet = tables[name];
    const row =
      sheet && "where" in sheet
        ? sheet.rows.find((one) => one.name === wanted && (peer === undefined || one.peer === peer))
        : undefined;
    if (!row) throw new Error(`docs/benchmarks.json has no times for "${wanted}" in "${name}"`);
    return { label, theirs: row.theirs, ours: row.ours, ratio: row.better.ratio };
  });
}

/** README's table of headlines, losses included, with the machine below it. */
export function headlineTable(benchmarks: Benchmarks): string {
  const rows = headlinesOf(benchmarks).map(({ label, theirs, ours, ratio }) => [
    label,
    `${theirs} s`,
    `${ours} s`,
    ratio < 1 ? `${ratio.toFixed(2)} (loses)` : `**${ratio.toFixed(2)}**`,
  ]);
  const columns = ["", "QEMU's tool", "Blockwright", "theirs / ours"];
  const { images } = benchmarks.tables;
  if (!images || !("where" in images)) throw new Error("docs/benchmarks.json has no measured images");
  const { machine, node } = images.where;
  return `${table(columns, rows)}\n\nMedians on ${machine}, Node ${node.slice(1)}, QEMU 7.2.`;
}

const WIDTH = 760;
const LABELS = 330;
const ROW = 34;
const TOP = 44;
/** Times are drawn up to this many times the other's; longer bars are cut, and say so by their number. */
const MOST = 3;

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("`", "");
}

function bar(y: number, share: number, { colour, text }: { colour: string; text: string }): string[] {
  const room = WIDTH - LABELS - 130;
  const width = Math.max(2, Math.round((Math.min(share, MOST) / MOST) * room));
  return [
    `<rect x="${LABELS}" y="${y}" width="${width}" height="11" rx="2" fill="${colour}"/>`,
    `<text x="${LABELS + width + 6}" y="${y + 10}" font-size="11" fill="#57606a">${text}</text>`,
  ];
}

/** docs/speed.svg: each headline's two times, as parts of QEMU's. */
export function speedPicture(benchmarks: Benchmarks): string {
  const rows = headlinesOf(benchmarks).flatMap(({ label, theirs, ours }, index) => {
    const y = TOP + index * ROW;
    const over = ours / theirs > MOST ? " (off the scale)" : "";
    return [
      `<text x="${LABELS - 10}" y="${y + 16}" font-size="13" text-anchor="end" fill="#1f2328">${escaped(label)}</text>`,
      ...bar(y, 1, { colour: "#afb8c1", text: `${theirs} s` }),
      ...bar(y + 13, ours / theirs, { colour: "#1a7f37", text: `${ours} s${over}` }),
    ];
  });
  const height = TOP + benchmarks.headlines.length * ROW + 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="system-ui, sans-serif" role="img">`,
    `<title>Seconds that QEMU's tools and Blockwright take; shorter is better</title>`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    `<rect x="${LABELS}" y="14" width="11" height="11" rx="2" fill="#afb8c1"/><text x="${LABELS + 17}" y="24" font-size="12" fill="#1f2328">QEMU's tool</text>`,
    `<rect x="${LABELS + 110}" y="14" width="11" height="11" rx="2" fill="#1a7f37"/><text x="${LABELS + 127}" y="24" font-size="12" fill="#1f2328">Blockwright (shorter is better)</text>`,
    ...rows,
    "</svg>",
    "",
  ].join("\n");
}
