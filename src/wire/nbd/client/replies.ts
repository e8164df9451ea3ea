/**
 * The client's side of the transmission: takes what comes, finds the request that each reply is for, and puts data straight
 * into the memory that waits for it. No I/O. Its states are named after libnbd's.
 *
 * Invariants: nothing is kept of data; what is kept of other payloads is bounded; a byte of a read is taken once, and a read is
 * over when all of its bytes have come; a reply that nobody asked for, and every other breach of the protocol, throws, and nothing
 * that comes after it is looked at.
 * Source: doc/proto.md, "Transmission"; words of QEMU 7.2 where it has some.
 */
import { assert } from "../../../base/assert.ts";
import type { Errno } from "../../../base/errno.ts";
import { KiB, limits } from "../../../base/limits.ts";
import {
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  chunk,
  chunkWord,
  command,
  commandWord,
  isErrorChunk,
  SIMPLE_REPLY_BYTES,
} from "../constants.ts";
import { protocolError } from "../errors.ts";
import {
  type ChunkHeader,
  decodeBlockStatus,
  decodeChunkHeader,
  decodeDataOffset,
  decodeError,
  decodeHole,
  decodeSimpleReply,
  replyHeaderBytes,
  type StatusExtent,
} from "../transmission.ts";
import { Coverage } from "./coverage.ts";

/** A request that waits for its reply. */
export interface Awaited {
  /** command. */
  readonly type: number;
  readonly offset: number;
  readonly length: number;
  /** Where a read's data goes. */
  readonly buffer?: Uint8Array | undefined;
}

/** A reply, when all of it is here. */
export interface Reply {
  /** The server could not do it. */
  readonly error?: Errno;
  /** What it said of that. */
  readonly text?: string;
  /** The first extent of a block status. */
  readonly extent?: StatusExtent;
}

/** Who asked. */
export interface Asker {
  /** The request of that cookie which waits; undefined: none does. */
  find(cookie: bigint): Awaited | undefined;
  /** The request of that cookie is over. */
  finish(cookie: bigint, reply: Reply): void;
}

/** What is known of a structured reply, of which the end has not come. */
interface Partial {
  coverage?: Coverage;
  error?: Errno;
  text?: string;
  extent?: StatusExtent;
}

/** Where the stream of replies is. */
export type ReplyState =
  | "REPLY.START"
  | "REPLY.RECV_REPLY"
  | "REPLY.SIMPLE_REPLY.RECV_READ_PAYLOAD"
  | "REPLY.CHUNK_REPLY.RECV_PAYLOAD"
  | "REPLY.CHUNK_REPLY.RECV_OFFSET"
  | "REPLY.CHUNK_REPLY.RECV_OFFSET_DATA";

/** Less is read together with what follows it. */
const PLACED_BYTES = 64 * KiB;
const MAGIC_BYTES = 4;
const OFFSET_BYTES = 8;
const MAX_ERROR_BYTES = 4 + 2 + limits.nbdMaxStringBytes + 8;

/** Reads replies out of pieces of any size. */
export class ReplyReader {
  readonly #asker: Asker;
  readonly #structured: boolean;
  readonly #contextId: number | undefined;
  readonly #partial = new Map<bigint, Partial>();
  readonly #head = new Uint8Array(CHUNK_HEADER_BYTES);
  #state: ReplyState = "REPLY.START";
  /** What is being filled, and how far it is. */
  #target: Uint8Array;
  #at = 0;
  #header: ChunkHeader = { flags: 0, type: 0, cookie: 0n, length: 0 };

  constructor(asker: Asker, agreed: { structuredReplies: boolean; contextId: number | undefined }) {
    this.#asker = asker;
    this.#structured = agreed.structuredReplies;
    this.#contextId = agreed.contextId;
    this.#target = this.#head.subarray(0, MAGIC_BYTES);
  }

  get state(): ReplyState {
    return this.#state;
  }

  /** Takes what came. Throws protocolError(). */
  push(piece: Uint8Array): void {
    let from = 0;
    while (from < piece.byteLength) {
      const target = this.#target;
      const count = Math.min(piece.byteLength - from, target.byteLength - this.#at);
      assert(count > 0, "a part of a reply has bytes");
      target.set(
        from === 0 && count === piece.byteLength ? piece : piece.subarray(from, from + count),
        this.#at,
      );
      from += count;
      this.#at += count;
      if (this.#at === target.byteLength) this.#filled(target);
    }
  }

  /** The memory for what comes next, where that is data, and much of it: for whoever can put it there. */
  place(): Uint8Array | undefined {
    const isData =
      this.#state === "REPLY.CHUNK_REPLY.RECV_OFFSET_DATA" ||
      this.#state === "REPLY.SIMPLE_REPLY.RECV_READ_PAYLOAD";
    const left = this.#target.byteLength - this.#at;
    return isData && left >= PLACED_BYTES ? this.#target.subarray(this.#at) : undefined;
  }

  /** So many bytes were put into that memory. Throws as push(). */
  placed(count: number): void {
    const target = this.#target;
    this.#at += count;
    assert(this.#at <= target.byteLength, "no more was put into a place than it has room for");
    if (this.#at === target.byteLength) this.#filled(target);
  }

  #receive(state: ReplyState, target: Uint8Array): void {
    this.#state = state;
    this.#target = target;
    this.#at = 0;
  }

  #start(): void {
    this.#receive("REPLY.START", this.#head.subarray(0, MAGIC_BYTES));
  }

  #filled(target: Uint8Array): void {
    switch (this.#state) {
      case "REPLY.START": {
        const bytes = replyHeaderBytes(target);
        this.#receive("REPLY.RECV_REPLY", this.#head.subarray(0, bytes));
        this.#at = MAGIC_BYTES;
        return;
      }
      case "REPLY.RECV_REPLY":
        return target.byteLength === SIMPLE_REPLY_BYTES ? this.#simple(target) : this.#chunk(target);
      case "REPLY.SIMPLE_REPLY.RECV_READ_PAYLOAD":
        return this.#end(this.#header.cookie, {});
      case "REPLY.CHUNK_REPLY.RECV_OFFSET":
        return this.#data(decodeDataOffset(target));
      case "REPLY.CHUNK_REPLY.RECV_OFFSET_DATA":
        return this.#chunkDone();
      case "REPLY.CHUNK_REPLY.RECV_PAYLOAD":
        this.#payload(target);
        return this.#chunkDone();
    }
  }

  #find(cookie: bigint): Awaited {
    const request = this.#asker.find(cookie);
    if (!request) throw protocolError(`the server replied to a request that was not sent (cookie ${cookie})`);
    return request;
  }

  #simple(bytes: Uint8Array): void {
    const { cookie, error } = decodeSimpleReply(bytes);
    const request = this.#find(cookie);
    if (this.#partial.has(cookie))
      throw protocolError("Protocol error: simple reply within a structured one");
    if (error !== undefined) return this.#end(cookie, { error });
    const { buffer } = request;
    if (request.type === command.blockStatus)
      throw protocolError("Protocol error: simple reply when structured reply chunk was expected");
    if (!buffer || buffer.byteLength === 0) return this.#end(cookie, {});
    if (this.#structured)
      throw protocolError("Protocol error: simple reply when structured reply chunk was expected");
    this.#header = { flags: CHUNK_DONE, type: 0, cookie, length: 0 };
    this.#receive("REPLY.SIMPLE_REPLY.RECV_READ_PAYLOAD", buffer);
  }

  #chunk(bytes: Uint8Array): void {
    if (!this.#structured)
      throw protocolError("Protocol error: structured reply chunk when only simple replies were agreed on");
    const header = decodeChunkHeader(bytes);
    this.#header = header;
    const request = this.#find(header.cookie);
    checkChunk(header, request);
    if (header.type === chunk.offsetData)
      return this.#receive("REPLY.CHUNK_REPLY.RECV_OFFSET", this.#head.subarray(0, OFFSET_BYTES));
    if (header.length === 0) return this.#chunkDone();
    this.#receive("REPLY.CHUNK_REPLY.RECV_PAYLOAD", new Uint8Array(header.length));
  }

  #partialOf(cookie: bigint): Partial {
    let partial = this.#partial.get(cookie);
    if (!partial) this.#partial.set(cookie, (partial = {}));
    return partial;
  }

  /** Where a chunk's data goes. Throws for what lies outside the request, or came already. */
  #place(offset: number, bytes: number): Uint8Array {
    const request = this.#find(this.#header.cookie);
    const { buffer } = request;
    const at = offset - request.offset;
    if (!buffer || !(at >= 0) || !(at + bytes <= buffer.byteLength))
      throw protocolError("Protocol error: server sent chunk exceeding requested region");
    const partial = this.#partialOf(this.#header.cookie);
    const isNew = (partial.coverage ??= new Coverage()).add(at, bytes);
    if (!isNew) throw protocolError("Protocol error: server sent overlapping chunks");
    return buffer.subarray(at, at + bytes);
  }

  #data(offset: number): void {
    const place = this.#place(offset, this.#header.length - OFFSET_BYTES);
    this.#receive("REPLY.CHUNK_REPLY.RECV_OFFSET_DATA", place);
  }

  #payload(payload: Uint8Array): void {
    const { type, cookie } = this.#header;
    if (isErrorChunk(type)) {
      const partial = this.#partialOf(cookie);
      const { code, text } = decodeError(type, payload);
      partial.error ??= code;
      partial.text ??= text;
      return;
    }
    if (type === chunk.offsetHole) {
      const { offset, length } = decodeHole(payload);
      if (length === 0) throw protocolError("Protocol error: server sent hole of no length");
      this.#place(offset, length).fill(0);
      return;
    }
    this.#blockStatus(payload);
  }

  #blockStatus(payload: Uint8Array): void {
    const { cookie } = this.#header;
    const { context, extents } = decodeBlockStatus(payload);
    if (context !== this.#contextId)
      throw protocolError(`Protocol error: unexpected context id ${context} for NBD_REPLY_TYPE_BLOCK_STATUS`);
    const partial = this.#partialOf(cookie);
    if (partial.extent) throw protocolError("Several BLOCK_STATUS chunks in reply");
    partial.extent = extents[0]!;
  }

  #chunkDone(): void {
    const { flags, cookie } = this.#header;
    if ((flags & CHUNK_DONE) === 0) return this.#start();
    const request = this.#find(cookie);
    const { error, text, extent, coverage } = this.#partial.get(cookie) ?? {};
    this.#partial.delete(cookie);
    if (error !== undefined) return this.#end(cookie, text ? { error, text } : { error });
    if (request.buffer && (coverage?.bytes ?? 0) !== request.buffer.byteLength)
      throw protocolError("Protocol error: the reply to a read lacks a part of the data");
    if (request.type === command.blockStatus && !extent)
      throw protocolError("Server did not reply with any status extents");
    this.#end(cookie, extent ? { extent } : {});
  }

  #end(cookie: bigint, reply: Reply): void {
    this.#start();
    this.#asker.finish(cookie, reply);
  }
}

/** Throws for a chunk that no reply to the request may have, or whose length cannot be. */
function checkChunk(header: ChunkHeader, request: Awaited): void {
  const { type, length } = header;
  const isData = type === chunk.offsetData || type === chunk.offsetHole;
  const fits =
    type === chunk.none ||
    isErrorChunk(type) ||
    (isData && request.type === command.read) ||
    (type === chunk.blockStatus && request.type === command.blockStatus);
  if (!fits)
    throw protocolError(
      `Unexpected reply type: ${type} (${chunkWord(type)}) for ${request.type} (${commandWord(request.type)})`,
    );
  const wrong = (): never => {
    throw protocolError(`Protocol error: invalid payload length ${length} of a chunk '${chunkWord(type)}'`);
  };
  if (type === chunk.none && (length !== 0 || (header.flags & CHUNK_DONE) === 0)) wrong();
  if (isErrorChunk(type) && (length < 6 || length > MAX_ERROR_BYTES)) wrong();
  if (type === chunk.offsetHole && length !== 12) wrong();
  if (type === chunk.offsetData && (length <= OFFSET_BYTES || length > OFFSET_BYTES + request.length))
    wrong();
  if (type === chunk.blockStatus && (length < 12 || length > 4 + 8 * limits.nbdMaxStatusExtents)) wrong();
}
