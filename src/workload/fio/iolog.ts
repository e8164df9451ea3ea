/**
 * Recordings of requests: fio's iolog, versions 2 and 3, and the text of blkparse; and writing version 3. Source: fio's HOWTO,
 * "Trace file format"; blkparse(1), default output.
 */
import {
  type Ignored,
  type Operation,
  type Plan,
  type TraceEntry,
  WorkloadError,
  type WorkerPlan,
  oneSize,
} from "../model/plan.ts";

const HEAD = /^fio version ([23]) iolog\s*$/;
/** `8,0 3 1 0.000000000 697 Q WS 223490 + 8 [program]`. */
const BLKPARSE = /^\s*\d+,\d+\s+\d+\s+\d+\s+(\d+)\.(\d{9})\s+\d+\s+([A-Z])\s+([A-Z]+)\s+(\d+)\s+\+\s+(\d+)/;
const BLKPARSE_LINE = /^\s*\d+,\d+\s+\d+\s+\d+\s+\d+\.\d{9}\s/;

const ACTIONS: Readonly<Record<string, Operation>> = {
  read: "read",
  write: "write",
  trim: "discard",
  sync: "flush",
  datasync: "flush",
};

/** How a recording is replayed. */
export interface ReplayOptions {
  /** Times are divided by it: 2 is twice as fast; 0: as fast as it goes. Default 1. */
  readonly speed?: number;
  /** Requests under way at once; default 256. */
  readonly depth?: number;
}

/** Whether a text is a recording. */
export function isRecording(text: string): boolean {
  const [first = ""] = text.split("\n", 1);
  return HEAD.test(first) || BLKPARSE_LINE.test(first);
}

interface Recorded {
  readonly entries: TraceEntry[];
  readonly ignored: Ignored[];
}

function iologLine(
  words: readonly string[],
  where: string,
  isTimed: boolean,
): TraceEntry | "wait" | undefined {
  const [time, _file, action = "", offset = "0", bytes = "0"] = isTimed ? words : ["", ...words];
  if (action === "wait") return "wait";
  const operation = Object.hasOwn(ACTIONS, action) ? ACTIONS[action] : undefined;
  if (!operation) return undefined;
  const entry = { operation, offset: Number(offset), bytes: Number(bytes) };
  if (![entry.offset, entry.bytes].every((value) => Number.isSafeInteger(value) && value >= 0))
    throw new WorkloadError(`${where}: '${words.join(" ")}' is no request`);
  return { ...entry, atNs: isTimed ? Number(time) * 1e6 : undefined };
}

/** Version 2 has waits (µs) between requests, version 3 a time (ms) before each. */
function readIolog(lines: readonly string[], version: string): Recorded {
  const recorded: Recorded = { entries: [], ignored: [] };
  const hasWaits = version === "2" && lines.some((line) => /\swait\s/.test(line));
  let waitedNs = 0;
  for (const [i, line] of lines.entries()) {
    const words = line.trim().split(/\s+/);
    if (i === 0 || words[0] === "") continue;
    const where = `line ${i + 1}`;
    const entry = iologLine(words, where, version === "3");
    if (entry === "wait") waitedNs += Number(words[2] ?? 0) * 1e3;
    else if (!entry) {
      const action = words[version === "3" ? 2 : 1] ?? "";
      if (!["add", "open", "close"].includes(action))
        recorded.ignored.push({ name: action, where, reason: "no request" });
    } else recorded.entries.push(hasWaits ? { ...entry, atNs: waitedNs } : entry);
  }
  return recorded;
}

/** Queued requests of blkparse's text; all other events tell of the same ones again. */
function readBlkparse(lines: readonly string[]): Recorded {
  const recorded: Recorded = { entries: [], ignored: [] };
  for (const line of lines) {
    const match = BLKPARSE.exec(line);
    if (!match || match[3] !== "Q") continue;
    const [, seconds, nanoseconds, , flags = "", sector, sectors] = match;
    const operation = flags.includes("D") ? "discard" : flags.includes("W") ? "write" : "read";
    recorded.entries.push({
      operation,
      offset: Number(sector) * 512,
      bytes: Number(sectors) * 512,
      atNs: Number(seconds) * 1e9 + Number(nanoseconds),
    });
  }
  return recorded;
}

function paced(entries: readonly TraceEntry[], speed: number): TraceEntry[] {
  const first = entries.find(({ atNs }) => atNs !== undefined)?.atNs ?? 0;
  return entries.map((entry) => ({
    ...entry,
    atNs:
      speed === 0 || entry.atNs === undefined
        ? undefined
        : Math.round(Math.max(0, entry.atNs - first) / speed),
  }));
}

/** A recording as a plan of one worker. Throws WorkloadError. */
export function planOfRecording(text: string, name: string, options: ReplayOptions = {}): Plan {
  const { speed = 1, depth = 256 } = options;
  if (!(speed >= 0)) throw new WorkloadError(`the speed ${speed} is out of range`);
  const lines = text.split(/\r?\n/);
  const version = HEAD.exec(lines[0] ?? "")?.[1];
  const { entries, ignored } = version === undefined ? readBlkparse(lines) : readIolog(lines, version);
  if (entries.length === 0) throw new WorkloadError("the recording has no request");
  const end = entries.reduce((most, { offset, bytes }) => Math.max(most, offset + bytes), 0);
  const mix = { read: 0, write: 0, zero: 0, discard: 0, flush: 0 };
  for (const { operation } of entries) mix[operation] += 1;
  return {
    name,
    format: "fio",
    workers: [workerOf(paced(entries, speed), { mix, depth, end })],
    ignored,
    wishes: {},
  };
}

function workerOf(
  trace: readonly TraceEntry[],
  { mix, depth, end }: { mix: WorkerPlan["mix"]; depth: number; end: number },
): WorkerPlan {
  const size = oneSize(512);
  return {
    name: "replay",
    after: [],
    startDelayNs: 0,
    mix,
    rewrites: false,
    fuaPercent: 0,
    flushEvery: 0,
    flushAtEnd: false,
    sizes: { read: size, write: size, other: size },
    align: 1,
    locality: { randomPercent: 0, spread: { kind: "uniform" }, run: 1, skip: 0 },
    region: { offset: 0, bytes: end },
    depth,
    pace: { kind: "closed" },
    think: { ns: 0, every: 1 },
    until: {},
    warmupNs: 0,
    data: { compressPercent: 0, duplicatePercent: 0, zeroPercent: 0, blockBytes: 4096, pool: 64 },
    onError: "stop",
    expected: [],
    endsAll: false,
    trace,
  };
}

/** A writer of iolog version 3: the lines of a recording. Times are whole milliseconds, as fio reads them. */
export class Recorder {
  readonly #lines: string[] = ["fio version 3 iolog", "0 disk add", "0 disk open"];

  /** A request was sent, ns from the begin on. A zeroed range is written as a write, which iologs have. */
  readonly record = (
    request: { operation: Operation; offset: number; bytes: number },
    atNs: number,
  ): void => {
    const { operation, offset, bytes } = request;
    const at = Math.round(atNs / 1e6);
    const action = { read: "read", write: "write", zero: "write", discard: "trim", flush: "sync" }[operation];
    this.#lines.push(`${at} disk ${action} ${offset} ${bytes}`);
  };

  /** The recording. */
  get text(): string {
    return `${[...this.#lines, "0 disk close"].join("\n")}\n`;
  }
}
