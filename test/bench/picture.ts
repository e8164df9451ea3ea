/**
 * Draws docs/demo.svg: what `npm start` prints, in colours, from the mirror's start to its end. Run it after a build:
 * `node .ci/ts.mjs test/bench/picture.ts`. The picture is committed; it is drawn anew when the demo changes its face.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/root.ts";

const CHARACTER = 7.8;
const LINE = 17;
const MARGIN = 16;
const COLUMNS = 104;
/** The colours of a terminal, by the codes that the demo uses. */
const COLOURS: Readonly<Record<string, string>> = {
  "1": "#ffffff",
  "32": "#3fb950",
  "33": "#d29922",
  "35": "#bc8cff",
  "36": "#39c5cf",
  "90": "#6e7681",
  "1;31": "#ff7b72",
};
/** Signs of the map that fill their cell: drawn as boxes, since fonts leave gaps between them. */
const BOXES: Readonly<Record<string, number>> = { "█": 1, "▓": 0.75, "▒": 0.5, "░": 0.3 };

interface Run {
  readonly text: string;
  readonly colour: string;
}

/** A line's parts by their colours. */
function runsOf(line: string): Run[] {
  let colour = "#c9d1d9";
  return line.split(/(\u001b\[[\d;]*m)/).flatMap((part) => {
    const code = /^\u001b\[([\d;]*)m$/.exec(part)?.[1];
    if (code === undefined) return part === "" ? [] : [{ text: part, colour }];
    colour = COLOURS[code] ?? "#c9d1d9";
    return [];
  });
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(" ", "\u00a0");
}

function drawn(line: string, row: number): string[] {
  const y = MARGIN + row * LINE;
  let column = 0;
  return runsOf(line).flatMap(({ text, colour }) => {
    // Runs of one sign, and what stands between them.
    return [...text.matchAll(/([█▓▒░])\1*|[^█▓▒░]+/gu)].map(([whole, sign = ""]) => {
      const room = COLUMNS - column;
      const part = whole.length <= room ? whole : `${whole.slice(0, Math.max(0, room - 2))} …`;
      if (column >= COLUMNS) return "";
      const x = (MARGIN + column * CHARACTER).toFixed(1);
      const characters = part.length;
      column += characters;
      const opacity = BOXES[sign];
      const width = (characters * CHARACTER).toFixed(1);
      return opacity === undefined
        ? `<text x="${x}" y="${y + 13}" fill="${colour}" textLength="${width}">${escaped(part)}</text>`
        : `<rect x="${x}" y="${y + 2}" width="${width}" height="${LINE - 4}" fill="${colour}" opacity="${opacity}"/>`;
    });
  });
}

const program = [join(root, "build", "cli", "main.js"), "demo"];
const env = { ...process.env, FORCE_COLOR: "1", CI: "" };
// Progress goes to stderr, so that is where the demo speaks.
const { stderr: said, status } = spawnSync(process.execPath, program, { encoding: "utf8", env });
if (status !== 0) throw new Error(`the demo ended with ${status}:\n${said}`);
const shown = said
  .slice(said.indexOf("Mirror under"))
  .trimEnd()
  .split("\n")
  .map((line) => line.replaceAll(/\/[^ ]*?blockwright-demo-\w+\//g, ""));
const width = Math.ceil(COLUMNS * CHARACTER + 2 * MARGIN);
const height = shown.length * LINE + 2 * MARGIN;
writeFileSync(
  join(root, "docs", "demo.svg"),
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13" xml:space="preserve" role="img">`,
    "<title>A mirror meets a full disk, waits, and goes on</title>",
    `<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>`,
    ...shown.flatMap(drawn),
    "</svg>",
    "",
  ].join("\n"),
);
console.log("wrote docs/demo.svg");
