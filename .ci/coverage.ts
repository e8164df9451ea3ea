/**
 * `npm run coverage [-- [--sum FILE] [--report FILE.md] [--projects unit,sim] FILTER…]`: which branches of the sources the suites take, by
 * themselves and by the programs that they start. Prints the share by folder, and of block/, job/ and format/qcow2 each branch that was not
 * taken, with the reason for it (coverage/reasons.ts). FILTERs are as vitest's; `--listed` looks at those folders alone. `--sum` adds what FILE has of former runs, and keeps the
 * sum there; with `--run no` nothing is run. `--report` writes what is printed as a page, with `--note` before it. Build first.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { type Coverage, type FileCoverage, add, arms } from "./coverage/counts.ts";
import { CoveredProgram } from "./coverage/program.ts";
import { reasonFor } from "./coverage/reasons.ts";

/** npm runs its scripts there. */
const root = process.cwd();

/** Folders whose branches are listed, and the share that they are to have. */
const LISTED = ["src/block", "src/job", "src/drivers/format/qcow2"];
const WANTED_PERCENT = 95;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    sum: { type: "string" },
    report: { type: "string" },
    note: { type: "string", default: "" },
    listed: { type: "boolean", default: false },
    run: { type: "string", default: "yes" },
    projects: { type: "string", default: "unit,interop,conformance,sim,crash,fuzz" },
  },
});

/** Runs the suites; what they took. */
async function run(projects: readonly string[], filters: readonly string[]): Promise<Coverage> {
  const folder = mkdtempSync(join(tmpdir(), "blockwright-coverage-"));
  const program = new CoveredProgram(root);
  await program.install();
  try {
    const words = [
      ...["vitest", "run", "--coverage.enabled", "--coverage.provider=v8", "--coverage.reporter=json"],
      ...(values.listed ? LISTED : ["src"]).map((one) => `--coverage.include=${one}/**/*.ts`),
      "--coverage.reportOnFailure",
      `--coverage.reportsDirectory=${folder}`,
      ...projects.flatMap((name) => ["--project", name]),
      ...filters,
    ];
    // What the tests say goes to stderr: stdout has the figures alone.
    const env = { ...process.env, ...program.environment };
    const { status } = spawnSync("npx", words, { cwd: root, stdio: ["ignore", 2, 2], env });
    const file = join(folder, "coverage-final.json");
    if (!existsSync(file)) throw new Error(`vitest ended with ${status}, and without a report`);
    const coverage = JSON.parse(readFileSync(file, "utf8")) as Coverage;
    add(coverage, await program.coverage());
    return coverage;
  } finally {
    program.restore();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The row of the table that a file counts in. */
function folderOf(name: string): string {
  const parts = name.split("/");
  return (
    LISTED.find((one) => name.startsWith(`${one}/`)) ?? parts.slice(0, parts.length > 2 ? 2 : 1).join("/")
  );
}

type Files = readonly (readonly [string, FileCoverage])[];

function* table(files: Files): Generator<string> {
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
    yield `${folder.padEnd(28)} ${percent.toFixed(1).padStart(5)} %  ${taken} of ${all} branches${note}`;
  }
}

/** What was not taken, by the reason for it. */
function untaken(files: Files): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [name, file] of files) {
    if (!LISTED.some((folder) => name.startsWith(`${folder}/`))) continue;
    const lines = readFileSync(join(root, name), "utf8").split("\n");
    for (const { taken, line, type } of arms(file)) {
      if (taken) continue;
      const text = lines[line - 1]?.trim() ?? "";
      const reason = reasonFor(name, text);
      found.set(reason, [...(found.get(reason) ?? []), `${name}:${line} ${type}: ${text}`]);
    }
  }
  return found;
}

function page(rows: readonly string[], found: ReadonlyMap<string, readonly string[]>): string {
  const head =
    "# Branches that no test takes\n\nMade by `npm run coverage -- --report test/COVERAGE.md`; see docs/TESTING.md.\n";
  const parts = [...found].map(([reason, places]) => `## ${reason}\n\n    ${places.join("\n    ")}\n`);
  const note = values.note === "" ? [] : [`${values.note}\n`];
  return [head, ...note, `    ${rows.join("\n    ")}\n`, ...parts].join("\n");
}

let coverage: Coverage = values.run === "no" ? {} : await run(values.projects.split(","), positionals);
if (values.sum !== undefined) {
  const former = existsSync(values.sum) ? (JSON.parse(readFileSync(values.sum, "utf8")) as Coverage) : {};
  if (values.run === "no") coverage = former;
  else add(coverage, former);
  writeFileSync(values.sum, JSON.stringify(coverage));
}
const files = Object.values(coverage)
  .map((file) => [relative(root, file.path), file] as const)
  .toSorted(([a], [b]) => a.localeCompare(b));
const rows = [...table(files)];
const found = untaken(files);
for (const row of rows) console.log(row);
for (const [reason, places] of found) for (const place of places) console.log(`${place}  [${reason}]`);
if (values.report !== undefined) writeFileSync(values.report, page(rows, found));
