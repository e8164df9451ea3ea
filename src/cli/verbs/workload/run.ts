/**
 * The verb `workload`. stdout holds the document and nothing else, also where the run failed; what is said beside it goes to stderr.
 *
 * Exit status: run, verify and replay 0, 1 (failed), 2 (bad input), 130 or 143 (a signal); check 0 or 2; gate 0 (no worse), 1 (worse), 2 (bad input),
 * 3 (no verdict).
 */
import { messageOf } from "../../../base/errors.ts";
import { type ReportFormat, type Verdict, WorkloadError, gate } from "../../../workload.ts";
import { gateStatus } from "../../../workload/gate/gate.ts";
import { compareText } from "../../../workload/gate/compare.ts";
import { workloadSchema } from "../../../workload/model/workload-schema.ts";
import { asResult } from "../../../workload/gate/metrics.ts";
import { type WorkloadFlags, refuseUseless } from "./flags.ts";
import { formatOf, note, readPlan, readJson, writeOut } from "./files.ts";
import { pageOf, textOf } from "./plot-script.ts";
import { recordFile, runFile } from "./run-file.ts";

type Action = (files: readonly string[], flags: WorkloadFlags) => Promise<number>;

/** Names what is ignored, one a line. */
async function check(files: readonly string[]): Promise<number> {
  const [file, ...more] = files;
  if (file === undefined || more.length > 0) throw new WorkloadError("expecting one workload file");
  const plan = await readPlan(file);
  for (const { name, where, reason } of plan.ignored)
    process.stdout.write(`${name}: ignored (${reason}; ${where})\n`);
  return 0;
}

async function twoResults(files: readonly string[]): Promise<[unknown, unknown]> {
  const [base, now, ...more] = files;
  if (base === undefined || now === undefined || more.length > 0)
    throw new WorkloadError("expecting two results: BASE.json NEW.json");
  return [await readJson(base), await readJson(now)];
}

function tell({ worse, better, interval, notes, verdict }: Verdict): void {
  process.stdout.write(`${verdict}\n`);
  const percent = (ratio: number | null): string =>
    ratio === null ? "new" : `${ratio >= 1 ? "+" : ""}${(100 * (ratio - 1)).toFixed(3)} %`;
  for (const [word, list] of [
    ["worse", worse],
    ["better", better],
  ] as const)
    for (const { name, base, now, ratio } of list)
      process.stdout.write(`${word}: ${name} ${base} -> ${now} (${percent(ratio)})\n`);
  if (interval) {
    const { ratio, low, high, pairs } = interval;
    process.stdout.write(
      `wall clock: ${ratio.toFixed(4)} (95 %: ${low.toFixed(4)} to ${high.toFixed(4)}, ${pairs} runs of each)\n`,
    );
  }
  for (const text of notes) process.stdout.write(`note: ${text}\n`);
}

async function judge(files: readonly string[], flags: WorkloadFlags): Promise<number> {
  const [base, now] = await twoResults(files);
  const tolerance = flags.tolerance === undefined ? undefined : Number(flags.tolerance);
  if (tolerance !== undefined && !(tolerance >= 0))
    throw new WorkloadError(`--tolerance: '${flags.tolerance}' is no percentage`);
  const verdict = gate(base, now, tolerance === undefined ? {} : { tolerancePercent: tolerance });
  tell(verdict);
  return gateStatus[verdict.verdict];
}

async function compare(files: readonly string[], flags: WorkloadFlags): Promise<number> {
  const [a, b] = await twoResults(files);
  if (flags.output === "html")
    return writeOut(
      flags,
      made(() => pageOf([asResult(a, files[0]!), asResult(b, files[1]!)])),
    );
  return writeOut(flags, compareText(a, b));
}

/** What is made of results; one of which a part is missing is bad input. */
function made(make: () => string): string {
  try {
    return make();
  } catch (error) {
    if (error instanceof TypeError || error instanceof RangeError)
      throw new WorkloadError("the result is not whole");
    throw error;
  }
}

/** A result in another form; `html` where none is named. */
async function reportOf(files: readonly string[], flags: WorkloadFlags): Promise<number> {
  if (files.length === 0 || files.length > 2) throw new WorkloadError("expecting one result, or two");
  const results = await Promise.all(files.map(async (file) => asResult(await readJson(file), file)));
  const form: ReportFormat = flags.output === undefined ? "html" : formatOf(flags.output);
  const text = made(() =>
    form === "html" ? pageOf(results) : results.map((result) => textOf(result, form)).join(""),
  );
  return writeOut(flags, text);
}

/** Runs a workload for what it sends: the recording goes to stdout or OUT, in the place of the document. */
async function record(files: readonly string[], flags: WorkloadFlags): Promise<number> {
  const [file, ...more] = files;
  if (file === undefined || more.length > 0) throw new WorkloadError("expecting one workload file");
  return recordFile(file, flags);
}

function schema(): Promise<number> {
  process.stdout.write(`${JSON.stringify(workloadSchema, undefined, 2)}\n`);
  return Promise.resolve(0);
}

const actions: Readonly<Record<string, Action>> = {
  run: (files, flags) => runFile("run", files, flags),
  verify: (files, flags) => runFile("verify", files, flags),
  record,
  replay: (files, flags) => runFile("replay", files, flags),
  check,
  gate: judge,
  compare,
  report: reportOf,
  schema,
};

/** Actions that tell of a wrong command line by their document. */
const RUNS = new Set(["run", "verify", "replay"]);

/** Runs the verb; resolves with the exit status. */
export async function workload(
  action: string,
  files: readonly string[],
  flags: WorkloadFlags,
): Promise<number> {
  try {
    if (!Object.hasOwn(actions, action)) {
      throw new WorkloadError(`unknown action '${action}': there are ${Object.keys(actions).join(", ")}`);
    }
    const unknown = files.find((word) => word.length > 1 && word.startsWith("-"));
    if (unknown !== undefined && !RUNS.has(action)) throw new WorkloadError(`unknown option '${unknown}'`);
    if (!RUNS.has(action)) refuseUseless(action, flags);
    return await actions[action]!(files, flags);
  } catch (error) {
    note(messageOf(error));
    return error instanceof WorkloadError ? 2 : 1;
  }
}
