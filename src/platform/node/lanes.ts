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
 */
import { type BlockError, blockError } from "../../base/errors.ts";
import { type FileAnswer, type FileCall, callOnPool } from "./calls.ts";
import { nodeError } from "./errors.ts";
import { LaneThread } from "./lane-thread.ts";
import { monotonicMs } from "./now.ts";

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
  readonly #queue: Waiting[] = [];
  #thread: LaneThread | undefined;
  #idle: NodeJS.Timeout | undefined;
  #givenUp = false;

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

function settle(waiting: Waiting, error: Error | null, answer?: FileAnswer): void {
  open.delete(waiting);
  if (error) waiting.reject(nodeError(error, waiting.op));
  else waiting.resolve(answer);
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
