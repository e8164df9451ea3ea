/** Our own workload files: JSON that the schema describes, as a plan. */
import { type Errno, isErrno } from "../../base/errno.ts";
import type { Spread } from "../random/places.ts";
import {
  type DataShape,
  type Ignored,
  type Locality,
  type Operation,
  type Pace,
  type Plan,
  RESULT_FORMAT,
  type Region,
  type Sizes,
  WorkloadError,
  type WorkerPlan,
  extremes,
  oneSize,
  operations,
} from "./plan.ts";
import { type JobJson, type JobPlan, readJob } from "./job.ts";
import { checkAgainst } from "./schema.ts";
import { bytesOf, timeOf } from "./units.ts";
import { workloadSchema } from "./workload-schema.ts";

type Size = number | string;
type Time = number | string;

/** Sizes in a file. */
export type SizesJson =
  | Size
  | { min: Size; max: Size; step?: Size }
  | readonly { size: Size; weight?: number }[];

/** Places in a file. */
export type LocalityJson =
  | "sequential"
  | "backwards"
  | "random"
  | "once"
  | { zipf: number }
  | { pareto: number }
  | { normal: number }
  | { hot: readonly { accesses: number; of: number }[] }
  | { sequentialPercent: number };

/** A worker in a file. */
export interface WorkerJson {
  name?: string;
  count?: number;
  mix?: Operation | Partial<Record<Operation, number>>;
  fua?: number;
  flushEvery?: number;
  flushAtEnd?: boolean;
  sizes?: SizesJson;
  readSizes?: SizesJson;
  writeSizes?: SizesJson;
  align?: Size;
  locality?: LocalityJson;
  region?: { offset?: Size; size?: Size };
  depth?: number;
  rate?: number | { fixed: number } | { poisson: number } | { bytesPerSecond: Size };
  think?: Time | { time: Time; every?: number };
  requests?: number;
  bytes?: Size;
  duration?: Time;
  passes?: number;
  startDelay?: Time;
  warmup?: Time;
  data?: { compress?: number; duplicates?: number; zeroes?: number; block?: Size; pool?: number };
  onError?: "stop" | "continue";
  expect?: readonly string[];
  job?: JobJson;
}

/** A workload file. */
export interface WorkloadJson {
  name?: string;
  seed?: number;
  clock?: "real" | "virtual";
  device?: string | object;
  target?: string | object;
  size?: Size;
  direct?: boolean;
  defaults?: WorkerJson;
  workers?: readonly WorkerJson[];
  phases?: readonly { name?: string; workers: readonly WorkerJson[] }[];
}

/** Bytes of a block of data, and how many different ones repeat, where nothing is said. */
const DATA: DataShape = {
  compressPercent: 0,
  duplicatePercent: 0,
  zeroPercent: 0,
  blockBytes: 4096,
  pool: 64,
};

const DEFAULT_SIZE = 4096;

const ENDS = ["requests", "bytes", "duration", "passes"] as const;

function readSizes(value: SizesJson, what: string): Sizes {
  if (typeof value === "number" || typeof value === "string") return oneSize(bytesOf(value, what));
  if (Array.isArray(value)) {
    const list = value as readonly { size: Size; weight?: number }[];
    const parts = list.map((part, i) => ({
      bytes: bytesOf(part.size, `${what}[${i}].size`),
      weight: part.weight ?? 1,
    }));
    if (!parts.some(({ weight }) => weight > 0)) throw new WorkloadError(`${what}: no size has any weight`);
    return { kind: "split", parts };
  }
  const range = value as { min: Size; max: Size; step?: Size };
  const [min, max] = [bytesOf(range.min, `${what}.min`), bytesOf(range.max, `${what}.max`)];
  const step = bytesOf(range.step ?? min, `${what}.step`);
  if (min > max || step === 0) throw new WorkloadError(`${what}: the range is empty`);
  return { kind: "range", min, max, step };
}

function checkSizes(sizes: Sizes, what: string): Sizes {
  if (extremes(sizes).min === 0) throw new WorkloadError(`${what}: a request of 0 bytes`);
  return sizes;
}

function readSpread(value: Exclude<LocalityJson, string>): Spread {
  if ("zipf" in value) return { kind: "zipf", theta: value.zipf };
  if ("pareto" in value) return { kind: "pareto", h: value.pareto };
  if ("normal" in value) return { kind: "normal", deviationPercent: value.normal };
  if ("hot" in value) return { kind: "hot", spots: value.hot };
  return { kind: "uniform" };
}

function readLocality(value: LocalityJson, step: number): Locality {
  const plain = { spread: { kind: "uniform" }, run: 1, skip: 0 } as const;
  if (value === "sequential") return { ...plain, randomPercent: 0 };
  if (value === "backwards") return { ...plain, randomPercent: 0, skip: -2 * step };
  if (value === "random") return { ...plain, randomPercent: 100 };
  if (value === "once") return { ...plain, randomPercent: 100, spread: { kind: "once" } };
  const randomPercent = "sequentialPercent" in value ? 100 - value.sequentialPercent : 100;
  return { ...plain, randomPercent, spread: readSpread(value) };
}

function readMix({ mix, job }: WorkerJson, what: string): Record<Operation, number> {
  if (job) return { read: 0, write: 0, zero: 0, discard: 0, flush: 0 };
  const given = typeof mix === "string" ? { [mix]: 1 } : (mix ?? { read: 1 });
  const whole = { read: 0, write: 0, zero: 0, discard: 0, flush: 0, ...given };
  if (!operations.some((operation) => whole[operation] > 0))
    throw new WorkloadError(`${what}.mix: no operation has any weight`);
  return whole;
}

function readPace(rate: WorkerJson["rate"], what: string): Pace {
  if (rate === undefined) return { kind: "closed" };
  if (typeof rate === "number") return { kind: "fixed", perSecond: rate, unit: "requests" };
  if ("fixed" in rate) return { kind: "fixed", perSecond: rate.fixed, unit: "requests" };
  if ("poisson" in rate) return { kind: "poisson", perSecond: rate.poisson, unit: "requests" };
  const perSecond = bytesOf(rate.bytesPerSecond, `${what}.rate.bytesPerSecond`);
  if (perSecond === 0) throw new WorkloadError(`${what}.rate.bytesPerSecond: must be above 0`);
  return { kind: "fixed", perSecond, unit: "bytes" };
}

function readThink(think: WorkerJson["think"], what: string): WorkerPlan["think"] {
  if (think === undefined) return { ns: 0, every: 1 };
  if (typeof think !== "object") return { ns: timeOf(think, `${what}.think`), every: 1 };
  return { ns: timeOf(think.time, `${what}.think.time`), every: think.every ?? 1 };
}

function readData(data: WorkerJson["data"] = {}, what: string): DataShape {
  const blockBytes = data.block === undefined ? DATA.blockBytes : bytesOf(data.block, `${what}.data.block`);
  if (blockBytes < 16 || blockBytes % 4 !== 0)
    throw new WorkloadError(`${what}.data.block: must be a multiple of 4, and 16 at least`);
  const shape = {
    compressPercent: data.compress ?? DATA.compressPercent,
    duplicatePercent: data.duplicates ?? DATA.duplicatePercent,
    zeroPercent: data.zeroes ?? DATA.zeroPercent,
    blockBytes,
    pool: data.pool ?? DATA.pool,
  };
  if (shape.duplicatePercent + shape.zeroPercent > 100)
    throw new WorkloadError(`${what}.data: duplicates and zeroes are more than all`);
  return shape;
}

function readRegion(region: WorkerJson["region"], what: string): Region {
  return {
    offset: region?.offset === undefined ? 0 : bytesOf(region.offset, `${what}.region.offset`),
    ...(region?.size === undefined ? {} : { bytes: bytesOf(region.size, `${what}.region.size`) }),
  };
}

function readErrors(names: readonly string[] = [], what: string): Errno[] {
  return names.map((name) => {
    if (!isErrno(name)) throw new WorkloadError(`${what}.expect: '${name}' is no errno`);
    return name;
  });
}

function readUntil(worker: WorkerJson, what: string): WorkerPlan["until"] {
  return {
    ...(worker.requests === undefined ? {} : { requests: worker.requests }),
    ...(worker.bytes === undefined ? {} : { bytes: bytesOf(worker.bytes, `${what}.bytes`) }),
    ...(worker.duration === undefined ? {} : { durationNs: timeOf(worker.duration, `${what}.duration`) }),
    ...(worker.passes === undefined ? {} : { passes: worker.passes }),
    // Where nothing is said the worker's part is gone through once.
    ...(ENDS.some((name) => worker[name] !== undefined) ? {} : { passes: 1 }),
  };
}

function readWorker(worker: WorkerJson, what: string): Omit<WorkerPlan, "name" | "after"> {
  const time = (name: "startDelay" | "warmup"): number => timeOf(worker[name] ?? 0, `${what}.${name}`);
  const other = checkSizes(readSizes(worker.sizes ?? DEFAULT_SIZE, `${what}.sizes`), `${what}.sizes`);
  const of = (sizes: SizesJson | undefined, name: string): Sizes =>
    sizes === undefined ? other : checkSizes(readSizes(sizes, `${what}.${name}`), `${what}.${name}`);
  const sizes = {
    read: of(worker.readSizes, "readSizes"),
    write: of(worker.writeSizes, "writeSizes"),
    other,
  };
  const smallest = Math.min(...Object.values(sizes).map((each) => extremes(each).min));
  const align = worker.align === undefined ? smallest : bytesOf(worker.align, `${what}.align`);
  return {
    startDelayNs: time("startDelay"),
    mix: readMix(worker, what),
    rewrites: false,
    fuaPercent: worker.fua ?? 0,
    flushEvery: worker.flushEvery ?? 0,
    flushAtEnd: worker.flushAtEnd ?? false,
    sizes,
    align: Math.max(1, align),
    locality: readLocality(worker.locality ?? "sequential", smallest),
    region: readRegion(worker.region, what),
    depth: worker.depth ?? 1,
    pace: readPace(worker.rate, what),
    think: readThink(worker.think, what),
    until: readUntil(worker, what),
    warmupNs: time("warmup"),
    data: readData(worker.data, what),
    onError: worker.onError ?? "stop",
    expected: readErrors(worker.expect, what),
    endsAll: false,
    ...(worker.job ? { job: readJobOf(worker.job, `${what}.job`) } : {}),
  };
}

function readJobOf(job: JobJson, what: string): JobPlan {
  return readJob(job, {
    bytes: (value) => bytesOf(value, `${what}.speed`),
    time: (value) => timeOf(value, `${what}.resumeAfter`),
  });
}

interface Group {
  readonly what: string;
  readonly workers: readonly WorkerJson[];
}

function groupsOf({ workers, phases }: WorkloadJson): Group[] {
  const groups = (phases ?? []).map((phase, i) => ({ what: `phases[${i}].workers`, workers: phase.workers }));
  if (workers) groups.unshift({ what: "workers", workers });
  if (groups.length === 0) throw new WorkloadError("the workload has neither 'workers' nor 'phases'");
  return groups;
}

function expand(file: WorkloadJson): WorkerPlan[] {
  const all: WorkerPlan[] = [];
  for (const { what, workers } of groupsOf(file)) {
    const after = all.map((_worker, i) => i);
    for (const [i, json] of workers.entries()) {
      const merged = { ...file.defaults, ...json };
      const plan = readWorker(merged, `${what}[${i}]`);
      const name = merged.name ?? `worker${all.length}`;
      const count = merged.count ?? 1;
      for (let copy = 0; copy < count; copy++)
        all.push({ ...plan, after, name: count === 1 ? name : `${name}.${copy}` });
    }
  }
  return all;
}

/** Reads what JSON.parse() gave of one of our files. Throws WorkloadError. */
export function planOfJson(value: unknown): Plan {
  // It has workers, too.
  if ((value as { format?: unknown } | null)?.format === RESULT_FORMAT)
    throw new WorkloadError("it is the result of a run, and no workload");
  const ignored: Ignored[] = checkAgainst(workloadSchema, value);
  const file = value as WorkloadJson;
  return {
    name: file.name ?? "workload",
    format: "blockwright",
    workers: expand(file),
    ignored,
    wishes: {
      ...(file.seed === undefined ? {} : { seed: file.seed }),
      ...(file.clock === undefined ? {} : { clock: file.clock }),
      ...(file.device === undefined ? {} : { device: file.device }),
      ...(file.target === undefined ? {} : { target: file.target }),
      ...(file.size === undefined ? {} : { size: bytesOf(file.size, "size") }),
      ...(file.direct === undefined ? {} : { direct: file.direct }),
    },
  };
}
