/**
 * What the documentation says about speed and size, made of docs/benchmarks.json: docs/BENCHMARKS.md as a whole, the
 * table of headlines in README.md, and the picture docs/speed.svg. `npm run docs` writes them (report.ts); test/tidy holds
 * them equal to what is committed. Pure: text from data.
 */

/** A value of a table: a name, a figure, or "–" where there is none. */
type Cell = string | number;

/** One table: how it was measured, and what came out. */
export interface Measured {
  readonly title: string;
  readonly command: string;
  readonly method: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

/** docs/benchmarks.json. */
export interface Benchmarks {
  readonly machine: string;
  /** Paragraphs on where it loses, and why. */
  readonly losses: readonly string[];
  /** The rows that README shows, by their table and their name there. */
  readonly headlines: readonly { readonly table: string; readonly row: string; readonly label: string }[];
  readonly tables: Readonly<Record<string, Measured>>;
}

/** A comparison with QEMU's program: seconds of both, and how many times faster ours is. */
interface Headline {
  readonly label: string;
  readonly theirs: number;
  readonly ours: number;
  readonly ratio: number;
}

const OURS = "Blockwright, s";
const THEIRS = /^(qemu-img|qemu-storage-daemon|QEMU's program), s$/;

function lineOf(cells: readonly Cell[]): string {
  return `| ${cells.join(" | ")} |`;
}

function table(columns: readonly string[], rows: readonly (readonly Cell[])[]): string {
  return [lineOf(columns), lineOf(columns.map(() => "---")), ...rows.map(lineOf)].join("\n");
}

/** The whole of docs/BENCHMARKS.md. */
export function benchmarkPage({ machine, losses, tables }: Benchmarks): string {
  const sections = Object.values(tables).map(({ title, command, method, columns, rows }) =>
    [`## ${title}`, table(columns, rows), `\`${command}\`: ${method}.`].join("\n\n"),
  );
  const head = [
    "# Measurements",
    "<!-- Made of docs/benchmarks.json by `npm run docs`: change the figures there. -->",
    `Machine: ${machine}. A ratio above 1 means that Blockwright is faster than the other.`,
    "![seconds of both programs, by command](speed.svg)",
    ...losses,
  ];
  return `${[...head, ...sections].join("\n\n")}\n`;
}

/** The rows that README shows. Throws where docs/benchmarks.json names a row that it has not. */
export function headlinesOf({ headlines, tables }: Benchmarks): Headline[] {
  return headlines.map(({ table: name, row: wanted, label }) => {
    const columns = tables[name]?.columns ?? [];
    const row = tables[name]?.rows.find(([first]) => first === wanted);
    const ours = row?.[columns.indexOf(OURS)];
    const theirs = row?.[columns.findIndex((column) => THEIRS.test(column))];
    if (typeof ours !== "number" || typeof theirs !== "number")
      throw new Error(`docs/benchmarks.json has no times for "${wanted}" in "${name}"`);
    const told = row?.[columns.indexOf("theirs / ours")];
    return { label, theirs, ours, ratio: typeof told === "number" ? told : theirs / ours };
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
  return `${table(columns, rows)}\n\n${benchmarks.machine}.`;
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
