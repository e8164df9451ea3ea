/**
 * How bytes get from and to a descriptor: on Node's thread pool, or at once in the caller's turn. Short transfers are
 * continued here. Buffers may be views of a WebAssembly memory.
 *
 * The pool keeps the event loop free, and several requests under way. Pages that the kernel has in memory are moved with
 * half the processor time without it: nothing is woken, and a piece that was just read is still in the cache when it is
 * looked at and written. Large reads go to the pool all the same, for a second processor.
 *
 * Invariant: in-turn transfers let the event loop turn every few milliseconds, for signals and timers.
 */
import * as fs from "node:fs";
import type { Answer } from "../../base/answer.ts";
import { blockError } from "../../base/errors.ts";
import { nodeError } from "./errors.ts";
import type { FileCall } from "./calls.ts";
import type { Lane } from "./lanes.ts";
import { monotonicMs } from "./now.ts";

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

/** When the event loop has to turn next, on monotonicMs()'s clock. */
let turnDueMs = 0;

/** Undefined while the event loop need not turn yet. */
function turnIfDue(): Promise<void> | undefined {
  if (monotonicMs() < turnDueMs) return undefined;
  return new Promise((resolve) => {
    setImmediate(() => {
      turnDueMs = monotonicMs() + LONGEST_TURN_MS;
      resolve();
    });
  });
}

function readInTurn(request: TransferRequest): number {
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

function writeInTurn(request: TransferRequest): void {
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
