/**
 * The pieces of the suites: every test file that vitest knows, by its project, the long ones in parts, with what each
 * usually takes (durations.json, which `BLOCKWRIGHT_TEST_RECORD=1 npm run test:all` writes).
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { root } from "../../test/support/root.ts";
import type { Piece } from "./plan.ts";
import { parts, suites } from "./stages.ts";

const RECORD = join(root, ".ci/test/durations.json");
/** A file that was never measured. */
const UNKNOWN_SECONDS = 10;

/** Seconds by suite and file. */
export type Durations = Record<string, Record<string, number>>;

function durations(): Durations {
  return existsSync(RECORD) ? (JSON.parse(readFileSync(RECORD, "utf8")) as Durations) : {};
}

/** Cuts a file into the parts that its table names. */
export function piecesOf(file: { suite: string; file: string }, usual: Durations): Piece[] {
  const seconds = usual[file.suite]?.[file.file] ?? UNKNOWN_SECONDS;
  const count = parts[file.file] ?? 1;
  if (count === 1) return [{ ...file, seconds }];
  return Array.from({ length: count }, (_, index) => ({
    ...file,
    shard: `${index + 1}/${count}`,
    seconds: seconds / count,
  }));
}

/** The suite of a listed file. Throws where stages.ts has none of its name. */
function suiteOf({ projectName }: { projectName: string }): string {
  // A suite that runs in browsers is listed once for each engine: "browser (chromium)".
  const suite = projectName.replace(/ \(.*\)$/, "");
  if (!suites.some(({ name }) => name === suite))
    throw new Error(`a suite without a line in stages.ts: ${suite}`);
  return suite;
}

/** All pieces. Throws, with what vitest says, when it cannot list its files. */
export function allPieces(): Piece[] {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-list-"));
  try {
    const file = join(folder, "files.json");
    const words = [join(root, "node_modules/.bin/vitest"), "list", "--filesOnly", `--json=${file}`];
    const { status, stderr } = spawnSync(process.execPath, words, { cwd: root, encoding: "utf8" });
    if (status !== 0 || !existsSync(file)) throw new Error(`vitest cannot list its files:\n${stderr}`);
    const listed = JSON.parse(readFileSync(file, "utf8")) as { file: string; projectName: string }[];
    const usual = durations();
    const files = listed.map((one) => ({ suite: suiteOf(one), file: relative(root, one.file) }));
    const byName = new Map(files.map((one) => [one.suite + one.file, one]));
    // Vitest's own order is that of the disk.
    const names = [...byName.keys()].toSorted();
    return names.flatMap((name) => piecesOf(byName.get(name)!, usual));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Writes what the files of a whole run took; a file in parts has the sum of them. */
export function record(measured: readonly { suite: string; file: string; seconds: number }[]): void {
  const found: Durations = {};
  const sorted = measured.toSorted((one, other) =>
    one.suite + one.file < other.suite + other.file ? -1 : 1,
  );
  for (const { suite, file, seconds } of sorted) {
    const own = (found[suite] ??= {});
    own[file] = Math.round(((own[file] ?? 0) + seconds) * 10) / 10;
  }
  writeFileSync(RECORD, `${JSON.stringify(found, undefined, 2)}\n`);
}
