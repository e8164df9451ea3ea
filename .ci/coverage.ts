/**
 * `npm run coverage [-- [--sum FILE] [--projects unit,sim] FILTER…]`: which branches of the sources the suites that run in this process take
 * (unit, conformance, sim, crash, fuzz; programs that they start do not count). Prints the share by folder, and of block/, job/ and
 * format/qcow2 each branch that was not taken. FILTERs are as vitest's. `--sum` adds what FILE has of former runs, and keeps the sum there.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";

/** npm runs its scripts there. */
const root = process.cwd();

/** Folders whose branches are listed, and the share that they are to have. */
const LISTED = ["src/block", "src/job", "src/drivers/format/qcow2"];
const WANTED_PERCENT = 95;

interface Place {
  readonly line?: number;
}

/** Of a file: its branches, and how often each arm was taken (istanbul's form). */
interface FileCoverage {
  readonly path: string;
  readonly branchMap: Readonly<
    Record<string, { readonly type: string; readonly locations: readonly { readonly start: Place }[] }>
  >;
  readonly b: Record<string, number[]>;
}

type Coverage = Record<string, FileCoverage>;

/** Runs the suites; what they took. */
function run(projects: readonly string[], filters: readonly string[]): Coverage {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-coverage-"));
  try {
    const words = [
      ...["vitest", "run", "--coverage.enabled", "--coverage.provider=v8", "--coverage.reporter=json"],
      ...[
        "--coverage.include=src/**/*.ts",
        "--coverage.reportOnFailure",
        `--coverage.reportsDirectory=${folder}`,
      ],
      ...projects.flatMap((name) => ["--project", name]),
      ...filters,
    ];
    // What the tests say goes to stderr: stdout has the figures alone.
    const { status } = spawnSync("npx", words, { cwd: root, stdio: ["ignore", 2, 2] });
    const file = join(folder, "coverage-final.json");
    if (!existsSync(file)) throw new Error(`vitest ended with ${status}, and without a report`);
    return JSON.parse(readFileSync(file, "utf8")) as Coverage;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Adds the counts of a former run of the same sources. */
function add(sum: Coverage, more: Coverage): void {
  for (const [path, file] of Object.entries(more)) {
    const known = (sum[path] ??= file);
    if (known === file) continue;
    for (const [id, counts] of Object.entries(file.b))
      known.b[id] = counts.map((count, arm) => count + (known.b[id]?.[arm] ?? 0));
  }
}

/** The arms of a file: whether each was taken, and where it is. */
function* arms({ branchMap, b }: FileCoverage): Generator<{ taken: boolean; line: number; type: string }> {
  for (const [id, { type, locations }] of Object.entries(branchMap))
    for (const [arm, count] of b[id]!.entries())
      yield { taken: count > 0, line: locations[arm]?.start.line ?? locations[0]?.start.line ?? 0, type };
}

/** The row of the table that a file counts in. */
function folderOf(name: string): string {
  const parts = name.split("/");
  return (
    LISTED.find((one) => name.startsWith(`${one}/`)) ?? parts.slice(0, parts.length > 2 ? 2 : 1).join("/")
  );
}

function table(files: readonly (readonly [string, FileCoverage])[]): void {
  const folders = new Map<string, { taken: number; all: number }>();
  for (const [name, file] of files) {
    const folder = folderOf(name);
    const counts = folders.get(folder) ?? { taken: 0, all: 0 };
    for (const { taken } of arms(file)) {
      counts.all += 1;
      counts.taken += taken ? 1 : 0;
    }
    folders.set(folder, counts);
  }
  for (const [folder, { taken, all }] of [...folders].toSorted(([a], [b]) => a.localeCompare(b))) {
    const percent = (100 * taken) / Math.max(1, all);
    const note = LISTED.includes(folder) && percent < WANTED_PERCENT ? ` (below ${WANTED_PERCENT})` : "";
    console.log(
      `${folder.padEnd(28)} ${percent.toFixed(1).padStart(5)} %  ${taken} of ${all} branches${note}`,
    );
  }
}

function untaken(files: readonly (readonly [string, FileCoverage])[]): void {
  for (const [name, file] of files) {
    if (!LISTED.some((folder) => name.startsWith(`${folder}/`))) continue;
    const lines = readFileSync(file.path, "utf8").split("\n");
    for (const { taken, line, type } of arms(file))
      if (!taken) console.log(`${name}:${line} ${type}: ${lines[line - 1]?.trim() ?? ""}`);
  }
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sum: { type: "string" },
    projects: { type: "string", default: "unit,conformance,sim,crash,fuzz" },
  },
});
const coverage = run(values.projects.split(","), positionals);
if (values.sum !== undefined) {
  if (existsSync(values.sum)) add(coverage, JSON.parse(readFileSync(values.sum, "utf8")) as Coverage);
  writeFileSync(values.sum, JSON.stringify(coverage));
}
const files = Object.values(coverage)
  .map((file) => [relative(root, file.path), file] as const)
  .toSorted(([a], [b]) => a.localeCompare(b));
table(files);
untaken(files);
