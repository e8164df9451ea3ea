// Which modules of the program the verbs on single images evaluate: what is in its first volume, and what all of them evaluate at its head.
// It is found by running them.
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

/** Runs the program's script by itself, and writes the places of the modules that it evaluated to a file. */
const NOTING = `
  const [program, notes, ...words] = process.argv.slice(1);
  process.argv = [process.execPath, program, ...words];
  const { made } = require(program);
  process.on("exit", () => require("node:fs").writeFileSync(notes, JSON.stringify(Object.keys(made))));
`;

/** What is run, in a folder of its own: what others need first, one after the other. */
const FIRST = [
  ["create", "-q", "-f", "raw", "a.raw", "1M"],
  ["create", "-q", "-f", "qcow2", "a.qcow2", "1M"],
  ["create", "-q", "-f", "raw", "-o", "preallocation=full", "large.raw", "128M"],
];
const THEN = [
  ["info", "a.qcow2"],
  ["check", "-q", "a.qcow2"],
  ["map", "a.qcow2"],
  ["compare", "-q", "a.qcow2", "a.raw"],
  ["convert", "-O", "qcow2", "a.raw", "b.qcow2"],
  ["convert", "-O", "raw", "a.qcow2", "b.raw"],
  ["convert", "-O", "raw", "large.raw", "c.raw"],
  ["measure", "-O", "qcow2", "a.qcow2"],
  ["snapshot", "-l", "a.qcow2"],
];

/**
 * The places of the modules that are evaluated, by each run.
 *
 * @param {string} program
 */
export async function evaluatedBy(program) {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-evaluated-"));
  /** @type {Set<number>[]} */
  const found = [];
  /** @param {string[]} words */
  const run = async (words) => {
    const notes = join(folder, `${words.join("-")}.json`);
    await promisify(execFile)(process.execPath, ["-e", NOTING, program, notes, ...words], { cwd: folder });
    found.push(new Set(/** @type {string[]} */ (JSON.parse(readFileSync(notes, "utf8"))).map(Number)));
  };
  try {
    for (const words of FIRST) await run(words);
    await Promise.all(THEN.map(run));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return found;
}
