/**
 * Carrying out the requests of one client and answering them.
 *
 * Invariants: a reply is one request's and complete, or the connection ends; no more data is in memory than was borrowed for it; a
 * reply's buffer goes back when the platform has taken it. Source: doc/proto.md; behaviour of qemu-nbd 7.2.
 */
import { type Answer, isPromise } from "../../base/answer.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import { KiB, limits } from "../../base/limits.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { Req, type RequestFlags } from "../../block/model/contract.ts";
import { command, commandFlag } from "../../wire/nbd/constants.ts";
import type { Agreement } from "../../wire/nbd/server-handshake.ts";
import { encodeFailure, type Refusal } from "../../wire/nbd/server-requests.ts";
import {
  type ChunkPlace,
  encodeBlockStatus,
  encodeDataStart,
  encodeDone,
  encodeHole,
  encodeSimpleReply,
  type NbdRequest,
} from "../../wire/nbd/transmission.ts";
import type { NbdExport } from "./export.ts";
import type { Borrower, Loan, ServerMemory } from "./memory.ts";

/** Data of one chunk, or of one step of a long write, at most. */
export const PIECE_BYTES = 1024 * KiB;
/** Data that a connection may have in memory whatever the others do. */
const SMALL_PIECE_BYTES = 64 * KiB;

/** Where replies go. Resolves when the platform has taken the bytes; rejects when the connection is gone. */
export type Send = (bytes: Uint8Array) => Promise<void>;

/** What a request failed with; its words are QEMU's for the command. */
function failureOf(error: unknown, text: string): Refusal {
  return { code: errnoOf(error), text: `${text}: ${messageOf(error)}` };
}

/** The client of an export, as far as its requests go. */
export class Replies implements Borrower {
  usesOwn = false;
  readonly #agreed: Agreement<NbdExport>;
  readonly #memory: ServerMemory;
  readonly #send: Send;

  constructor(agreed: Agreement<NbdExport>, memory: ServerMemory, send: Send) {
    this.#agreed = agreed;
    this.#memory = memory;
    this.#send = send;
  }

  /** Answers that the request is refused. */
  refuse(request: NbdRequest, refusal: Refusal): Promise<void> {
    return this.#send(encodeFailure(request, refusal, this.#agreed.structured));
  }

  /** Carries out a checked request without data, and answers it. Rejects when the reply could not be sent. */
  async answer(request: NbdRequest): Promise<void> {
    if (request.type === command.read) return this.#read(request);
    if (request.type === command.blockStatus) return this.#blockStatus(request);
    await this.finish(request, () => this.#carryOut(request));
  }

  /** A buffer for a write's data. */
  borrow(bytes: number): Answer<Loan> {
    return this.#memory.borrow(bytes, this);
  }

  /** A write's data is here. */
  write(offset: number, data: Uint8Array, flags: RequestFlags): Answer<void> {
    return this.#backend.pwrite(offset, data, flags);
  }

  /** Makes durable what was written. */
  flush(): Answer<void> {
    return this.#backend.flush();
  }

  /** Carries out `body`, and answers by success or by what it failed with. */
  async finish(request: NbdRequest, body: () => Answer<void>): Promise<void> {
    try {
      const done = body();
      if (isPromise(done)) await done;
    } catch (error) {
      return this.refuse(request, failureOf(error, words[request.type] ?? "request failed"));
    }
    await this.#send(encodeSimpleReply(request.cookie));
  }

  get #backend(): NbdExport["backend"] {
    return this.#agreed.export.backend;
  }

  #carryOut({ type, offset, length, flags }: NbdRequest): Answer<void> {
    const backend = this.#backend;
    const fua = (flags & commandFlag.fua) !== 0;
    if (type === command.flush) return backend.flush();
    if (type === command.writeZeroes) return backend.pwriteZeroes(offset, length, zeroFlags(flags));
    if (type === command.trim) return this.#trim({ offset, bytes: length }, fua);
    return this.#cache({ offset, bytes: length });
  }

  async #trim({ offset, bytes }: ByteRange, fua: boolean): Promise<void> {
    await this.#backend.pdiscard(offset, bytes);
    if (fua) await this.#backend.flush();
  }

  async #cache({ offset, bytes }: ByteRange): Promise<void> {
    for (let at = offset; at < offset + bytes;) {
      const piece = Math.min(SMALL_PIECE_BYTES, offset + bytes - at);
      const loan = await this.borrow(piece);
      try {
        await this.#backend.pread(at, loan.data, Req.prefetch | Req.copyOnRead);
      } finally {
        loan.end();
      }
      at += piece;
    }
  }

  async #read(request: NbdRequest): Promise<void> {
    // The protocol speaks of FUA for writes; who asks it of a read gets what QEMU gives.
    if (request.flags & commandFlag.fua) {
      try {
        await this.#backend.flush();
      } catch (error) {
        return this.refuse(request, failureOf(error, "flush failed"));
      }
    }
    const { structured } = this.#agreed;
    if (structured && request.length === 0) return this.#send(encodeDone(request.cookie));
    if (structured && !(request.flags & commandFlag.df)) return this.#readByExtents(request);
    return this.#readWhole(request);
  }

  /** In one piece: a simple reply, or a single chunk. */
  async #readWhole(request: NbdRequest): Promise<void> {
    const { offset, length, cookie } = request;
    const loan = await this.borrow(length);
    try {
      const reading = this.#backend.pread(offset, loan.data);
      if (isPromise(reading)) await reading;
    } catch (error) {
      loan.end();
      return this.refuse(request, failureOf(error, "reading from file failed"));
    }
    const head = this.#agreed.structured
      ? encodeDataStart({ cookie, done: true }, offset, length)
      : encodeSimpleReply(cookie);
    await this.#sendLoan(loan, head, length);
  }

  async #sendLoan(loan: Loan, head: Uint8Array, bytes: number): Promise<void> {
    try {
      await this.#send(loan.headed(head, bytes));
    } finally {
      loan.end();
    }
  }

  /** Chunk by chunk: holes as holes. What fails ends the reply with an error, whatever was sent before. */
  async #readByExtents(request: NbdRequest): Promise<void> {
    const { offset, length, cookie } = request;
    const end = offset + length;
    for (let at = offset; at < end;) {
      const place = { cookie, done: false };
      try {
        const asked = this.#backend.status(at, end - at);
        const status = isPromise(asked) ? await asked : asked;
        place.done = at + status.bytes === end;
        const range = { offset: at, bytes: status.bytes };
        at += status.bytes;
        if (status.zero) await this.#send(encodeHole(place, range.offset, range.bytes));
        else await this.#readData(place, range);
      } catch (error) {
        if (error instanceof ConnectionGone) throw error;
        return this.refuse(request, failureOf(error, "reading from file failed"));
      }
    }
  }

  /** Chunks of data of one range; `place.done` is for the last of them. */
  async #readData({ cookie, done }: ChunkPlace, { offset, bytes }: ByteRange): Promise<void> {
    for (let at = offset; at < offset + bytes;) {
      const piece = Math.min(PIECE_BYTES, offset + bytes - at);
      const loan = await this.borrow(piece);
      try {
        const reading = this.#backend.pread(at, loan.data);
        if (isPromise(reading)) await reading;
      } catch (error) {
        loan.end();
        throw error;
      }
      const place = { cookie, done: done && at + piece === offset + bytes };
      await this.#sendLoan(loan, encodeDataStart(place, at, piece), piece);
      at += piece;
    }
  }

  async #blockStatus(request: NbdRequest): Promise<void> {
    const { cookie, offset, length, flags } = request;
    const most = flags & commandFlag.reqOne ? 1 : limits.nbdMaxStatusExtents;
    const { contexts, export: one } = this.#agreed;
    for (const [at, { id }] of contexts.entries()) {
      const place = { cookie, done: at === contexts.length - 1 };
      let extents;
      try {
        extents = await one.statusContexts[id]!.extents({ offset, bytes: length, most });
      } catch (error) {
        return this.refuse(request, failureOf(error, "can't get block status"));
      }
      await this.#send(encodeBlockStatus(place, id, extents));
    }
  }
}

/** The reply could not be sent: the client is gone, and nothing more is said to it. */
export class ConnectionGone extends Error {
  override readonly name = "ConnectionGone";
}

function zeroFlags(flags: number): RequestFlags {
  return (
    (flags & commandFlag.fua ? Req.fua : 0) |
    (flags & commandFlag.noHole ? 0 : Req.mayUnmap) |
    (flags & commandFlag.fastZero ? Req.noFallback : 0)
  );
}

/** What QEMU says when a command fails. */
const words: Partial<Record<number, string>> = {
  [command.write]: "writing to file failed",
  [command.writeZeroes]: "writing to file failed",
  [command.flush]: "flush failed",
  [command.trim]: "discard failed",
  [command.cache]: "caching data failed",
};
