/**
 * The rates of a job. fio limits each direction by itself, so where both have a rate, rates and not rwmixread say how many of each
 * there are: one pace for all at that mix is the same.
 */
import { type Operation, type Pace, type Sizes, WorkloadError } from "../model/plan.ts";
import type { FioJob } from "./job.ts";
import { fioNumber, threeOf } from "./values.ts";

/** What a job sends, and when. */
export interface Paced {
  readonly mix: Record<Operation, number>;
  readonly pace: Pace;
  /** A direction has no rate, and follows that of the others. */
  readonly follows: boolean;
}

/** What a job would send without rates. */
interface Unpaced {
  readonly mix: Record<Operation, number>;
  /** Each discard is followed by a write. */
  readonly rewrites: boolean;
  readonly sizes: Readonly<Record<"read" | "write" | "other", Sizes>>;
}

function meanSize(sizes: Sizes): number {
  if (sizes.kind === "range") return (sizes.min + sizes.max) / 2;
  const total = sizes.parts.reduce((sum, { weight }) => sum + weight, 0);
  return sizes.parts.reduce((sum, { bytes, weight }) => sum + (bytes * weight) / total, 0);
}

/** The rates of reads, writes and trims; undefined: there are none. */
function ratesOf(job: FioJob): { unit: "requests" | "bytes"; rates: number[] } | undefined {
  for (const [name, unit] of [
    ["rate_iops", "requests"],
    ["rate", "bytes"],
  ] as const) {
    const rates = job.read(name, (text) =>
      threeOf(text).map((part) => (part === undefined ? 0 : fioNumber(part, job.kbBase))),
    );
    if (rates?.some((rate) => rate > 0)) return { unit, rates };
  }
  return undefined;
}

/** Throws WorkloadError. */
export function paced(job: FioJob, { mix, rewrites, sizes }: Unpaced): Paced {
  const closed: Paced = { mix, pace: { kind: "closed" }, follows: false };
  const given = ratesOf(job);
  if (!given) return closed;
  const { unit, rates } = given;
  const mean = [sizes.read, sizes.write, sizes.other].map((each) => meanSize(each));
  const weights = [mix.read, rewrites ? mix.discard : mix.write, mix.discard];
  const active = [0, 1, 2].filter((i) => weights[i]! > 0);
  const limited = active.filter((i) => rates[i]! > 0);
  if (limited.length === 0) return closed;
  const perSecond = (i: number): number => (unit === "bytes" ? rates[i]! / mean[i]! : rates[i]!);
  const requests = limited.reduce((sum, i) => sum + perSecond(i), 0);
  const bytes = limited.reduce((sum, i) => sum + perSecond(i) * mean[i]!, 0);
  // Those without a rate are sent beside the others, as the mix says.
  const share = (of: (i: number) => number): number =>
    active.reduce((sum, i) => sum + of(i), 0) / limited.reduce((sum, i) => sum + of(i), 0);
  const follows = limited.length < active.length;
  const isMixed = mix.read > 0 && mix.write > 0;
  const kind = kindOf(job);
  return {
    mix: isMixed && !follows ? { ...mix, read: perSecond(0), write: perSecond(1) } : mix,
    pace:
      unit === "bytes" && kind === "fixed"
        ? { kind, perSecond: bytes * share((i) => weights[i]! * mean[i]!), unit }
        : { kind, perSecond: requests * share((i) => weights[i]!), unit: "requests" },
    follows,
  };
}

function kindOf(job: FioJob): "fixed" | "poisson" {
  const kind = job.text("rate_process") ?? "linear";
  if (kind !== "linear" && kind !== "poisson")
    throw new WorkloadError(`[${job.name}]: rate_process=${kind} is not understood`);
  return kind === "poisson" ? "poisson" : "fixed";
}
