/**
 * Decompresses on a few threads: for whole disks of compressed clusters, of which many are asked for at once. A call of Node's
 * asynchronous zlib costs as much again as the inflating, and what comes of it is memory that is collected late.
 *
 * - The threads are begun when several streams are asked for at once, and end when nothing was asked for IDLE_MS. Until then a
 *   stream is decompressed the other way, which the caller brings; from then on streams wait for the threads to be ready.
 * - Each thread has a memory in two halves: one batch is decompressed while the next is laid down.
 * - What a thread refuses, or had when it ended, is done the other way, which so decides what is wrong with it.
 *
 * Bound: memory is two halves for each thread; a stream that fits in no half goes the other way.
 */
import { DecodeThread, type Stream } from "./decode-thread.ts";
import { OWN_BYTES, SLACK } from "./decoders.ts";

/** How a pool is made; for tests. */
export interface DecodePoolOptions {
  /** Threads at most; default: the processors, up to 4. 0: everything goes the other way. */
  readonly threads?: number;
  /** So many streams at once begin the threads; default 4. */
  readonly burst?: number;
  /** May call the system's library of zstd; default true. */
  readonly native?: boolean;
}

type Format = Stream[0];

interface Waiting {
  readonly format: Format;
  readonly input: Uint8Array;
  readonly output: Uint8Array;
  /** The bytes that came of it; undefined: it has to go the other way. */
  readonly done: (count: number | undefined) => void;
}

/** Streams that a thread has, and where their content will lie. */
interface Batch {
  readonly half: number;
  readonly streams: readonly { readonly waiting: Waiting; readonly at: number }[];
}

interface Member {
  readonly thread: DecodeThread;
  readonly bytes: Uint8Array;
  readonly free: number[];
  /** In the order in which they were asked for. */
  readonly batches: Batch[];
  ready: boolean;
}

const BURST = 4;
const MOST_THREADS = 4;
const IDLE_MS = 5000;
const HALF_BYTES = 2 ** 20;
/** Larger streams pay for Node's own way. */
const LARGEST_HALF = 2 ** 23;
const PAGE = 65536;

function room({ input, output }: Pick<Waiting, "input" | "output">): number {
  return input.byteLength + output.byteLength + 2 * SLACK + 16;
}

/** See above. One for a process is enough. */
export class DecodePool {
  readonly #burst: number;
  readonly #most: number;
  readonly #native: boolean;
  readonly #queue: Waiting[] = [];
  #members: Member[] = [];
  #half = 0;
  /** Streams under way the other way. */
  #otherwise = 0;
  /** Threads don't work here. */
  #broken = false;
  #dueIn: NodeJS.Timeout | undefined;
  #isDue = false;
  #used = false;

  constructor({ threads, burst = BURST, native = true }: DecodePoolOptions = {}) {
    this.#burst = burst;
    this.#native = native;
    this.#most = threads ?? MOST_THREADS;
  }

  /** Decompresses `input` into `output`; resolves with the bytes. What `otherwise` says is what a stream that is not sound gives. */
  async decode(
    format: Format,
    input: Uint8Array,
    { output, otherwise }: { output: Uint8Array; otherwise: () => Promise<number> },
  ): Promise<number> {
    const bytes = room({ input, output });
    if (this.#otherwise + 1 >= this.#burst) this.#begin(bytes);
    if (this.#members.length > 0 && bytes <= this.#half) {
      this.#used = true;
      const count = await new Promise<number | undefined>((done) => {
        this.#queue.push({ format, input, output, done });
        this.#dispatchSoon();
      });
      if (count !== undefined) return count;
    }
    this.#otherwise += 1;
    try {
      return await otherwise();
    } finally {
      this.#otherwise -= 1;
    }
  }

  /** Ends the threads. What they have goes the other way. */
  end(): void {
    clearInterval(this.#dueIn);
    this.#dueIn = undefined;
    for (const member of this.#members.splice(0)) this.#leave(member);
    for (const { done } of this.#queue.splice(0)) done(undefined);
  }

  #begin(bytes: number): void {
    if (this.#broken || this.#members.length > 0 || bytes > LARGEST_HALF) return;
    const { availableParallelism } = process.getBuiltinModule("node:os");
    const threads = Math.min(this.#most, Math.max(1, availableParallelism()));
    if ("bun" in process.versions || "deno" in process.versions || threads === 0) {
      this.#broken = true;
      return;
    }
    this.#half = Math.ceil(Math.max(HALF_BYTES, bytes * 4) / PAGE) * PAGE;
    try {
      for (let index = 0; index < threads; index++) this.#members.push(this.#member());
    } catch {
      // Nothing may begin threads here.
      this.#broken = true;
      return this.end();
    }
    this.#used = true;
    this.#dueIn = setInterval(() => this.#endIfIdle(), IDLE_MS).unref();
  }

  #member(): Member {
    const pages = (OWN_BYTES + 2 * this.#half) / PAGE;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const thread = new DecodeThread(memory, this.#native, {
      ready: () => {
        member.ready = true;
        this.#dispatchSoon();
      },
      done: (counts) => this.#done(member, counts),
      ended: () => this.#ended(member),
    });
    const free = [OWN_BYTES, OWN_BYTES + this.#half];
    const member: Member = { thread, bytes: new Uint8Array(memory.buffer), free, batches: [], ready: false };
    return member;
  }

  #endIfIdle(): void {
    const isIdle = this.#queue.length === 0 && this.#members.every(({ batches }) => batches.length === 0);
    if (isIdle && !this.#used) this.end();
    this.#used = false;
  }

  /** After all that is asked for in this turn. */
  #dispatchSoon(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    process.nextTick(() => {
      this.#isDue = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    const ready = this.#members.filter((member) => member.ready);
    for (const turn of [2, 1]) {
      for (const member of ready) {
        // First those that have nothing to do.
        if (member.free.length >= turn && this.#queue.length > 0)
          this.#give(member, Math.ceil(this.#queue.length / this.#members.length));
      }
    }
  }

  /** Lays down up to `most` streams in a free half, and has them decompressed. */
  #give(member: Member, most: number): void {
    const half = member.free.shift()!;
    const batch: { waiting: Waiting; at: number }[] = [];
    const streams: Stream[] = [];
    let next = half;
    while (batch.length < most) {
      const waiting = this.#queue[0];
      if (!waiting || next + room(waiting) > half + this.#half) break;
      this.#queue.shift();
      const { format, input, output } = waiting;
      member.bytes.set(input, next);
      const at = (next + input.byteLength + SLACK + 15) & ~15;
      streams.push([format, next, input.byteLength, at, output.byteLength]);
      batch.push({ waiting, at });
      next = at + output.byteLength + SLACK;
    }
    member.batches.push({ half, streams: batch });
    member.thread.decode(streams);
  }

  #done(member: Member, counts: readonly number[]): void {
    const batch = member.batches.shift();
    if (!batch) return;
    for (const [index, { waiting, at }] of batch.streams.entries()) {
      const count = counts[index] ?? -1;
      if (count >= 0) waiting.output.set(member.bytes.subarray(at, at + count));
      waiting.done(count < 0 ? undefined : count);
    }
    member.free.push(batch.half);
    this.#dispatchSoon();
  }

  /** A thread that nobody has ended: it failed, and the next might, too. */
  #ended(member: Member): void {
    if (!this.#members.includes(member)) return;
    this.#broken = true;
    this.end();
  }

  #leave({ thread, batches }: Member): void {
    thread.end();
    for (const { streams } of batches.splice(0)) for (const { waiting } of streams) waiting.done(undefined);
  }
}
