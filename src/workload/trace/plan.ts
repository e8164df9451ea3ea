/**
 * A recording as a plan of one worker. It is read twice, and never held: once for what it needs of a disk, once when it is sent.
 */
import {
  type Ignored,
  type Plan,
  type TraceEntry,
  WorkloadError,
  type WorkerPlan,
  oneSize,
} from "../model/plan.ts";
import { isBlkparseLine, readBlkparse } from "./blkparse.ts";
import { isIologHead, readIolog } from "./iolog.ts";
import { isLogOfWrites, readLogOfWrites } from "./log-writes.ts";
import type { Recorded } from "./recorded.ts";
import { type RecordingBytes, firstBytes } from "./source.ts";

/** How a recording is replayed. */
export interface ReplayOptions {
  /** Times are divided by it: 2 is twice as fast; 0: as fast as it goes. Default 1. */
  readonly speed?: number;
  /** Requests under way at once; default 256. */
  readonly depth?: number;
}

/** Bytes that tell what a file is. */
const FIRST = 4096;
/** Most lines that are named as not understood. */
const MOST_IGNORED = 100;
/** Files of one recording are parts of one disk, at multiples of it. */
const PART = 2 ** 20;

type Reader = (source: RecordingBytes, other: (action: string, where: string) => void) => Iterable<Recorded>;

/** What reads a recording; undefined: it is none. */
function readerOf(source: RecordingBytes): Reader | undefined {
  const first = firstBytes(source, FIRST);
  if (isLogOfWrites(first)) return readLogOfWrites;
  const [line = ""] = new TextDecoder()
    .decode(first)
    .replace(/^\uFEFF/, "")
    .split("\n", 1);
  if (isIologHead(line.trimEnd())) return readIolog;
  return isBlkparseLine(line) ? readBlkparse : undefined;
}

/** Whether it is a recording. */
export function isRecording(source: RecordingBytes): boolean {
  return readerOf(source) !== undefined;
}

/** What one reading through has found. */
interface Survey {
  readonly mix: Record<TraceEntry["operation"], number>;
  readonly ignored: Ignored[];
  /** How long each file must be, bytes. */
  readonly lengths: Map<string, number>;
  firstNs: number | undefined;
  /** There are times in it, and not one only. */
  isTimed: boolean;
}

function surveyed(source: RecordingBytes, reader: Reader): Survey {
  const survey: Survey = {
    mix: { read: 0, write: 0, zero: 0, discard: 0, flush: 0 },
    ignored: [],
    lengths: new Map(),
    firstNs: undefined,
    isTimed: false,
  };
  const { mix, ignored, lengths } = survey;
  const other = (name: string, where: string): void => {
    if (ignored.length < MOST_IGNORED) ignored.push({ name, where, reason: "no request" });
  };
  for (const { operation, file, offset, bytes, atNs } of reader(source, other)) {
    mix[operation] += 1;
    lengths.set(file, Math.max(lengths.get(file) ?? 0, offset + bytes));
    survey.firstNs ??= atNs;
    survey.isTimed ||= atNs !== survey.firstNs;
  }
  return survey;
}

/** Where each file begins, and where the last one ends. */
function layout(lengths: ReadonlyMap<string, number>): { starts: Map<string, number>; end: number } {
  const starts = new Map<string, number>();
  let [at, end] = [0, 0];
  for (const [file, length] of lengths) {
    starts.set(file, at);
    end = at + length;
    at += Math.ceil(length / PART) * PART;
  }
  return { starts, end };
}

/** A recording as a plan of one worker. Throws WorkloadError. */
export function planOfRecording(source: RecordingBytes, name: string, options: ReplayOptions = {}): Plan {
  const { speed = 1, depth = 256 } = options;
  if (!(speed >= 0)) throw new WorkloadError(`the speed ${speed} is out of range`);
  const reader = readerOf(source);
  if (!reader) throw new WorkloadError("the recording is neither fio's, blkparse's nor a log of writes");
  const { mix, ignored, lengths, firstNs = 0, isTimed } = surveyed(source, reader);
  if (lengths.size === 0) throw new WorkloadError("the recording has no request");
  const { starts, end } = layout(lengths);
  const trace = function* (): Generator<TraceEntry> {
    for (const { file, ...entry } of reader(source, () => undefined)) {
      const { atNs, offset, operation } = entry;
      yield {
        ...entry,
        offset: operation === "flush" ? 0 : offset + starts.get(file)!,
        atNs:
          isTimed && speed > 0 && atNs !== undefined
            ? Math.round(Math.max(0, atNs - firstNs) / speed)
            : undefined,
      };
    }
  };
  return { name, format: "fio", workers: [workerOf(trace, { mix, depth, end })], ignored, wishes: {} };
}

function workerOf(
  trace: () => Iterable<TraceEntry>,
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
