/**
 * Copies from file to file, or compares two, for whole disks, by two threads: a range is cut into pieces, and this thread and
 * another each take the next, read it, look at it and write it while it is still in their processor's cache. Nothing is handed over
 * for a piece. The other thread is one for a process: begun when it is first needed, ended when nothing was asked for IDLE_MS.
 *
 * Invariants: a piece is taken once; what is told as done is; of what failed, or was left since the thread ended, nothing is told
 * but that it is not done: its owner does it again, and so finds out why. The event loop turns every TURN_MS, and whenever a range
 * is done; the process is held only while ranges are under way.
 */
import type { Worker } from "node:worker_threads";
import { assert } from "../../base/assert.ts";
import type { FileStreams } from "../../base/ranges.ts";
import { monotonicMs } from "./clock.ts";
import { DECODERS, decoderParts, OWN_BYTES, SLACK } from "./decoders.ts";
import { NativeGate } from "./native-gate.ts";
import { loadKoffi } from "./native.ts";

/** A range of each of two files: descriptors, and where it begins, bytes. */
interface TwoRanges {
  readonly a: number;
  readonly b: number;
  readonly atA: number;
  readonly atB: number;
  readonly bytes: number;
}

/** Copies the range of `a`, or what its streams give, to that of `b`. */
export interface FileCopy extends TwoRanges {
  readonly verb: "copy" | "expand";
  /** Of `expand`: what the range is made of; `atA` is nothing then. */
  readonly streams?: FileStreams | undefined;
  /** Parts of so many bytes that hold zeroes only are looked for; a multiple of 4 that divides PIECE. 0: none are. */
  readonly granule: number;
  /** They are left unwritten, but where so many bytes are zeroes the copy stops; see FileZeroes. */
  readonly unit: number;
}

/** Compares the two ranges; stops at a piece in which they differ. */
export interface FileComparison extends TwoRanges {
  readonly verb: "compare";
}

/** Bytes that are read at once. */
export const PIECE = 2 ** 19;
/** How long this thread works before the event loop turns, ms. */
const TURN_MS = 4;
const IDLE_MS = 5000;

/** What has become of a piece. */
const State = { free: 0, done: 1, left: 2, taken: 3 } as const;

/** Where a thread has its piece, and streams, in its memory: those of a piece, in sectors, take up to twice its bytes. */
const AREA = OWN_BYTES;
const STREAMS = AREA + PIECE + OWN_BYTES;
const STREAMS_BYTES = 2 * PIECE;
const MEMORY_PAGES = Math.ceil((STREAMS + STREAMS_BYTES + SLACK) / 65536);

/** What both threads run: gives a function that does a piece of a job from byte `at` on, and answers whether it is done. */
const WORK = `(fs, decodersOf) => {
  const memory = new WebAssembly.Memory({ initial: ${MEMORY_PAGES}, maximum: ${MEMORY_PAGES}, shared: true });
  const area = new Uint8Array(memory.buffer, ${AREA}, ${PIECE});
  const words = new Uint32Array(memory.buffer, ${AREA}, ${PIECE / 4});
  const packed = new Uint8Array(memory.buffer, ${STREAMS}, ${STREAMS_BYTES});
  const zeroes = Buffer.alloc(${PIECE});
  let other;
  let decoders;
  const isZero = (at, end) => words[at >> 2] === 0 && zeroes.compare(area, at, end, 0, end - at) === 0;
  const fills = (fd, into, bytes, position) => fs.readSync(fd, into, 0, bytes, position) === bytes;
  const write = (fd, from, end, position) => {
    while (from < end) {
      const count = fs.writeSync(fd, area, from, end - from, position + from);
      if (count === 0) return false;
      from += count;
    }
    return true;
  };
  const hasUnit = (from, end, most) => {
    const unit = Math.min(most, ${PIECE});
    return unit === 0 || Math.ceil(from / unit) * unit + unit <= end;
  };
  const put = ({ b, atB, granule, unit, bytes: all }, at, bytes) => {
    const isLast = unit > 0 && unit < Infinity && at + bytes === all;
    const last = isLast ? bytes - granule : bytes;
    let from = 0;
    for (let next = 0; granule > 0 && next < last; ) {
      let end = next;
      while (end < last && isZero(end, Math.min(end + granule, bytes))) end += granule;
      if (end > next) {
        if (unit < Infinity && hasUnit(at + next, at + Math.min(end, bytes), unit)) return false;
        if (!write(b, from, next, atB + at)) return false;
        from = Math.min(end, bytes);
      }
      next = end + granule;
    }
    return write(b, from, bytes, atB + at);
  };
  const copy = (job, at, bytes) => fills(job.a, area, bytes, job.atA + at) && put(job, at, bytes);
  // What lies behind the end of a file reads as zeroes.
  const load = (fd, into, bytes, position) => {
    const count = fs.readSync(fd, packed, into, bytes, position);
    packed.fill(0, into + count, into + bytes);
  };
  const expand = (job, at, bytes) => {
    const { format, unit, places } = job.streams;
    const decode = (decoders ??= decodersOf(memory))[format];
    if (!decode) return false;
    const first = at / unit;
    const end = Math.ceil((at + bytes) / unit);
    let low = Infinity;
    let high = 0;
    for (let index = first; index < end; index++) {
      low = Math.min(low, places[2 * index]);
      high = Math.max(high, places[2 * index] + places[2 * index + 1]);
    }
    const isRun = high - low <= ${STREAMS_BYTES};
    if (isRun) load(job.a, 0, high - low, low);
    for (let index = first; index < end; index++) {
      const [offset, count] = [places[2 * index], places[2 * index + 1]];
      if (!isRun) load(job.a, 0, count, offset);
      const from = ${STREAMS} + (isRun ? offset - low : 0);
      if (decode(from, count, ${AREA} + (index - first) * unit, unit) !== unit) return false;
    }
    return put(job, at, bytes);
  };
  const compare = ({ a, b, atA, atB }, at, bytes) => {
    other ??= Buffer.alloc(${PIECE});
    if (!fills(a, area, bytes, atA + at) || !fills(b, other, bytes, atB + at)) return false;
    return other.compare(area, 0, bytes, 0, bytes) === 0;
  };
  const verbs = { copy, expand, compare };
  return (job, at, bytes) => {
    try {
      return verbs[job.verb](job, at, bytes);
    } catch {
      return false;
    }
  };
}`;

/** Takes the next piece of a job and does it; false: none is free. */
const STEP = `(work) => (job, pieces) => {
  for (let index = 0; index < pieces.length; index++) {
    if (Atomics.compareExchange(pieces, index, ${State.free}, ${State.taken}) !== ${State.free}) continue;
    const at = index * ${PIECE};
    const isDone = work(job, at, Math.min(${PIECE}, job.bytes - at));
    // Nobody goes on behind it.
    if (!isDone)
      for (let next = index + 1; next < pieces.length; next++)
        Atomics.compareExchange(pieces, next, ${State.free}, ${State.left});
    Atomics.store(pieces, index, isDone ? ${State.done} : ${State.left});
    return true;
  }
  return false;
}`;

const PROGRAM = `
const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
const decodersOf = (memory) => (${DECODERS})(memory, workerData);
const step = (${STEP})((${WORK})(process.getBuiltinModule("node:fs"), decodersOf));
parentPort.on("message", ({ job, pieces }) => {
  while (step(job, pieces));
  parentPort.postMessage(undefined);
});
`;

type Step = (job: FileCopy | FileComparison, pieces: Int32Array) => boolean;

interface Range {
  readonly job: FileCopy | FileComparison;
  /** The state of each piece. */
  readonly pieces: Int32Array<SharedArrayBuffer>;
  readonly resolve: (count: number) => void;
}

/** What this thread runs. */
function ownStep(): Step {
  const { runInThisContext } = process.getBuiltinModule("node:vm");
  const made = (source: string): ((...given: unknown[]) => unknown) =>
    runInThisContext(`(${source})`) as (...given: unknown[]) => unknown;
  const { addon, koffi } = loadKoffi();
  const decodersOf = (memory: WebAssembly.Memory): unknown =>
    made(DECODERS)(memory, decoderParts(addon), koffi);
  return made(STEP)(made(WORK)(process.getBuiltinModule("node:fs"), decodersOf)) as Step;
}

/** The ranges that are under way, the oldest first, and the two threads that work at them. */
class FileThreads {
  readonly #step: Step;
  readonly #gate = new NativeGate();
  readonly #ranges: Range[] = [];
  readonly #ended: (isBroken: boolean) => void;
  #worker: Worker | undefined;
  #idle: NodeJS.Timeout | undefined;
  #isDue = false;
  #isEnding = false;

  /** `ended` is told once, whether the thread ended by itself. Throws where there are no threads. */
  constructor(ended: (isBroken: boolean) => void) {
    const { Worker: Thread } = process.getBuiltinModule("node:worker_threads");
    this.#step = ownStep();
    this.#ended = ended;
    const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 32 };
    // With streams of its own, which say nothing: Node would end ours with the thread, where a stand-in was asked (late-output.ts).
    const streams = { stdout: true, stderr: true };
    const how = { eval: true, execArgv: [], trackUnmanagedFds: false, resourceLimits, ...streams };
    this.#worker = new Thread(PROGRAM, { ...how, workerData: decoderParts(loadKoffi().addon, this.#gate) });
    this.#worker.unref();
    this.#worker.on("message", () => this.#settle());
    this.#worker.on("error", () => undefined);
    this.#worker.once("exit", () => this.#left());
  }

  run(job: FileCopy | FileComparison): Promise<number> {
    clearTimeout(this.#idle);
    const count = Math.ceil(job.bytes / PIECE);
    const pieces = new Int32Array(new SharedArrayBuffer(count * Int32Array.BYTES_PER_ELEMENT));
    this.#worker?.ref();
    this.#worker?.postMessage({ job, pieces });
    this.#workSoon();
    return new Promise((resolve) => this.#ranges.push({ job, pieces, resolve }));
  }

  #workSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    setImmediate(() => {
      this.#isDue = false;
      this.#work();
    });
  }

  /** Does pieces until the event loop has to turn, or somebody waits for what is done. */
  #work(): void {
    const until = monotonicMs() + TURN_MS;
    for (const { job, pieces } of this.#ranges)
      while (this.#step(job, pieces)) if (this.#settle() || monotonicMs() >= until) return this.#workSoon();
  }

  /** Ends the ranges whose pieces all have; whether there were any. */
  #settle(): boolean {
    const before = this.#ranges.length;
    for (let index = 0; index < this.#ranges.length;) {
      const { job, pieces, resolve } = this.#ranges[index]!;
      const count = bytesDone(job, pieces);
      if (count === undefined) index += 1;
      else {
        this.#ranges.splice(index, 1);
        resolve(count);
      }
    }
    if (this.#ranges.length === 0 && before > 0) this.#rest();
    return this.#ranges.length < before;
  }

  #rest(): void {
    this.#worker?.unref();
    this.#idle = setTimeout(() => this.#end(), IDLE_MS).unref();
  }

  #end(): void {
    this.#isEnding = true;
    this.#gate.close();
    void this.#worker?.terminate();
  }

  /** The thread has ended, whatever it had; this one does what nobody has taken. */
  #left(): void {
    this.#worker = undefined;
    this.#gate.forget();
    this.#ended(!this.#isEnding);
    for (const { pieces } of this.#ranges)
      for (let index = 0; index < pieces.length; index++)
        if (pieces[index] === State.taken) pieces[index] = State.left;
    this.#settle();
    if (this.#ranges.length > 0) this.#workSoon();
  }
}

/** The bytes of a job that were done from its start; undefined: pieces of it are under way, or free. */
function bytesDone({ bytes }: TwoRanges, pieces: Int32Array): number | undefined {
  let done = 0;
  let isWhole = true;
  for (let index = 0; index < pieces.length; index++) {
    const state = Atomics.load(pieces, index);
    if (state === State.free || state === State.taken) return undefined;
    isWhole &&= state === State.done;
    if (isWhole) done = Math.min((index + 1) * PIECE, bytes);
  }
  return done;
}

let threads: FileThreads | undefined;
let isBroken = false;

/** The threads; undefined where there are none, or one processor only. */
function theThreads(): FileThreads | undefined {
  if (threads || isBroken) return threads;
  const { availableParallelism } = process.getBuiltinModule("node:os");
  const lacks = availableParallelism() < 2 || "bun" in process.versions || "deno" in process.versions;
  try {
    if (!lacks)
      threads = new FileThreads((byItself) => {
        threads = undefined;
        isBroken = byItself;
      });
  } catch {
    // Nothing may begin threads here.
  }
  isBroken = threads === undefined;
  return threads;
}

/** Has a job done; resolves with the bytes that were done from its start. Undefined: it can't be. */
export function onFileThreads(job: FileCopy | FileComparison): Promise<number> | undefined {
  assert(job.bytes > 0, "a range of no bytes is copied");
  if (job.verb !== "compare" && job.granule > 0 && PIECE % job.granule !== 0) return undefined;
  if (job.verb === "expand" && PIECE % job.streams!.unit !== 0) return undefined;
  return theThreads()?.run(job);
}
