/** random_distribution: how the random requests of a job are spread over its part of the disk. */
import { WorkloadError } from "../model/plan.ts";
import type { HotSpot, Spread } from "../random/places.ts";
import type { FioJob } from "./job.ts";
import { fioNumber } from "./values.ts";

/** A number of a distribution within fio's bounds. Throws WorkloadError. */
function shape(text: string, fallback: number, isIn: (value: number) => boolean): number {
  // What follows says where the distribution's centre is.
  const [first = ""] = text.split(/[,:/]/);
  const value = first === "" ? fallback : Number(first);
  if (!isIn(value)) throw new WorkloadError(`input out of range: ${text}`);
  return value;
}

/** `accesses/size` for each zone; what has no size shares what is left. For reads, and so for all. Throws WorkloadError. */
function zones(text: string, sizeOf: (size: string) => number): HotSpot[] {
  const parts = (text.split(",")[0] ?? "").split(":").map((part) => part.split("/"));
  const given = parts.map(([accesses, size]) => ({ accesses: Number(accesses), of: size && sizeOf(size) }));
  const sum = (of: (spot: (typeof given)[number]) => number): number =>
    given.reduce((total, spot) => total + of(spot), 0);
  const left = 100 - sum(({ of }) => Number(of || 0));
  const accesses = sum((spot) => spot.accesses);
  if (left < -1e-6) throw new WorkloadError("the zones are more than all");
  if (accesses !== 100) throw new WorkloadError(`access percentages don't add up to 100: ${accesses}`);
  const open = given.filter(({ of }) => !of).length;
  const spots = given.map((spot) => ({ accesses: spot.accesses, of: Number(spot.of || left / open) }));
  // What no zone covers is never accessed.
  return open > 0 ? spots : [...spots, { accesses: 0, of: Math.max(0, left) }];
}

/** The share of the job's size that so many bytes are, percent. */
function shareOf(job: FioJob): (size: string) => number {
  const whole = job.text("size")?.endsWith("%") ? undefined : job.number("size");
  if (!whole) throw new WorkloadError("zoned_abs needs a size in bytes");
  return (size) => (100 * fioNumber(size, job.kbBase)) / whole;
}

/** Throws WorkloadError. */
export function spreadOf(job: FioJob): Spread {
  const spread = job.read("random_distribution", (text): Spread | undefined => {
    const [kind = "", rest = ""] = text.split(/:(.*)/s);
    if (kind === "zipf") return { kind, theta: shape(rest, 1.1, (value) => value >= 0) };
    if (kind === "pareto") return { kind, h: shape(rest, 0.2, (value) => value > 0 && value < 1) };
    if (kind === "normal" || kind === "gauss")
      return { kind: "normal", deviationPercent: shape(rest, 10, (value) => value >= 0 && value < 100) };
    if (kind === "zoned") return { kind: "hot", spots: zones(rest, Number) };
    if (kind === "zoned_abs") return { kind: "hot", spots: zones(rest, shareOf(job)) };
    if (kind !== "random") throw new WorkloadError(`'${text}' is not understood`);
    return undefined;
  });
  return spread ?? { kind: job.bool("norandommap") ? "uniform" : "once" };
}
