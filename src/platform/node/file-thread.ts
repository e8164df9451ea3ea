/**
 * Copies from file to file, or compares two, for whole disks, by two threads: ranges are cut into pieces, and this thread and
 * another each take the next, read it, look at it and write it while it is still in their processor's cache. Nothing is handed over
 * for a piece, nor for a range: a list of them is, however small they are. The other thread is one for a process: begun when it is first needed, ended when nothing was asked for IDLE_MS.
 *
 * Invariants: a piece is taken once; what is told as done is; of what failed, or was left since the thread ended, nothing is told
 * but that it is not done: its owner does it again, and so finds out why. The event loop turns every TURN_MS, and whenever a list
 * is done; the process is held only while lists are under way.
 */
import type { Worker } from "node:worker_threads";
import { assert } from "../../base/assert.ts";
import type { FileStreams } from "../../base/ranges.ts";
import { monotonicMs } from "./clock.ts";
import { DECODERS, decoderParts, OWN_BYTES, SLACK } from "./decoders.ts";
import { NativeGate } from "./native-gate.ts";
import { loadKoffi } from "./native.ts";

/** A range of each of two files: the descriptor of one, and where it begins in either, bytes. */
export interface TwoRanges {
  readonly a: number;
  readonly atA: number;
  readonly atB: number;
  readonly bytes: number;
}

/** What is done with ranges of `b`, and others. */
interface FileWork {
  readonly b: number;
  readonly ranges: readonly TwoRanges[];
}

/** Copies each range of `a`, or what the streams of the only one give, to that of `b`. */
export interface FileCopy extends FileWork {
  readonly verb: "copy" | "expand";
  /** Of `expand`: what the range is made of; `atA` is nothing then. */
  readonly streams?: FileStreams | undefined;
  /** Parts of so many bytes that hold zeroes only are looked for; a multiple of 4 that divides PIECE. 0: none are. */
  readonly granule: number;
  /** They are left unwritten, but where so many bytes are zeroes the copy stops; see FileZeroes. */
  readonly unit: number;
}

/** Compares each two ranges; stops at a piece in which they differ. */
export interface FileComparison extends FileWork {
  readonly verb: "compare";
}

/** Bytes that are read at once. */
export const PIECE = 2 ** 19;
/** How long this thread works before the event loop turns, ms. */
const TURN_MS = 4;
const IDLE_MS = 5000;

/** Words before those of the pieces: the next piece to be taken, how many have ended. Then come their states, and their ranges. */
const Word = { next: 0, ended: 1, pieces: 2 } as const;
/** Numbers of a range: as TwoRanges, and its first piece. */
const ROW = 5;
/** What has become of a piece. */
const State = { free: 0, done: 1, left: 2, taken: 3 } as const;

/** Where a thread has its piece, and streams, in its memory: those of a piece, in sectors, take up to twice its bytes. */
const AREA = OWN_BYTES;
const STREAMS = AREA + PIECE + OWN_BYTES;
const STREAMS_BYTES = 2 * PIECE;
const MEMORY_PAGES = Math.ceil((STREAMS + STREAMS_BYTES + SLACK) / 65536);

/** What both threads run: gives a function that does a piece of a job's range from byte `at` on, and answers whether it is done. */
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

/** Takes the next piece of a list and does it; false: none is free. */
const STEP = `(work) => ({ job, rows, words }) => {
  const count = (words.length - ${Word.pieces}) / 2;
  for (;;) {
    const index = Atomics.add(words, ${Word.next}, 1);
    if (index >= count) return false;
    const place = ${Word.pieces} + index;
    if (Atomics.compareExchange(words, place, ${State.free}, ${State.taken}) !== ${State.free}) continue;
    const range = words[place + count];
    const row = range * ${ROW};
    const bytes = rows[row + 3];
    const at = (index - rows[row + 4]) * ${PIECE};
    const part = { ...job, a: rows[row], atA: rows[row + 1], atB: rows[row + 2], bytes };
    const isDone = work(part, at, Math.min(${PIECE}, bytes - at));
    // Nobody goes on behind it.
    if (!isDone)
      for (let next = place + 1; next < ${Word.pieces} + count && words[next + count] === range; next++)
        if (Atomics.compareExchange(words, next, ${State.free}, ${State.left}) === ${State.free})
          Atomics.add(words, ${Word.ended}, 1);
    Atomics.store(words, place, isDone ? ${State.done} : ${State.left});
    Atomics.add(words, ${Word.ended}, 1);
    return true;
  }
}`;

const PROGRAM = `
const { parentPort, workerData } = process.getBuiltinModule("node:worker_threads");
const decodersOf = (memory) => (${DECODERS})(memory, workerData);
const step = (${STEP})((${WORK})(process.getBuiltinModule("node:fs"), decodersOf));
parentPort.on("message", (list) => {
  while (step(list));
  parentPort.postMessage(undefined);
});
`;

/** Ranges that are under way, as both threads see them. */
interface List {
  readonly job: Omit<FileCopy, "ranges"> | Omit<FileComparison, "ranges">;
  /** ROW numbers of each range. */
  readonly rows: Float64Array;
  /** See Word. */
  readonly words: Int32Array<SharedArrayBuffer>;
}

type Step = (list: List) => boolean;

/** Who waits for a list. */
interface Waiting {
  readonly list: List;
  readonly resolve: (counts: number[]) => void;
}

function listOf({ ranges, ...job }: FileCopy | FileComparison): List {
  const rows = new Float64Array(ranges.length * ROW);
  let count = 0;
  for (let index = 0; index < ranges.length; index++) {
    const { a, atA, atB, bytes } = ranges[index]!;
    const row = index * ROW;
    rows[row] = a;
    rows[row + 1] = atA;
    rows[row + 2] = atB;
    rows[row + 3] = bytes;
    rows[row + 4] = count;
    count += Math.ceil(bytes / PIECE);
  }
  const size = (Word.pieces + 2 * count) * Int32Array.BYTES_PER_ELEMENT;
  const words = new Int32Array(new SharedArrayBuffer(size));
  let place = Word.pieces + count;
  for (let index = 0; index < ranges.length; index++) {
    const end = place + Math.ceil(ranges[index]!.bytes / PIECE);
    while (place < end) words[place++] = index;
  }
  return { job, rows, words };
}

function piecesOf({ words }: List): number {
  return (words.length - Word.pieces) / 2;
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

/** The lists that are under way, the oldest first, and the two threads that work at them. */
class FileThreads {
  readonly #step: Step;
  readonly #gate = new NativeGate();
  readonly #lists: Waiting[] = [];
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
    this.#rest();
  }

  run(job: FileCopy | FileComparison): Promise<readonly number[]> {
    clearTimeout(this.#idle);
    const list = listOf(job);
    this.#worker?.ref();
    this.#worker?.postMessage(list);
    this.#workSoon();
    return new Promise((resolve) => this.#lists.push({ list, resolve }));
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
    for (const { list } of this.#lists)
      while (this.#step(list)) if (this.#settle() || monotonicMs() >= until) return this.#workSoon();
  }

  /** Ends the lists whose pieces all have; whether there were any. */
  #settle(): boolean {
    const before = this.#lists.length;
    for (let index = 0; index < this.#lists.length;) {
      const { list, resolve } = this.#lists[index]!;
      if (Atomics.load(list.words, Word.ended) < piecesOf(list)) index += 1;
      else {
        this.#lists.splice(index, 1);
        resolve(bytesDone(list));
      }
    }
    if (this.#lists.length === 0 && before > 0) this.#rest();
    return this.#lists.length < before;
  }

  /** Ends the thread when nothing is asked for. */
  #rest(): void {
    clearTimeout(this.#idle);
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
    for (const { list } of this.#lists) leave(list);
    this.#settle();
    if (this.#lists.length > 0) this.#workSoon();
  }
}

/** Gives up the pieces that the other thread had when it ended. This one has none. */
function leave(list: List): void {
  const { words } = list;
  let ended = 0;
  for (let index = 0; index < piecesOf(list); index++) {
    const place = Word.pieces + index;
    const isTaken =
      words[place] === State.taken || (words[place] === State.free && index < words[Word.next]!);
    if (isTaken) words[place] = State.left;
    if (words[place] !== State.free) ended += 1;
  }
  words[Word.ended] = ended;
}

/** The bytes of each range of a list that were done from its start. */
function bytesDone(list: List): number[] {
  const { rows, words } = list;
  const counts: number[] = [];
  for (let row = 0; row < rows.length; row += ROW) {
    const bytes = rows[row + 3]!;
    const first = Word.pieces + rows[row + 4]!;
    let done = 0;
    for (let place = first; done < bytes && Atomics.load(words, place) === State.done; place++) done += PIECE;
    counts.push(Math.min(done, bytes));
  }
  return counts;
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

/** Has the other thread begin, which takes it as long as a job of 64 MiB: there will be jobs soon. */
export function expectJobs(): void {
  theThreads();
}

/** Has a job done; resolves with the bytes that were done of each range from its start. Undefined: it can't be. */
export function onFileThreads(job: FileCopy | FileComparison): Promise<readonly number[]> | undefined {
  const { ranges } = job;
  assert(ranges.length > 0 && ranges.every(({ bytes }) => bytes > 0), "a range of no bytes is copied");
  if (job.verb === "expand") assert(ranges.length === 1, "streams belong to one range");
  if (job.verb !== "compare" && job.granule > 0 && PIECE % job.granule !== 0) return undefined;
  if (job.verb === "expand" && PIECE % job.streams!.unit !== 0) return undefined;
  return theThreads()?.run(job);
}
