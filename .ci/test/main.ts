/**
 * `npm test`: builds, then runs the checks and as much of the suites as a budget has room for, two processes at a time; every
 * stage is printed with its time and counts, what was left out by its name, what failed once more. The last line is `N passed, N failed`, and
 * `, N skipped` where something was: a file that is left out counts as one.
 *
 * `npm test -- lint unit` runs these stages alone and whole. BLOCKWRIGHT_TEST_BUDGET: `command` (the default), `full` (CI),
 * `all` (no limit). BLOCKWRIGHT_TEST_SEED chooses as a former run chose.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { talliedIn, toldTally } from "../../test/support/tally.ts";
import { Pace, nextBatch } from "./clock.ts";
import { allPieces, record } from "./pieces.ts";
import { type Batch, LANES, type Piece, type PlannedPhase, nameOf, plan } from "./plan.ts";
import { install, missingPrograms } from "./programs.ts";
import { type BatchResult, type Counts, killAll, runBatch, runCheck } from "./run.ts";
import { type Budget, INSTALL_MINUTES, type Program, budgets, checks, suites } from "./stages.ts";

const started = performance.now();
const folder = mkdtempSync(join(tmpdir(), "blockwright-test-"));

interface StageResult extends Counts {
  readonly name: string;
  readonly seconds: number;
}

/** Where suites that simulate tell what they have looked at. */
const tallyFile = join(folder, "tally.jsonl");
process.env["BLOCKWRIGHT_TEST_TALLY"] = tallyFile;

const stages: StageResult[] = [];
const measured: { suite: string; file: string; seconds: number }[] = [];

function secondsNow(): number {
  return (performance.now() - started) / 1000;
}

function lineOf({ name, seconds, passed, failed, skipped }: Omit<StageResult, "failures">): string {
  const counts = [
    `${passed} ok`,
    failed > 0 ? `${failed} NOT OK` : "",
    skipped > 0 ? `${skipped} skipped` : "",
  ];
  return `${name.padEnd(14)} ${seconds.toFixed(1).padStart(7)} s   ${counts.filter(Boolean).join(", ")}`;
}

/** Prints what a stage said, and its line; keeps it for the sum. */
function conclude(stage: StageResult, output?: string): void {
  if (output !== undefined) process.stdout.write(`\n--- ${stage.name}\n${readFileSync(output, "utf8")}`);
  console.log(lineOf(stage));
  stages.push(stage);
}

/** Runs a check as a stage; true when it is content. */
async function checkStage(check: { name: string; words: readonly string[] }): Promise<boolean> {
  const begin = secondsNow();
  const output = join(folder, `${check.name}.txt`);
  const counts = await runCheck(check, output);
  conclude({ ...counts, name: check.name, seconds: secondsNow() - begin }, output);
  return counts.failed === 0;
}

let batches = 0;

/** Runs a batch as a stage. */
async function batchStage(batch: Batch, pace: Pace): Promise<void> {
  const begin = secondsNow();
  const name = `batch-${(batches += 1)}`;
  const [output, report] = [join(folder, `${name}.txt`), join(folder, `${name}.jsonl`)];
  const suite = suites.find((one) => one.name === batch.suite)!;
  const result: BatchResult = await runBatch(batch, { suite, output, report });
  const seconds = secondsNow() - begin;
  pace.note(batch, seconds);
  for (const { file, seconds: took } of result.files)
    measured.push({ suite: batch.suite, file, seconds: took });
  conclude({ ...result, name: batch.suite, seconds }, output);
}

/** Runs `work` in as many lanes as there may be. */
async function inLanes(work: () => Promise<void>): Promise<void> {
  await Promise.all(Array.from({ length: LANES }, work));
}

/**
 * Runs phases one after the other; gives the pieces that the clock left no time for. What a phase had no time for waits for
 * the last one, whose batches come first.
 */
async function runPhases(planned: readonly PlannedPhase[], pace: Pace): Promise<Piece[]> {
  const touched = new Set<string>();
  const busy = new Set<string>();
  let late: Batch[] = [];
  for (const { phase, batches: wanted, endMinutes } of planned) {
    const queue = phase === planned.at(-1)?.phase ? [...wanted, ...late.splice(0)] : [...wanted];
    if (queue.length === 0) continue;
    const end = (endMinutes - INSTALL_MINUTES) * 60;
    console.log(`\n=== ${phase.name}: ${queue.flatMap(({ pieces }) => pieces).length} files`);
    const next = (): Batch | undefined =>
      nextBatch(queue, { secondsLeft: end - secondsNow(), pace: pace.factor, touched, busy });
    await inLanes(async () => {
      for (let batch = next(); batch !== undefined; batch = next()) {
        const { suite } = batch;
        touched.add(suite);
        if (suites.some(({ name, alone }) => name === suite && alone)) busy.add(suite);
        await batchStage(batch, pace);
        busy.delete(suite);
      }
    });
    late = [...late, ...queue];
  }
  return late.flatMap(({ pieces }) => pieces);
}

/** Installs what the budget wants; the pieces that can run, and those that lack a program. */
function withPrograms(
  pieces: readonly Piece[],
  budget: Budget,
): { able: Piece[]; unable: Piece[] } | undefined {
  const wanted = ({ wantedBy }: Program): boolean => budget !== "command" || wantedBy === undefined;
  const missing = missingPrograms().filter(wanted);
  if (missing.length > 0 && !install(missing)) return undefined;
  const lacking = missingPrograms();
  const isUnable = ({ file }: Piece): boolean => lacking.some(({ wantedBy }) => wantedBy?.test(file));
  return { able: pieces.filter((piece) => !isUnable(piece)), unable: pieces.filter(isUnable) };
}

/** Prints what is left out, by name, and counts it. */
function tellLeft(left: readonly Piece[], why: string): void {
  if (left.length === 0) return;
  console.log(`\nskipped (${why}):\n${left.map((piece) => `  ${nameOf(piece)}`).join("\n")}`);
  stages.push({ name: "skipped", seconds: 0, passed: 0, failed: 0, skipped: left.length, failures: [] });
}

/** The stages that are named, whole; `budget` where none is. */
async function run(
  named: readonly string[],
  { budget, seed }: { budget: Budget; seed: number },
): Promise<void> {
  const known = new Set([...checks, ...suites].map(({ name }) => name));
  const unknown = named.filter((name) => !known.has(name));
  if (unknown.length > 0)
    throw new Error(`no such stage: ${unknown.join(", ")} (there are ${[...known].join(", ")})`);
  const isWanted = ({ name }: { name: string }): boolean => named.length === 0 || named.includes(name);

  const pieces = allPieces().filter(({ suite }) => isWanted({ name: suite }));
  const programs = pieces.length === 0 ? { able: [], unable: [] } : withPrograms(pieces, budget);
  if (programs === undefined) throw new Error("the programs that the suites need are not here");
  if (!(await checkStage({ name: "build", words: [".ci/build.mjs"] }))) return;

  const waiting = checks.filter(isWanted);
  await inLanes(async () => {
    for (let check = waiting.shift(); check !== undefined; check = waiting.shift()) await checkStage(check);
  });
  const { planned, left } = plan(programs.able, { seed, phases: budgets[budget] });
  const late = await runPhases(planned, new Pace());
  tellLeft(programs.unable, "a program is missing");
  tellLeft([...left, ...late], `no room in the budget; BLOCKWRIGHT_TEST_SEED=${seed} chooses the same again`);
}

/** How many lines of a failure are told again at the end; the stage has said all of it. */
const LINES_TOLD = 25;

/** Tells what failed once more, where a reader of the end finds it: `line` makes one of it. */
function tellFailures(line: (name: string, lines: string[]) => string): void {
  for (const { name, failures } of stages)
    for (const failure of failures) console.log(line(name, failure.split("\n")));
}

/** Prints what failed, each stage's sum, and the last line. */
function summarize(): void {
  tellFailures((name, lines) => `\nNOT OK, ${name}: ${lines.slice(0, LINES_TOLD).join("\n")}`);
  console.log("\nStages:");
  for (const name of new Set(stages.map((stage) => stage.name))) {
    const own = stages.filter((stage) => stage.name === name);
    const sum = (key: "seconds" | "passed" | "failed" | "skipped"): number =>
      own.reduce((total, stage) => total + stage[key], 0);
    const counts = { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
    console.log(lineOf({ name, seconds: sum("seconds"), ...counts }));
  }
  const counts = talliedIn(tallyFile);
  if (Object.values(counts).some((count) => count > 0)) console.log(`simulated: ${toldTally(counts)}`);
  console.log(`all            ${secondsNow().toFixed(1).padStart(7)} s`);
  // By name only, so that those who keep a few lines of a log have all of them.
  tellFailures((name, [first = ""]) => `NOT OK, ${name}: ${first}`);
  const total = (key: "passed" | "failed" | "skipped"): number =>
    stages.reduce((sum, stage) => sum + stage[key], 0);
  const skipped = total("skipped") > 0 ? `, ${total("skipped")} skipped` : "";
  console.log(`${total("passed")} passed, ${total("failed")} failed${skipped}`);
  process.exitCode = total("failed") === 0 ? 0 : 1;
}

/** The budget and the seed of the environment. */
function settings(named: readonly string[]): { budget: Budget; seed: number } {
  const budget = named.length > 0 ? "all" : (process.env["BLOCKWRIGHT_TEST_BUDGET"] ?? "command");
  if (!Object.hasOwn(budgets, budget)) throw new Error(`BLOCKWRIGHT_TEST_BUDGET is no budget: ${budget}`);
  const text = process.env["BLOCKWRIGHT_TEST_SEED"];
  const seed = text === undefined ? Math.floor(Date.now() / 1000) % 1_000_000 : Number(text);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new Error(`BLOCKWRIGHT_TEST_SEED is no number: ${text}`);
  return { budget: budget as Budget, seed };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    killAll();
    rmSync(folder, { recursive: true, force: true });
    process.exit(130);
  });
}

try {
  const named = process.argv.slice(2);
  const { budget, seed } = settings(named);
  if (budget !== "all") console.log(`budget ${budget}, BLOCKWRIGHT_TEST_SEED=${seed}`);
  await run(named, { budget, seed });
  if (budget === "all" && named.length === 0 && process.env["BLOCKWRIGHT_TEST_RECORD"] === "1")
    record(measured);
} catch (error) {
  const message = error instanceof Error ? error.message : String(error);
  stages.push({ name: "the runner", seconds: 0, passed: 0, failed: 1, skipped: 0, failures: [message] });
} finally {
  killAll();
}
summarize();
rmSync(folder, { recursive: true, force: true });
