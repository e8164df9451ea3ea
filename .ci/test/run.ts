/**
 * Runs programs for the stages: a check, or a batch of test files. What they print goes to a file while others run, and
 * is shown when they are over. No run has a deadline; one in which no test ends for its suite's `quietMinutes` hangs, and is
 * killed with all that it started.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { root } from "../../test/support/root.ts";
import type { Batch } from "./plan.ts";
import type { FileLine, Line } from "./reporter.ts";
import type { Check, Suite } from "./stages.ts";

const LOOK_MS = 5000;
/** How much of what a failed run printed is told again, where no test says why. */
const END_LINES = 40;

/** The counts of a stage. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** What failed and why, to be told once more at the end; the end of what was printed, where no test says it. */
  readonly failures: readonly string[];
}

/** A batch's counts, and what each of its files took. */
export interface BatchResult extends Counts {
  readonly files: readonly FileLine[];
}

interface Job {
  readonly output: string;
  readonly words: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  /** The file that grows while all is well, and for how many minutes it may stand still. */
  readonly pulse?: { readonly file: string; readonly quietMinutes: number };
}

const running = new Set<ChildProcess>();

/** Ends what runs, with all that it started. */
export function killAll(): void {
  for (const child of running) kill(child);
}

function kill({ pid }: ChildProcess): void {
  try {
    // The group: vitest's workers and the programs that tests started.
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** A program's words for Node: of node_modules/.bin, or a script of ours. */
function program([first = "", ...rest]: readonly string[]): string[] {
  return [first.includes("/") ? join(root, first) : join(root, "node_modules", ".bin", first), ...rest];
}

/** Tells, look by look, whether a file has stood still for too long. Looks are counted: a suspended machine has none. */
function stillness({ file, quietMinutes }: NonNullable<Job["pulse"]>): () => boolean {
  let size = -1;
  let looks = 0;
  return () => {
    const now = statSync(file).size;
    looks = now === size ? looks + 1 : 0;
    size = now;
    return looks * LOOK_MS > quietMinutes * 60_000;
  };
}

/** Runs a program of Node; true when it exits with 0. */
async function runBeside({ output, words, env, pulse }: Job): Promise<boolean> {
  const file = openSync(output, "w");
  const child = spawn(process.execPath, program(words), {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", file, file],
    detached: true,
  });
  running.add(child);
  const hangs = pulse ? stillness(pulse) : () => false;
  const timer = setInterval(() => {
    if (!hangs()) return;
    writeSync(file, "\nIt hangs: no test has ended for a long time. It is killed.\n");
    kill(child);
  }, LOOK_MS);
  const status = await new Promise<number | null>((resolve) => {
    child.once("error", ({ message }) => {
      writeSync(file, `${words[0]}: ${message}\n`);
      resolve(null);
    });
    child.once("close", resolve);
  });
  clearInterval(timer);
  running.delete(child);
  closeSync(file);
  return status === 0;
}

/** Runs a check. */
export async function runCheck({ words }: Pick<Check, "words">, output: string): Promise<Counts> {
  const ok = await runBeside({ output, words });
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0, failures: ok ? [] : [endOf(output)] };
}

/** The end of what was printed. */
function endOf(output: string): string {
  return readFileSync(output, "utf8").trimEnd().split("\n").slice(-END_LINES).join("\n");
}

/** The counts of a run that wrote these lines; `ok`: it exited with 0. Files that did not report count as failed. */
export function countsOf(lines: readonly Line[], { files, ok }: { files: number; ok: boolean }): BatchResult {
  const reports = lines.filter((line): line is FileLine => line.kind === "file");
  const sum = (key: "passed" | "failed" | "skipped"): number =>
    reports.reduce((total, report) => total + report[key], 0);
  const missing = Math.max(0, files - reports.length);
  const nothing = sum("passed") + sum("failed") + sum("skipped") === 0 ? 1 : 0;
  const failed = Math.max(sum("failed") + missing, nothing);
  // A run can fail without a failed test: an error outside of tests, a killed worker.
  return {
    passed: sum("passed"),
    failed: ok ? failed : Math.max(1, failed),
    skipped: sum("skipped"),
    failures: reports.flatMap(({ file, failures }) => failures.map((failure) => `${file}: ${failure}`)),
    files: reports,
  };
}

/** Runs a batch of test files. `output` and `report` are files to write. */
export async function runBatch(
  { pieces }: Batch,
  { suite, output, report }: { suite: Suite; output: string; report: string },
): Promise<BatchResult> {
  writeFileSync(report, "");
  const files = pieces.map(({ file }) => join(root, file));
  const reporters = ["--reporter=default", `--reporter=${join(root, ".ci/test/reporter.ts")}`];
  const shard = pieces[0]?.shard;
  const ok = await runBeside({
    output,
    words: ["vitest", "run", "--project", suite.name, "--maxWorkers=1", ...reporters, ...files],
    env: { BLOCKWRIGHT_TEST_REPORT: report, ...(shard === undefined ? {} : { BLOCKWRIGHT_SHARD: shard }) },
    pulse: { file: report, quietMinutes: suite.quietMinutes },
  });
  const text = existsSync(report) ? readFileSync(report, "utf8") : "";
  const lines = text.split("\n").filter((line) => line !== "");
  const counts = countsOf(
    lines.map((line) => JSON.parse(line) as Line),
    { files: files.length, ok },
  );
  const isTold = counts.failures.length >= counts.failed;
  return isTold ? counts : { ...counts, failures: [...counts.failures, endOf(output)] };
}
