/** A job of a fio file as workers: what each of the options that we have means here. Source: fio's HOWTO. */
import { type Errno, errnoFromNumber, isErrno } from "../../base/errno.ts";
import {
  type DataShape,
  type Locality,
  type Operation,
  type Region,
  type Sizes,
  type Until,
  WorkloadError,
  type WorkerPlan,
  extremes,
  oneSize,
} from "../model/plan.ts";
import type { FioJob } from "./job.ts";
import { paced } from "./pace.ts";
import { type Partly, partlyOf } from "./partly.ts";
import { spreadOf } from "./spread.ts";
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
export type FioWorker = Omit<WorkerPlan, "after" | "name"> & {
  readonly file: string | undefined;
  readonly partly: readonly Partly[];
};

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

function localityOf(job: FioJob): Locality {
  const { random, suffix } = directionOf(job);
  const plain = { spread: { kind: "uniform" }, run: 1, skip: 0 } as const;
  if (!random) return { ...plain, randomPercent: 0, skip: suffix === "" ? 0 : signed(suffix, job) };
  const share = job.percentage("percentage_random", (text) => text.split(",")[0]!) ?? 100;
  const run = suffix === "" ? 1 : Math.max(1, signed(suffix, job));
  return { ...plain, randomPercent: share, spread: spreadOf(job), run };
}

function signed(text: string, job: FioJob): number {
  const isNegative = text.startsWith("-");
  const value = fioNumber(isNegative ? text.slice(1) : text, job.kbBase);
  return isNegative ? -value : value;
}

/** Bytes, or a percentage of the disk. */
function placeOf(job: FioJob, name: "offset" | "offset_increment"): { bytes: number; percent: number } {
  if (job.text(name)?.endsWith("%")) return { bytes: 0, percent: job.decimal(name)! };
  return { bytes: job.number(name) ?? 0, percent: 0 };
}

/** `size` and `offset`: bytes, or a percentage of the disk. */
function regionOf(job: FioJob, copy: number): Region {
  const size = job.text("size") ?? job.text("filesize")?.split("-").at(-1);
  const [first, step] = [placeOf(job, "offset"), placeOf(job, "offset_increment")];
  const offsetPercent = first.percent + step.percent * copy;
  const start = {
    offset: first.bytes + step.bytes * copy,
    ...(offsetPercent === 0 ? {} : { offsetPercent }),
  };
  if (size === undefined || size === "") return start;
  if (size.endsWith("%")) return { ...start, percent: Number(size.slice(0, -1)) };
  const name = job.has("size") ? "size" : "filesize";
  return { ...start, bytes: job.read(name, () => fioNumber(size, job.kbBase))! };
}

/** `each`: requests that fio counts as one, and whose sizes it counts by themselves: a trim and the write that follows. */
function untilOf(job: FioJob, each: 1 | 2): Until {
  const runtimeNs = job.time("runtime", "s");
  // The runtime begins when the ramp is over.
  const durationNs = runtimeNs && runtimeNs + (job.time("ramp_time", "s") ?? 0);
  const requests = job.number("number_ios");
  const ends = {
    ...(requests === undefined ? {} : { requests: requests * each }),
    ...(durationNs === undefined || durationNs === 0 ? {} : { durationNs }),
  };
  if (job.bool("time_based") && durationNs !== undefined) return ends;
  const loops = (job.number("loops") ?? 1) * each;
  const limit = job.text("io_size");
  if (limit?.endsWith("%")) return { ...ends, passes: (loops * Number(limit.slice(0, -1))) / 100 };
  const bytes = job.number("io_size");
  return bytes === undefined ? { ...ends, passes: loops } : { ...ends, bytes: bytes * loops };
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
  const expected = job.read("ignore_error", (text) => text.split(/[,:]/).flatMap(ignoredError)) ?? [];
  const stops = policy === "none" || policy === "0" || policy === "verify";
  return { onError: stops ? "stop" : "continue", expected };
}

/** An error by its name or number, as fio has it. Throws WorkloadError. */
function ignoredError(text: string): Errno[] {
  const name = text.trim();
  if (name === "") return [];
  if (/^\d+$/.test(name)) return [errnoFromNumber(Number(name))];
  if (isErrno(name)) return [name];
  throw new WorkloadError(`Unknown error ${name}`);
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

/** What offsets are multiples of, by operation: its smallest size where nothing is said. */
function alignsOf(job: FioJob, sizes: WorkerPlan["sizes"]): NonNullable<WorkerPlan["aligns"]> {
  const given = job.read("blockalign", (text) =>
    threeOf(text).map((part) => (part === undefined ? 0 : fioNumber(part, job.kbBase))),
  );
  const align = (i: number, each: Sizes): number => given?.[i] || extremes(each).min;
  return { read: align(0, sizes.read), write: align(1, sizes.write), other: align(2, sizes.other) };
}

/** One of a job's copies. Throws WorkloadError. */
export function workerOf(job: FioJob, copy: number): FioWorker {
  const direction = directionOf(job);
  const rewrites = direction.type.endsWith("trimwrite");
  const sizes = sizesOf(job);
  const { mix, pace, follows } = paced(job, { mix: direction.mix, rewrites, sizes });
  const aligns = alignsOf(job, sizes);
  return {
    file: fileOf(job),
    partly: partlyOf(job, { follows, isSynchronous: isSynchronous(job) }),
    startDelayNs: job.read("startdelay", (text) => text.split("-")[0]!) ? startDelay(job) : 0,
    mix,
    rewrites,
    fuaPercent: syncPercent(job),
    flushEvery: job.number("fsync") || job.number("fdatasync") || 0,
    flushAtEnd: job.bool("end_fsync"),
    sizes,
    align: Math.min(...Object.values(aligns)),
    aligns,
    locality: localityOf(job),
    region: regionOf(job, copy),
    depth: depthOf(job),
    pace,
    think: { ns: job.time("thinktime", "us") ?? 0, every: Math.max(1, job.number("thinktime_blocks") ?? 1) },
    until: untilOf(job, rewrites ? 2 : 1),
    warmupNs: job.time("ramp_time", "s") ?? 0,
    data: dataOf(job),
    ...errorsOf(job),
    endsAll: job.bool("exitall"),
  };
}

function depthOf(job: FioJob): number {
  const depth = job.count("iodepth") ?? 1;
  return isSynchronous(job) ? 1 : Math.floor(depth);
}

function isSynchronous(job: FioJob): boolean {
  return SYNCHRONOUS.has(engineOf(job));
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
