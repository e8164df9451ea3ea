/**
 * A gate between two results: no worse, worse, or no verdict. Figures that are exact decide by themselves, and noise cannot trip
 * them; a wall clock decides only where several runs give an interval.
 *
 * Invariant: two results of the same code, workload, model and seed on the virtual clock are equal, so they are never "worse".
 */
import { loadTwinKernels } from "../../kernels/load.ts";
import { Draws, streamKey } from "../random/noise.ts";
import type { ResultDocument } from "../run/document.ts";
import { type RatioInterval, quietInterval, ratioInterval } from "../stats/bootstrap.ts";
import { type Metric, asResult, metricsByRequest, metricsOf } from "./metrics.ts";

/** A figure that differs. */
export interface Difference {
  readonly name: string;
  readonly base: number;
  readonly now: number;
  /** now / base; null where there was none. */
  readonly ratio: number | null;
}

/** What the gate says. */
export interface Verdict {
  readonly verdict: "no worse" | "worse" | "no verdict";
  readonly worse: readonly Difference[];
  readonly better: readonly Difference[];
  /** Of wall clocks, where there are several runs. */
  readonly interval?: RatioInterval;
  /** Why there is no verdict, and what else is to be known. */
  readonly notes: readonly string[];
}

/** How a gate is set. */
export interface GateOptions {
  /** How much more is no worse, percent; default 0 for exact figures, 5 for wall clocks. */
  readonly tolerancePercent?: number;
}

/** Fewest runs of each side that give an interval. */
const FEWEST_RUNS = 5;
/** Into so many groups runs are put, which are judged by their quickest, where there are enough for two in each. */
const QUIET_GROUPS = 16;
const WALL_TOLERANCE_PERCENT = 5;
/** How far figures by the request may lie apart where a stream is cut at another place. */
const CUT_TOLERANCE_PERCENT = 0.5;

/** Exit statuses of the verb. */
export const gateStatus: Readonly<Record<Verdict["verdict"], number>> = {
  "no worse": 0,
  worse: 1,
  "no verdict": 3,
};

function without(note: string, verdict: "worse" | "no verdict" = "no verdict"): Verdict {
  return { verdict, worse: [], better: [], notes: [note] };
}

/** What makes figures meaningless; undefined: nothing does. */
function obstacle(before: ResultDocument, after: ResultDocument): Verdict | undefined {
  if (before.status !== "done")
    return without(`the base is of a run that ${before.status === "failed" ? "failed" : "was cancelled"}`);
  if (after.status === "failed") return without("the new run failed, the base did not", "worse");
  if (after.status === "cancelled") return without("the new run was cancelled");
  if (before.clock !== after.clock) return without(`the clocks differ: ${before.clock} and ${after.clock}`);
  if (before.seed !== after.seed) return without(`the seeds differ: ${before.seed} and ${after.seed}`);
  return undefined;
}

/** Judges `now` against `base`, both documents of runs. Throws WorkloadError for what is none. */
export function gate(base: unknown, now: unknown, options: GateOptions = {}): Verdict {
  const before = asResult(base, "the base");
  const after = asResult(now, "the new result");
  const early = obstacle(before, after);
  if (early) return early;
  const notes: string[] = [];
  if (before.device !== after.device)
    notes.push(`the devices differ: ${before.device ?? "none"} and ${after.device ?? "none"}`);
  const isVirtual = before.clock === "virtual";
  const differences = differencesOf(before, after, { isVirtual, options, notes });
  if (differences.worse.length > 0) return { verdict: "worse", ...differences, notes };
  if (isVirtual) return { verdict: "no worse", ...differences, notes };
  const samples = { base: before.samplesNs ?? [], now: after.samplesNs ?? [] };
  return { ...differences, ...byWallClock(samples, notes, options) };
}

/**
 * Where both sent the same requests every figure counts. Where time ended them the faster one may have sent more: then figures
 * count by the request, and the mix of a stream that is cut elsewhere is no difference.
 */
function differencesOf(
  before: ResultDocument,
  after: ResultDocument,
  how: { isVirtual: boolean; options: GateOptions; notes: string[] },
): Pick<Verdict, "worse" | "better"> {
  const { isVirtual, options, notes } = how;
  const given = options.tolerancePercent ?? 0;
  const isSame = before.digest.requests === after.digest.requests;
  if (!isSame) notes.push("the requests differ");
  if (isSame || ![before, after].every(({ workers }) => workers?.some((one) => one.endsByTime)))
    return compared(metricsOf(before), metricsOf(after), isVirtual, given);
  notes.push(
    `the runs end by time: figures are by the request, and less than ${CUT_TOLERANCE_PERCENT} % is no difference`,
  );
  const tolerance = Math.max(given, CUT_TOLERANCE_PERCENT);
  const all = compared(metricsByRequest(before), metricsByRequest(after), isVirtual, tolerance);
  const better = all.better.filter(({ ratio }) => (ratio ?? 0) < 1 - tolerance / 100);
  return { worse: all.worse, better };
}

/** What is more, and what is less. */
export function compared(
  base: readonly Metric[],
  now: readonly Metric[],
  withTimes: boolean,
  tolerancePercent = 0,
): Pick<Verdict, "worse" | "better"> {
  const values = new Map(base.map((metric) => [metric.name, metric.value]));
  const worse: Difference[] = [];
  const better: Difference[] = [];
  for (const { name, value, timed } of now) {
    if (timed && !withTimes) continue;
    const before = values.get(name) ?? 0;
    const difference = { name, base: before, now: value, ratio: before === 0 ? null : value / before };
    if (value > before * (1 + tolerancePercent / 100)) worse.push(difference);
    else if (value < before) better.push(difference);
  }
  return { worse, better };
}

function byWallClock(
  { base, now }: { base: readonly number[]; now: readonly number[] },
  notes: readonly string[],
  options: GateOptions,
): Pick<Verdict, "verdict" | "interval" | "notes"> {
  const runs = Math.min(base.length, now.length);
  if (runs < FEWEST_RUNS) {
    const note = `a wall clock needs ${FEWEST_RUNS} runs of each side (--repeat): there are ${runs}`;
    return { verdict: "no verdict", notes: [...notes, note] };
  }
  const draws = new Draws(loadTwinKernels({ arenaBytes: 65_536 }), streamKey(1, 0, "bootstrap"));
  const isMany = runs >= 2 * QUIET_GROUPS;
  const interval = isMany
    ? quietInterval(base, now, { draws, groups: QUIET_GROUPS })
    : ratioInterval(base, now, draws);
  return { verdict: judged(interval, options.tolerancePercent ?? WALL_TOLERANCE_PERCENT), interval, notes };
}

/** What an interval says: worse only where all of it is beyond the tolerance. */
export function judged({ low, high }: RatioInterval, tolerancePercent: number): Verdict["verdict"] {
  const most = 1 + tolerancePercent / 100;
  if (low > most) return "worse";
  return high <= most ? "no worse" : "no verdict";
}
