/**
 * `blockwright workload run FILE`: whatever happens, the document is printed, and it says what did.
 */
import { messageOf } from "../../../base/errors.ts";
import { nodeDrivers } from "../../../node-engine.ts";
import { nodeHost } from "../../../platform/node/host.ts";
import { keepAlive } from "../../../platform/node/clock.ts";
import { sameBytes } from "../../../platform/node/compare.ts";
import {
  type Plan,
  Recorder,
  type ReportFormat,
  type ResultDocument,
  type RunOptions,
  WorkloadError,
  runWorkload,
} from "../../../workload.ts";
import { deviceModels, isModelName } from "../../../workload/device/shipped.ts";
import { emptyDocument } from "../../../workload/run/document.ts";
import { bytesOf, timeOf } from "../../../workload/model/units.ts";
import { gateOf } from "../../options/engine.ts";
import { environment } from "./environment.ts";
import { formatOf, isFormat, note, readJson, readPlan, recorderInto, writeOut } from "./files.ts";
import { textOf } from "./plot-script.ts";
import { type WorkloadFlags, refuseUseless } from "./flags.ts";
import { isMounted } from "./mounted.ts";
import { versus } from "./versus.ts";

const STATUS_OF_SIGNAL: Readonly<Record<string, number>> = { SIGINT: 130, SIGTERM: 143 };

/** Reads a whole number. Throws WorkloadError. */
function whole(text: string, what: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new WorkloadError(`${what}: '${text}' is no whole number`);
  return value;
}

function clockOf(text: string | undefined): "real" | "virtual" | undefined {
  if (text === undefined || text === "real" || text === "virtual") return text;
  throw new WorkloadError(`--clock: '${text}' is neither real nor virtual`);
}

/** A declared device: a model's name, or what a file says. */
async function deviceOf(text: string | undefined): Promise<unknown> {
  if (text === undefined || isModelName(text)) return text;
  try {
    return await readJson(text);
  } catch (error) {
    if (!/^\w+$/.test(text)) throw error;
    throw new WorkloadError(
      `--device: '${text}' is neither a file nor one of ${Object.keys(deviceModels).join(", ")}`,
    );
  }
}

/** Limits of the command line: each worker ends there, if not before. */
function limited(plan: Plan, flags: WorkloadFlags): Plan {
  const requests = flags.requests === undefined ? undefined : whole(flags.requests, "--requests");
  const durationNs = flags.runtime === undefined ? undefined : timeOf(numeric(flags.runtime), "--runtime");
  if (requests === 0 || durationNs === 0) throw new WorkloadError("a run of nothing");
  const workers = plan.workers.map((worker) => {
    const { until } = worker;
    return {
      ...worker,
      until: {
        ...until,
        ...(requests === undefined ? {} : { requests: Math.min(requests, until.requests ?? Infinity) }),
        ...(durationNs === undefined
          ? {}
          : { durationNs: Math.min(durationNs, until.durationNs ?? Infinity) }),
      },
    };
  });
  return { ...plan, workers };
}

function numeric(text: string): number | string {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

async function optionsOf(flags: WorkloadFlags, signal: AbortSignal): Promise<RunOptions> {
  const clock = clockOf(flags.clock);
  const device = await deviceOf(flags.device);
  return {
    platform: { host: nodeHost(), drivers: nodeDrivers, equals: sameBytes, isMounted, environment },
    ...(clock === undefined ? {} : { clock }),
    ...(device === undefined ? {} : { device }),
    ...(flags.seed === undefined ? {} : { seed: whole(flags.seed, "--seed") }),
    ...(flags.target === undefined ? {} : { target: flags.target }),
    ...(flags.size === undefined ? {} : { size: bytesOf(numeric(flags.size), "--size") }),
    ...(flags.direct === undefined ? {} : { direct: flags.direct }),
    overwrite: flags.overwrite ?? false,
    digestDisk: flags.diskDigest,
    gate: gateOf(flags.gate),
    signal,
  };
}

/** What is known of a run that did not begin. */
function failedDocument(file: string | undefined, flags: WorkloadFlags, error: unknown): ResultDocument {
  const seed = Number(flags.seed ?? 1);
  const clock = flags.clock ?? (flags.device === undefined ? "real" : "virtual");
  const known = emptyDocument({
    workload: file ?? "",
    seed: Number.isSafeInteger(seed) ? seed : 1,
    clock: clock === "virtual" ? clock : "real",
    device: flags.device ?? null,
  });
  const code = error instanceof WorkloadError ? { code: "INPUT" } : {};
  return { ...known, errors: [{ message: messageOf(error), ...code }] };
}

/** What a run does beside running. */
interface How {
  readonly action: "run" | "verify" | "record" | "replay";
  /** Takes what is sent, in the place of the file that --record names. */
  readonly recorder?: Recorder;
}

async function documentOf(
  files: readonly string[],
  flags: WorkloadFlags,
  how: How & { readonly signal: AbortSignal },
): Promise<ResultDocument> {
  const [file, ...more] = files;
  try {
    formatOf(flags.output);
    const unknown = files.find((word) => word.length > 1 && word.startsWith("-"));
    if (unknown !== undefined) throw new WorkloadError(`unknown option '${unknown}'`);
    if (file === undefined || more.length > 0) throw new WorkloadError("expecting one workload file");
    refuseUseless(how.action, flags);
    const options = await optionsOf(flags, how.signal);
    const plan = limited(await readPlan(file, speedOf(flags)), flags);
    refuseNoRecording(plan, flags, how);
    return await carriedOut(plan, flags, { ...options, how });
  } catch (error) {
    return failedDocument(file, flags, error);
  }
}

/** Throws WorkloadError where a recording is asked for, and the file is none. */
function refuseNoRecording({ workers }: Plan, { speed }: WorkloadFlags, { action }: How): void {
  if (workers.some(({ trace }) => trace)) return;
  if (action === "replay") throw new WorkloadError("it is no recording: 'workload run' takes workloads");
  if (speed !== undefined) throw new WorkloadError("--speed has no effect: the workload is no recording");
}

/** Runs it once, several times, in turn with another program, or with what it sends recorded. */
async function carriedOut(
  plan: Plan,
  flags: WorkloadFlags,
  { how, ...given }: RunOptions & { readonly how: How },
): Promise<ResultDocument> {
  const isVerified = how.action === "verify";
  const options = isVerified ? { ...given, verify: true } : given;
  const recorder = how.recorder ?? (flags.record === undefined ? undefined : recorderInto(flags.record));
  if (recorder) {
    const result = await runWorkload(plan, { ...options, record: recorder.record });
    recorder.end();
    return result;
  }
  if (isVerified) return runWorkload(plan, options);
  if (flags.vs !== undefined) return versus(plan, options, { command: flags.vs, pairs: pairsOf(flags) });
  return repeated(plan, options, flags.repeat === undefined ? 1 : pairsOf(flags));
}

function speedOf({ speed }: WorkloadFlags): number | undefined {
  if (speed === undefined) return undefined;
  if (!/^\d+(\.\d+)?$/.test(speed)) throw new WorkloadError(`--speed: '${speed}' is no number`);
  return Number(speed);
}

function pairsOf({ repeat = "15" }: WorkloadFlags): number {
  const count = whole(repeat, "--repeat");
  if (count === 0) throw new WorkloadError("--repeat: a run of nothing");
  return count;
}

/** The last of several runs, with how long each of them took. */
async function repeated(plan: Plan, options: RunOptions, times: number): Promise<ResultDocument> {
  const samplesNs: number[] = [];
  let last = await runWorkload(plan, options);
  samplesNs.push(last.elapsedNs);
  while (samplesNs.length < times && last.status === "done") {
    last = await runWorkload(plan, options);
    samplesNs.push(last.elapsedNs);
  }
  return times === 1 ? last : { ...last, samplesNs };
}

function statusOf({ status, errors }: ResultDocument, signal: string | undefined): number {
  if (signal !== undefined) return STATUS_OF_SIGNAL[signal]!;
  if (status === "done") return 0;
  return errors.some(({ code }) => code === "INPUT") ? 2 : 1;
}

/** The form of the document; that there is none such stands in a document, too. */
function formOf({ output }: WorkloadFlags): ReportFormat {
  return isFormat(output) ? output : "json";
}

/** Runs a workload; resolves with the exit status. */
export async function runFile(
  action: "run" | "verify" | "replay",
  files: readonly string[],
  flags: WorkloadFlags,
): Promise<number> {
  const abort = new AbortController();
  let ended: string | undefined;
  const end = (signal: NodeJS.Signals): void => {
    ended ??= signal;
    abort.abort(new Error(`cancelled by ${signal}`));
  };
  process.on("SIGINT", end).on("SIGTERM", end);
  const alive = keepAlive();
  try {
    const document = await documentOf(files, flags, { action, signal: abort.signal });
    for (const { name, where, reason } of document.ignored) note(`ignored: ${name} (${reason}; ${where})`);
    for (const text of document.notes) note(text);
    for (const { message, times = 1 } of document.errors)
      note(times > 1 ? `${message} (${times} times)` : message);
    const written = await writeOut(flags, textOf(document, formOf(flags)));
    return statusOf(document, ended) || written;
  } finally {
    alive();
    process.off("SIGINT", end).off("SIGTERM", end);
  }
}

/** Records what a workload sends; resolves with the exit status. */
export async function recordFile(file: string, flags: WorkloadFlags): Promise<number> {
  const isKept = flags.out === undefined || flags.out === "-";
  const recorder = isKept ? new Recorder() : recorderInto(flags.out!);
  const signal = new AbortController().signal;
  const document = await documentOf([file], flags, { action: "record", recorder, signal });
  for (const { message } of document.errors) note(message);
  if (document.status !== "done") return statusOf(document, undefined);
  if (isKept) process.stdout.write(recorder.text);
  return 0;
}
