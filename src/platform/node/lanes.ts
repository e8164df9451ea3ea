/**
 * Who of the files may wait where. Node's thread pool (four threads unless UV_THREADPOOL_SIZE says otherwise) serves files,
 * PBKDF2, zlib and the look-up of names, so four requests that a disk never answers would stop all of them.
 *
 * - Calls on files take at most all threads but one of the pool; that one is always there for the rest.
 * - Each file has its lane, first come, first served; lanes take turns.
 * - When no thread of the pool has become free for JAM_MS and calls wait, the pool is jammed: then each lane that waits gets
 *   a thread of its own (see lane-thread.ts) until the pool moves again. A disk that does not answer so stops its own lane.
 *
 * Invariants: a lane's descriptors are used only by its own calls; a call is answered once. Bound: memory is one thread for
 * each file in use while the pool is jammed. Native calls need the pool: in a jam they are not supported.
 *
 * Here is also how bytes get from and to a descriptor: on the pool, or at once in the caller's turn. Short transfers are
 * continued. Buffers may be views of a WebAssembly memory.
 *
 * The pool keeps the event loop free, and several requests under way. Pages that the kernel has in memory are moved with
 * half the processor time without it: nothing is woken, and a piece that was just read is still in the cache when it is
 * looked at and written. Large reads go to the pool all the same, for a second processor.
 *
 * What was written since the last flush that succeeded is noted, so that it can be written again after one that failed.
 *
 * Invariants: in-turn transfers let the event loop turn every few milliseconds, for signals and timers; whatever was written is
 * within the ranges noted, which may hold more (memory is bounded, the unit grows instead).
 */
import { type BlockError, blockError } from "../../base/errors.ts";
import { callAtOnce, isShort, type ShortCall } from "./at-once.ts";
import type { Answered, FileAnswer, FileCall } from "./calls.ts";
import { nodeError } from "./errors.ts";
import { LaneThread } from "./lane-thread.ts";
import { monotonicMs } from "./clock.ts";
import * as fs from "node:fs";
import type { Answer } from "../../base/answer.ts";
import type { ByteRange } from "../../base/ranges.ts";

/** How long the pool may stand still with calls waiting before they go other ways, ms. */
const JAM_MS = 250;
/** How long a file's own thread is kept without work, ms. */
const IDLE_MS = 5000;

interface Waiting {
  readonly call: FileCall;
  readonly op: string;
  readonly sinceMs: number;
  resolve(answer: FileAnswer): void;
  reject(error: BlockError): void;
}

/** Threads of the pool that calls on files may take. */
const poolSize = Number.parseInt(process.env["UV_THREADPOOL_SIZE"] ?? "", 10) || 4;
const MOST = Math.max(1, Math.min(poolSize, 1024) - 1);

/** Lanes that have calls waiting, in the order of their turns. */
const turns = new Set<Lane>();
/** Calls under way or waiting, of all lanes. */
const open = new Map<Waiting, Lane>();
let used = 0;
let freedMs = 0;
let watch: NodeJS.Timeout | undefined;

/** The calls of one file. */
export class Lane {
  readonly #inTurn: boolean;
  readonly #queue: Waiting[] = [];
  #thread: LaneThread | undefined;
  #idle: NodeJS.Timeout | undefined;
  #givenUp = false;

  /** `inTurn`: calls that wait for nothing but an answer are made at once (at-once.ts). */
  constructor({ inTurn = false }: { inTurn?: boolean } = {}) {
    this.#inTurn = inTurn;
  }

  /** The file was given up: it answers no more, and its descriptor may still be in use below. */
  get givenUp(): boolean {
    return this.#givenUp;
  }

  get waits(): boolean {
    return this.#queue.length > 0;
  }

  /** The pool stands still, and this file waits for it, or for its disk. */
  get stalled(): boolean {
    return jammed() && (this.waits || this.#thread?.busy === true);
  }

  /** Makes a call; errors are BlockErrors of operation `op`. */
  make(call: FileCall, op: string): Promise<FileAnswer> {
    if (this.#givenUp) return Promise.reject(noAnswer(op));
    if (this.#inTurn && isShort(call)) return makeAtOnce(call, op);
    return new Promise((resolve, reject) => {
      const waiting: Waiting = { call, op, sinceMs: monotonicMs(), resolve, reject };
      open.set(waiting, this);
      if (used < MOST && turns.size === 0) return onPool(waiting);
      this.#queue.push(waiting);
      turns.add(this);
      if (jammed()) this.bypass();
      pump();
    });
  }

  /** The next call that waits. */
  take(): Waiting | undefined {
    return this.#queue.shift();
  }

  /** The pool is jammed: what waits goes over a thread of this file. */
  bypass(): void {
    if (this.#thread?.busy) return;
    const waiting = this.take();
    if (!waiting) return this.#rest();
    const { call } = waiting;
    if (call.call === "native") {
      settle(waiting, blockError("ENOTSUP", waiting.op));
      return this.bypass();
    }
    clearTimeout(this.#idle);
    if (!this.#thread || this.#thread.dead) this.#thread = new LaneThread();
    this.#thread.make(call, (error, answer) => {
      settle(waiting, error, answer);
      this.bypass();
    });
  }

  #rest(): void {
    turns.delete(this);
    this.#idle = setTimeout(() => this.#endThread(), IDLE_MS).unref();
  }

  /** Fails everything that is under way or waits, and whatever is asked from now on. */
  giveUp(): void {
    this.#givenUp = true;
    turns.delete(this);
    for (const waiting of this.#queue.splice(0)) settle(waiting, noAnswer(waiting.op));
    for (const [waiting, lane] of open) if (lane === this) waiting.reject(noAnswer(waiting.op));
  }

  #endThread(): void {
    if (this.#thread?.busy) return;
    this.#thread?.end();
    this.#thread = undefined;
  }
}

function noAnswer(op: string): BlockError {
  return blockError("EIO", op, "the disk does not answer");
}

async function makeAtOnce(call: ShortCall, op: string): Promise<FileAnswer> {
  try {
    return callAtOnce(call);
  } catch (error) {
    throw nodeError(error, op);
  }
}

function settle(waiting: Waiting, error: Error | null, answer?: FileAnswer): void {
  open.delete(waiting);
  if (error) waiting.reject(nodeError(error, waiting.op));
  else waiting.resolve(answer);
}

/** Makes a call on the pool. Throws for arguments that Node refuses. */
function callOnPool(call: FileCall, answered: Answered): void {
  const facts = (error: Error | null, stats?: fs.BigIntStats): void => answered(error, stats);
  switch (call.call) {
    case "read":
      return fs.read(call.fd, call.buffer, call.at, call.bytes, call.position, answered);
    case "write":
      return fs.write(call.fd, call.buffer, call.at, call.bytes, call.position, answered);
    case "fstat":
      return fs.fstat(call.fd, { bigint: true }, facts);
    case "stat":
    case "lstat":
      return fs[call.call](call.path, { bigint: true }, facts);
    case "open":
      return fs.open(call.path, call.flags, call.mode, answered);
    case "ftruncate":
      return fs.ftruncate(call.fd, call.size, answered);
    case "unlink":
      return fs.unlink(call.path, answered);
    case "realpath":
      return fs.realpath.native(call.path, answered);
    case "rename":
      return fs.rename(call.path, call.to, answered);
    case "chmod":
      return fs.chmod(call.path, call.mode, answered);
    case "chown":
      return fs.chown(call.path, call.uid, call.gid, answered);
    case "native":
      call.run().then((result) => answered(null, result), answered);
      return;
    default:
      return fs[call.call](call.fd, answered);
  }
}

function onPool(waiting: Waiting): void {
  used += 1;
  const done = (error: Error | null, answer?: FileAnswer): void => {
    used -= 1;
    freedMs = monotonicMs();
    settle(waiting, error, answer);
    pump();
  };
  try {
    callOnPool(waiting.call, done);
  } catch (error) {
    done(error as Error);
  }
}

/** Gives free threads to lanes in turn, and watches that some become free. */
function pump(): void {
  while (used < MOST) {
    const [lane] = turns;
    if (!lane) break;
    turns.delete(lane);
    const waiting = lane.take();
    if (lane.waits) turns.add(lane);
    if (waiting) onPool(waiting);
  }
  if (turns.size > 0) watch ??= setTimeout(look, JAM_MS).unref();
}

function look(): void {
  watch = undefined;
  if (jammed()) for (const lane of turns) lane.bypass();
  if (turns.size > 0) watch = setTimeout(look, JAM_MS).unref();
}

/** No thread of the pool is free for files, and none has become free for a while. */
function jammed(): boolean {
  return used >= MOST && monotonicMs() - freedMs >= JAM_MS;
}

/** Calls that take long on disks that answer. */
const LONG: ReadonlySet<FileCall["call"]> = new Set(["fdatasync", "fsync", "close", "ftruncate", "native"]);

/** Since when a call waits that decides whether a file is given up, on monotonicMs()'s clock, ms. */
export interface Patience {
  /** For reads, writes and the like. */
  readonly shortMs: number;
  /** For what takes long by nature: a flush writes back all that the system has in memory. */
  readonly longMs: number;
}

/** Gives up every file one of whose calls was made before that and has no answer: for the end of a program, which else could not end. */
export function giveUpStalled({ shortMs, longMs }: Patience): void {
  for (const [{ call, sinceMs }, lane] of [...open]) {
    if (sinceMs < (LONG.has(call.call) ? longMs : shortMs) && !lane.givenUp) lane.giveUp();
  }
}

/** Calls that a disk has not answered, of files that were given up. */
export function hasStuckCalls(): boolean {
  return [...open.values()].some((lane) => lane.givenUp);
}

/** Longest single read or write, bytes: Linux transfers at most 2 GiB - 4 KiB at once. */
const MAX_TRANSFER = 1 << 30;

/** Reads that the other processor may do meanwhile: so many bytes pay for waking it. */
const LARGE_READ = 1 << 20;

/** How long in-turn transfers may keep the event loop from turning, ms. */
const LONGEST_TURN_MS = 8;

/** A run of bytes of a file. */
export interface TransferRequest {
  readonly fd: number;
  /** The file's. */
  readonly lane: Lane;
  readonly buffer: Uint8Array;
  readonly offset: number;
  /** A count that is no multiple of this ends the file. */
  readonly alignment: number;
}

/** Reads and writes, which may answer at once; errors, thrown or rejected, are BlockErrors of `pread` and `pwrite`. */
export interface Transfers {
  /** Fills the buffer; answers with the bytes read, fewer only at the end of the file. */
  read(request: TransferRequest): Answer<number>;
  /** Writes all of the buffer. */
  write(request: TransferRequest): Answer<void>;
}

/** The bytes of a transfer that are moved at once after `done` of them. */
function nextBytes({ buffer }: TransferRequest, done: number): number {
  return Math.min(buffer.byteLength - done, MAX_TRANSFER);
}

function isOver({ buffer, alignment }: TransferRequest, done: number, count: number): boolean {
  return done === buffer.byteLength || count === 0 || count % alignment !== 0;
}

/** The next piece of a transfer, as one call. */
function piece(call: "read" | "write", request: TransferRequest, done: number): FileCall {
  const { fd, buffer, offset } = request;
  return { call, fd, buffer, at: done, bytes: nextBytes(request, done), position: offset + done };
}

/** On Node's thread pool, or where that is jammed on a thread of the file (see lanes.ts). */
export const pooledTransfers: Transfers = {
  async read(request) {
    for (let done = 0; ;) {
      const count = (await request.lane.make(piece("read", request, done), "pread")) as number;
      done += count;
      if (isOver(request, done, count)) return done;
    }
  },
  async write(request) {
    for (let done = 0; done < request.buffer.byteLength;) {
      const count = (await request.lane.make(piece("write", request, done), "pwrite")) as number;
      if (count === 0) throw blockError("EIO", "pwrite");
      done += count;
    }
  },
};

/** The same at first, ms: a program that has ended by then need not turn at all, nor V8 collect its garbage. */
const FIRST_TURN_MS = 50;

/** When the event loop has to turn next, on monotonicMs()'s clock. */
let turnDueMs = monotonicMs() + FIRST_TURN_MS;

/** Undefined while the event loop need not turn yet; resolves when it has. */
export function turnIfDue(): Promise<void> | undefined {
  if (monotonicMs() < turnDueMs) return undefined;
  return new Promise((resolve) => {
    setImmediate(() => {
      turnDueMs = monotonicMs() + LONGEST_TURN_MS;
      resolve();
    });
  });
}

/** Reads at once; throws BlockErrors. */
export function readInTurn(request: TransferRequest): number {
  try {
    for (let done = 0; ;) {
      const bytes = nextBytes(request, done);
      const count = fs.readSync(request.fd, request.buffer, done, bytes, request.offset + done);
      done += count;
      if (isOver(request, done, count)) return done;
    }
  } catch (error) {
    throw nodeError(error, "pread");
  }
}

/** Writes at once; throws BlockErrors. */
export function writeInTurn(request: TransferRequest): void {
  try {
    for (let done = 0; done < request.buffer.byteLength;) {
      const bytes = nextBytes(request, done);
      const count = fs.writeSync(request.fd, request.buffer, done, bytes, request.offset + done);
      if (count === 0) throw blockError("EIO", "pwrite");
      done += count;
    }
  } catch (error) {
    throw nodeError(error, "pwrite");
  }
}

/** At once, in the caller's turn: for programs that have nothing else to do meanwhile. */
export const inTurnTransfers: Transfers = {
  read(request) {
    if (request.buffer.byteLength >= LARGE_READ) return pooledTransfers.read(request);
    const turn = turnIfDue();
    return turn ? turn.then(() => readInTurn(request)) : readInTurn(request);
  },
  write(request) {
    const turn = turnIfDue();
    return turn ? turn.then(() => writeInTurn(request)) : writeInTurn(request);
  },
};

const FIRST_UNIT = 65_536;
/** Units that are kept apart; more make the unit larger. */
const MOST_UNITS = 65_536;

/** Parts of a file, in units of a power of two of bytes. */
export class UnflushedRanges {
  #unit = FIRST_UNIT;
  #units = new Set<number>();
  /** The unit that was noted last: most writes follow the one before. */
  #last = -1;

  /** Notes a write, once it has ended. */
  add(offset: number, bytes: number): void {
    const first = Math.floor(offset / this.#unit);
    const last = Math.floor((offset + Math.max(bytes, 1) - 1) / this.#unit);
    if (first === this.#last && last === first) return;
    for (let unit = first; unit <= last; unit++) this.#units.add(unit);
    this.#last = last;
    while (this.#units.size > MOST_UNITS) this.#coarsen();
  }

  /** Hands over what was noted so far: a flush begins, which says nothing of later writes. */
  take(): UnflushedRanges {
    const taken = new UnflushedRanges();
    taken.#unit = this.#unit;
    taken.#units = this.#units;
    this.#units = new Set();
    this.#last = -1;
    return taken;
  }

  /** Takes back what a flush did not make durable. */
  merge(taken: UnflushedRanges): void {
    for (const { offset, bytes } of taken.ranges()) this.add(offset, bytes);
  }

  /** Ascending, apart from each other. */
  *ranges(): Generator<ByteRange> {
    const units = [...this.#units].toSorted((a, b) => a - b);
    for (let i = 0; i < units.length;) {
      let next = i + 1;
      while (next < units.length && units[next] === units[next - 1]! + 1) next += 1;
      yield { offset: units[i]! * this.#unit, bytes: (next - i) * this.#unit };
      i = next;
    }
  }

  #coarsen(): void {
    this.#unit *= 2;
    this.#units = new Set([...this.#units].map((unit) => Math.floor(unit / 2)));
    this.#last = -1;
  }
}
