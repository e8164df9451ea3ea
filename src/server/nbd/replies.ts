/**
 * Carrying out the requests of one client and answering them.
 *
 * Invariants: a reply is one request's and complete, or the connection ends; no more data is in memory than was borrowed for it; a
 * reply's buffer goes back when the platform has taken it; what can be had at once is sent in the turn in which it was asked for.
 * Source: doc/proto.md; behaviour of qemu-nbd 7.2.
 */
import { type Answer, andThen, ending, repeat, rescue } from "../../base/answer.ts";
import type { FileRange } from "../../base/host.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import { KiB, limits } from "../../base/limits.ts";
import type { ByteRange } from "../../base/ranges.ts";
import { lend } from "../../block/graph/lend.ts";
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

/** Where replies go. Answers when the platform has taken the bytes; fails when the connection is gone. */
export type Send = (bytes: Uint8Array) => Answer<void>;

/** The same of a head, and of what lies in a file behind it; false: nothing was sent. */
type SendFile = (head: Uint8Array, range: FileRange) => Answer<void> | false;

/** What a request failed with; its words are QEMU's for the command. */
function failureOf(error: unknown, text: string): Refusal {
  return { code: errnoOf(error), text: `${text}: ${messageOf(error)}` };
}

/** What `body` fails with, for the client; undefined: it does not. */
function refusalOf(body: () => Answer<void>, text: string): Answer<Refusal | undefined> {
  return rescue<Refusal | undefined>(
    () => andThen(body(), () => undefined),
    (error) => failureOf(error, text),
  );
}

/** The client of an export, as far as its requests go. */
export class Replies implements Borrower {
  usesOwn = false;
  readonly #agreed: Agreement<NbdExport>;
  readonly #memory: ServerMemory;
  readonly #send: Send;
  readonly #sendFile: SendFile;

  constructor(
    agreed: Agreement<NbdExport>,
    memory: ServerMemory,
    { send, sendFile }: { send: Send; sendFile: SendFile },
  ) {
    this.#agreed = agreed;
    this.#memory = memory;
    this.#send = send;
    this.#sendFile = sendFile;
  }

  /** Answers that the request is refused. */
  refuse(request: NbdRequest, refusal: Refusal): Answer<void> {
    return this.#send(encodeFailure(request, refusal, this.#agreed.structured));
  }

  /** Carries out a checked request without data, and answers it. Throws or rejects when the reply could not be sent. */
  answer(request: NbdRequest): Answer<void> {
    if (request.type === command.read) return this.#read(request);
    if (request.type === command.blockStatus) return this.#blockStatus(request);
    return this.finish(request, () => this.#carryOut(request));
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
  finish(request: NbdRequest, body: () => Answer<void>): Answer<void> {
    const words = wordsFor[request.type] ?? "request failed";
    return andThen(refusalOf(body, words), (refusal) =>
      refusal ? this.refuse(request, refusal) : this.#send(encodeSimpleReply(request.cookie)),
    );
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

  #read(request: NbdRequest): Answer<void> {
    // The protocol speaks of FUA for writes; who asks it of a read gets what QEMU gives.
    if (request.flags & commandFlag.fua)
      return andThen(
        refusalOf(() => this.flush(), "flush failed"),
        (refusal) => (refusal ? this.refuse(request, refusal) : this.#readFlushed(request)),
      );
    return this.#readFlushed(request);
  }

  #readFlushed(request: NbdRequest): Answer<void> {
    const { structured } = this.#agreed;
    if (structured && request.length === 0) return this.#send(encodeDone(request.cookie));
    return rescue(
      () =>
        structured && !(request.flags & commandFlag.df)
          ? this.#readByExtents(request)
          : this.#readWhole(request),
      (error) => {
        if (error instanceof ConnectionGone) throw error;
        return this.refuse(request, failureOf(error, "reading from file failed"));
      },
    );
  }

  /** In one piece: a simple reply, or a single chunk. */
  #readWhole({ offset, length, cookie }: NbdRequest): Answer<void> {
    const head = this.#agreed.structured
      ? encodeDataStart({ cookie, done: true }, offset, length)
      : encodeSimpleReply(cookie);
    return this.#sendData(head, { offset, bytes: length });
  }

  /** Reads, and sends a head and the data behind it; long ones that lie in a file without reading them. */
  #sendData(head: Uint8Array, { offset, bytes }: ByteRange): Answer<void> {
    const lent =
      bytes >= SMALL_PIECE_BYTES &&
      lend(this.#backend, { offset, bytes }, (range) => this.#sendFile(head, range));
    if (lent !== false) return lent;
    return andThen(this.borrow(bytes), (loan) =>
      ending(
        () => andThen(this.#backend.pread(offset, loan.data), () => this.#send(loan.headed(head, bytes))),
        () => loan.end(),
      ),
    );
  }

  /** Chunk by chunk: holes as holes. What fails ends the reply with an error, whatever was sent before. */
  #readByExtents({ offset, length, cookie }: NbdRequest): Answer<void> {
    const end = offset + length;
    let at = offset;
    return repeat(() =>
      andThen(this.#backend.status(at, end - at), ({ bytes, zero }) => {
        const range = { offset: at, bytes };
        at += bytes;
        const place = { cookie, done: at === end };
        const sent = zero ? this.#send(encodeHole(place, range.offset, bytes)) : this.#readData(place, range);
        return andThen(sent, () => at < end);
      }),
    );
  }

  /** Chunks of data of one range; `place.done` is for the last of them. */
  #readData({ cookie, done }: ChunkPlace, { offset, bytes }: ByteRange): Answer<void> {
    const end = offset + bytes;
    let at = offset;
    return repeat(() => {
      const piece = { offset: at, bytes: Math.min(PIECE_BYTES, end - at) };
      at += piece.bytes;
      const head = encodeDataStart({ cookie, done: done && at === end }, piece.offset, piece.bytes);
      return andThen(this.#sendData(head, piece), () => at < end);
    });
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
const wordsFor: Partial<Record<number, string>> = {
  [command.write]: "writing to file failed",
  [command.writeZeroes]: "writing to file failed",
  [command.flush]: "flush failed",
  [command.trim]: "discard failed",
  [command.cache]: "caching data failed",
};
