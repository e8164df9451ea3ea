/** A job of a fio file as workers: what each of the options that we have means here. Source: fio's HOWTO. */
import { type Errno, isErrno } from "../../base/errno.ts";
import {
  type DataShape,
  type Locality,
  type Operation,
  type Pace,
  type Region,
  type Sizes,
  type Until,
  WorkloadError,
  type WorkerPlan,
  extremes,
  oneSize,
} from "../model/plan.ts";
import type { Spread } from "../random/places.ts";
import type { FioJob } from "./job.ts";
import { fioNumber, fioSplit, threeOf } from "./values.ts";

/** The options that have their effect here; all others are named. */
export const supported: ReadonlySet<string> = new Set(
  (
    "rw bs bsrange bssplit blockalign size filesize io_size number_ios offset offset_increment iodepth numjobs runtime " +
    "time_based startdelay ramp_time loops rwmixread rwmixwrite norandommap random_distribution percentage_random rate " +
    "rate_iops rate_process thinktime thinktime_blocks fsync fdatasync sync end_fsync buffer_compress_percentage " +
    "dedupe_percentage zero_buffers refill_buffers scramble_buffers direct buffered filename directory ioengine randseed " +
    "stonewall wait_for continue_on_error ignore_error exitall name description kb_base"
  ).split(" "),
);

/** Engines that send one request at a time, whatever iodepth says. */
const SYNCHRONOUS = new Set(["sync", "psync", "vsync", "pvsync", "pvsync2", "mmap", "falloc", "e4defrag"]);

/** Engines whose files are files, so that `filename` names a disk. */
const OF_FILES = new Set([
  ...SYNCHRONOUS,
  "libaio",
  "io_uring",
  "posixaio",
  "splice",
  "sg",
  "windowsaio",
  "solarisaio",
]);

/** Engines that do no block I/O. */
const NO_DISK = /^(cpuio|exec|filecreate|filedelete|filestat|net|netsplice|rdma|librpma_.*|e4defrag)$/;

/** fio's own default engine on Linux. */
const DEFAULT_ENGINE = "psync";

const DIRECTIONS: Readonly<Record<string, { mix: "read" | "write" | "discard" | "both"; random: boolean }>> =
  {
    read: { mix: "read", random: false },
    write: { mix: "write", random: false },
    trim: { mix: "discard", random: false },
    randread: { mix: "read", random: true },
    randwrite: { mix: "write", random: true },
    randtrim: { mix: "discard", random: true },
    rw: { mix: "both", random: false },
    readwrite: { mix: "both", random: false },
    randrw: { mix: "both", random: true },
    trimwrite: { mix: "discard", random: false },
    randtrimwrite: { mix: "discard", random: true },
  };

/** A worker without its place among the others. */
export type FioWorker = Omit<WorkerPlan, "after" | "name"> & { readonly file: string | undefined };

/** Whether a job sends requests to a disk at all. */
export function usesDisk(job: FioJob): boolean {
  return !NO_DISK.test(engineOf(job));
}

/** The engine's name, without the options behind a colon. */
export function engineOf(job: FioJob): string {
  return (job.text("ioengine") ?? DEFAULT_ENGINE).split(":")[0]!;
}

function directionOf(job: FioJob): {
  type: string;
  mix: Record<Operation, number>;
  random: boolean;
  suffix: string;
} {
  const [type = "", suffix = ""] = (job.text("rw") ?? "read").split(":");
  const direction = Object.hasOwn(DIRECTIONS, type.trim()) ? DIRECTIONS[type.trim()] : undefined;
  if (!direction) throw new WorkloadError(`[${job.name}]: rw=${type} is not understood`);
  const none = { read: 0, write: 0, zero: 0, discard: 0, flush: 0 };
  if (direction.mix !== "both")
    return { type, mix: { ...none, [direction.mix]: 1 }, random: direction.random, suffix };
  const write = job.percentage("rwmixwrite");
  const read = write === undefined ? (job.percentage("rwmixread") ?? 50) : 100 - write;
  if (read < 0 || read > 100) throw new WorkloadError(`[${job.name}]: rwmixread is no percentage`);
  return { type, mix: { ...none, read, write: 100 - read }, random: direction.random, suffix };
}

function sizesOf(job: FioJob): WorkerPlan["sizes"] {
  const base = job.kbBase;
  const three = (make: (text: string) => Sizes) => (text: string) =>
    threeOf(text).map((part) => part && make(part));
  const splits = job.read(
    "bssplit",
    three((text) => ({ kind: "split", parts: fioSplit(text, base) })),
  );
  const ranges = job.read(
    "bsrange",
    three((text) => rangeOf(text, base)),
  );
  const plain = job.read(
    "bs",
    three((text) => oneSize(fioNumber(text, base))),
  );
  const at = (i: number): Sizes => splits?.[i] || ranges?.[i] || plain?.[i] || oneSize(4096);
  const sizes = { read: at(0), write: at(1), other: at(2) };
  for (const each of Object.values(sizes))
    if (extremes(each).min <= 0) throw new WorkloadError(`[${job.name}]: a request of 0 bytes`);
  return sizes;
}

function rangeOf(text: string, base: 1024 | 1000): Sizes {
  const [from = "", to = from] = text.split(/[-:]/);
  const [min, max] = [fioNumber(from, base), fioNumber(to, base)];
  if (min > max) throw new WorkloadError(`'${text}' is an empty range`);
  return min === max ? oneSize(min) : { kind: "range", min, max, step: min };
}

function spreadOf(job: FioJob, mixed: boolean): Spread {
  const text = job.text("random_distribution") ?? "random";
  const [kind = "", first = ""] = text.split(/:(.*)/s);
  const number = (fallback: number): number => (first === "" ? fallback : Number(first.split(",")[0]));
  if (kind === "zipf") return { kind: "zipf", theta: number(1.1) };
  if (kind === "pareto") return { kind: "pareto", h: number(0.2) };
  if (kind === "normal" || kind === "gauss") return { kind: "normal", deviationPercent: number(10) };
  if (kind === "zoned") return { kind: "hot", spots: zonesOf(first, job) };
  if (kind !== "random")
    throw new WorkloadError(`[${job.name}]: random_distribution=${text} is not understood`);
  return job.bool("norandommap") || mixed ? { kind: "uniform" } : { kind: "once" };
}

/** `percent of accesses/percent of the disk`, the last with the rest; for reads, and so for all. */
function zonesOf(text: string, job: FioJob): { accesses: number; of: number }[] {
  const parts = (text.split(",")[0] ?? "").split(":").map((part) => part.split("/"));
  const of = parts.reduce((sum, [, share]) => sum + (share ? Number(share) : 0), 0);
  const spots = parts.map(([accesses, share]) => ({
    accesses: Number(accesses),
    of: share ? Number(share) : 100 - of,
  }));
  if (spots.some((spot) => !Number.isFinite(spot.accesses) || !Number.isFinite(spot.of)))
    throw new WorkloadError(`[${job.name}]: random_distribution=zoned:${text} is not understood`);
  return spots;
}

function localityOf(job: FioJob, mixed: boolean): Locality {
  const { random, suffix } = directionOf(job);
  const plain = { spread: { kind: "uniform" }, run: 1, skip: 0 } as const;
  if (!random) return { ...plain, randomPercent: 0, skip: suffix === "" ? 0 : signed(suffix, job) };
  const share = job.read("percentage_random", (text) => Number(text.split(",")[0])) ?? 100;
  const run = suffix === "" ? 1 : Math.max(1, signed(suffix, job));
  return { ...plain, randomPercent: share, spread: spreadOf(job, mixed), run };
}

function signed(text: string, job: FioJob): number {
  const isNegative = text.startsWith("-");
  const value = fioNumber(isNegative ? text.slice(1) : text, job.kbBase);
  return isNegative ? -value : value;
}

/** `size` and `offset`: bytes, or a percentage of the disk. */
function regionOf(job: FioJob, copy: number): Region {
  const size = job.text("size") ?? job.text("filesize")?.split("-").at(-1);
  const step = (job.number("offset_increment") ?? 0) * copy;
  const offset = job.text("offset");
  const start = offset?.endsWith("%")
    ? { offset: step, offsetPercent: job.decimal("offset")! }
    : { offset: (job.number("offset") ?? 0) + step };
  if (size === undefined || size === "") return start;
  if (size.endsWith("%")) return { ...start, percent: Number(size.slice(0, -1)) };
  const name = job.has("size") ? "size" : "filesize";
  return { ...start, bytes: job.read(name, () => fioNumber(size, job.kbBase))! };
}

function untilOf(job: FioJob): Until {
  const durationNs = job.time("runtime", "s");
  const requests = job.number("number_ios");
  const ends = {
    ...(requests === undefined ? {} : { requests }),
    ...(durationNs === undefined || durationNs === 0 ? {} : { durationNs }),
  };
  if (job.bool("time_based") && durationNs !== undefined) return ends;
  const loops = job.number("loops") ?? 1;
  const limit = job.text("io_size");
  if (limit?.endsWith("%")) return { ...ends, passes: (loops * Number(limit.slice(0, -1))) / 100 };
  const bytes = job.number("io_size");
  return bytes === undefined ? { ...ends, passes: loops } : { ...ends, bytes: bytes * loops };
}

/** One pace for all directions: where each has a rate of its own, their sum, at the mix that rw says. */
function paceOf(job: FioJob, mix: Record<Operation, number>): Pace {
  const active = [mix.read > 0, mix.write > 0, mix.discard > 0];
  const sum = (text: string): number =>
    threeOf(text).reduce(
      (total, part, i) => total + (active[i] && part ? fioNumber(part, job.kbBase) : 0),
      0,
    );
  const kind = job.text("rate_process") === "poisson" ? "poisson" : "fixed";
  const requests = job.read("rate_iops", sum);
  if (requests !== undefined && requests > 0) return { kind, perSecond: requests, unit: "requests" };
  const bytes = job.read("rate", sum);
  if (bytes === undefined || bytes <= 0) return { kind: "closed" };
  if (kind === "fixed") return { kind, perSecond: bytes, unit: "bytes" };
  // A Poisson process is of requests: as many as make up the bytes.
  return { kind, perSecond: bytes / meanSize(job), unit: "requests" };
}

function meanSize(job: FioJob): number {
  const { min, max } = extremes(sizesOf(job).read);
  return (min + max) / 2;
}

function dataOf(job: FioJob): DataShape {
  const zero = job.bool("zero_buffers") ? 100 : 0;
  return {
    compressPercent: job.percentage("buffer_compress_percentage") ?? 0,
    duplicatePercent: zero > 0 ? 0 : (job.percentage("dedupe_percentage") ?? 0),
    zeroPercent: zero,
    blockBytes: 4096,
    pool: 64,
  };
}

function errorsOf(job: FioJob): Pick<WorkerPlan, "onError" | "expected"> {
  const policy = job.text("continue_on_error") ?? "none";
  const names = (job.text("ignore_error") ?? "").split(/[,:]/).map((name) => name.trim());
  const expected: Errno[] = names.filter((name): name is Errno => isErrno(name));
  const stops = policy === "none" || policy === "0";
  return { onError: stops ? "stop" : "continue", expected };
}

function syncPercent(job: FioJob): number {
  const sync = job.text("sync");
  return job.has("sync") && !/^(0|none)$/.test(sync ?? "1") ? 100 : 0;
}

/** The file that a copy of a job works on; undefined: one of its own. */
function fileOf(job: FioJob): string | undefined {
  const name = job.text("filename");
  const directory = job.text("directory");
  if (name === undefined || name === "") return undefined;
  return directory && !name.startsWith("/") ? `${directory}/${name}` : name;
}

/** Whether the job's files are files of the system. */
export function isOfFiles(job: FioJob): boolean {
  return OF_FILES.has(engineOf(job));
}

/** One of a job's copies. Throws WorkloadError. */
export function workerOf(job: FioJob, copy: number): FioWorker {
  const { mix, type } = directionOf(job);
  const sizes = sizesOf(job);
  const all = Object.values(sizes).map((each) => extremes(each));
  const smallest = Math.min(...all.map(({ min }) => min));
  const mixed = all.some(({ min, max }) => min !== max) || new Set(all.map(({ min }) => min)).size > 1;
  const flushEvery = job.number("fsync") || job.number("fdatasync") || 0;
  return {
    file: fileOf(job),
    startDelayNs: job.read("startdelay", (text) => text.split("-")[0]!) ? startDelay(job) : 0,
    mix,
    rewrites: type.endsWith("trimwrite"),
    fuaPercent: syncPercent(job),
    flushEvery,
    flushAtEnd: job.bool("end_fsync"),
    sizes,
    align: job.read("blockalign", (text) => fioNumber(threeOf(text)[0] ?? "0", job.kbBase)) || smallest,
    locality: localityOf(job, mixed),
    region: regionOf(job, copy),
    depth: depthOf(job),
    pace: paceOf(job, mix),
    think: { ns: job.time("thinktime", "us") ?? 0, every: Math.max(1, job.number("thinktime_blocks") ?? 1) },
    until: untilOf(job),
    warmupNs: job.time("ramp_time", "s") ?? 0,
    data: dataOf(job),
    ...errorsOf(job),
    endsAll: job.bool("exitall"),
  };
}

function depthOf(job: FioJob): number {
  const depth = job.count("iodepth") ?? 1;
  return SYNCHRONOUS.has(engineOf(job)) ? 1 : Math.floor(depth);
}

/** The least of a range of delays. */
function startDelay(job: FioJob): number {
  const text = job.text("startdelay")!;
  return text.includes("-") ? fioSeconds(text.split("-")[0]!) : job.time("startdelay", "s")!;
}

function fioSeconds(text: string): number {
  const seconds = Number(text);
  if (!Number.isFinite(seconds)) throw new WorkloadError(`startdelay=${text} is no time`);
  return Math.round(seconds * 1e9);
}
