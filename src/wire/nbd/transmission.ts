/**
 * The transmission: requests, simple replies, and structured replies in chunks. Data itself is not copied: an encoder makes what
 * precedes it, and a decoder says how much follows.
 *
 * Decoders of parts of fixed length throw (EINVAL) for a wrong magic, after which nothing more can be understood.
 * Source: doc/proto.md, "Transmission", "Structured replies".
 */
import type { Errno } from "../../base/errno.ts";
import { limits } from "../../base/limits.ts";
import { Fields, message, utf8 } from "./bytes.ts";
import {
  CHUNK_DONE,
  CHUNK_HEADER_BYTES,
  CHUNK_MAGIC,
  chunk,
  REQUEST_BYTES,
  REQUEST_MAGIC,
  SIMPLE_REPLY_MAGIC,
} from "./constants.ts";
import { errnoOfNbd, nbdError, protocolError } from "./errors.ts";

/** A request; a write's data follows it. */
export interface NbdRequest {
  /** commandFlag. */
  readonly flags: number;
  /** command. */
  readonly type: number;
  /** Names the request in its reply. */
  readonly cookie: bigint;
  /** Bytes; no safe integer if the peer sent one above 2^53. */
  readonly offset: number;
  /** Bytes, below 2^32. */
  readonly length: number;
}

/** The 28 bytes of a request. */
export function encodeRequest(request: NbdRequest): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, REQUEST_MAGIC);
  view.setUint16(4, request.flags);
  view.setUint16(6, request.type);
  view.setBigUint64(8, request.cookie);
  view.setBigUint64(16, BigInt(request.offset));
  view.setUint32(24, request.length);
  return bytes;
}

/** A request out of 28 bytes. */
export function decodeRequest(bytes: Uint8Array): NbdRequest {
  const view = new DataView(bytes.buffer, bytes.byteOffset, REQUEST_BYTES);
  if (view.getUint32(0) !== REQUEST_MAGIC)
    throw protocolError(`invalid magic (got 0x${view.getUint32(0).toString(16)})`);
  return {
    flags: view.getUint16(4),
    type: view.getUint16(6),
    cookie: view.getBigUint64(8),
    offset: view.getUint32(16) * 2 ** 32 + view.getUint32(20),
    length: view.getUint32(24),
  };
}

/** The 16 bytes of a simple reply; a read's data follows one without an error. */
export function encodeSimpleReply(cookie: bigint, error?: Errno): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, SIMPLE_REPLY_MAGIC);
  view.setUint32(4, error === undefined ? 0 : nbdError(error));
  view.setBigUint64(8, cookie);
  return bytes;
}

/** The header of a chunk. */
export interface ChunkHeader {
  /** CHUNK_DONE, or 0. */
  readonly flags: number;
  /** chunk. */
  readonly type: number;
  readonly cookie: bigint;
  /** Bytes of the payload. */
  readonly length: number;
}

/** What begins a reply: which of the two it is by its first four bytes, and so how long the header is. Throws for anything else. */
export function replyHeaderBytes(magic: Uint8Array): 16 | 20 {
  const value = new Fields(magic).u32();
  if (value === SIMPLE_REPLY_MAGIC) return 16;
  if (value === CHUNK_MAGIC) return 20;
  throw protocolError(`invalid magic (got 0x${value.toString(16)})`);
}

/** A simple reply out of 16 bytes. */
export function decodeSimpleReply(bytes: Uint8Array): { cookie: bigint; error?: Errno } {
  const fields = new Fields(bytes);
  if (fields.u32() !== SIMPLE_REPLY_MAGIC) throw protocolError("Bad magic of a simple reply");
  const error = fields.u32();
  const cookie = fields.u64();
  return error === 0 ? { cookie } : { cookie, error: errnoOfNbd(error) };
}

/** A chunk's header out of 20 bytes. */
export function decodeChunkHeader(bytes: Uint8Array): ChunkHeader {
  const fields = new Fields(bytes);
  if (fields.u32() !== CHUNK_MAGIC) throw protocolError("Bad magic of a structured reply");
  return { flags: fields.u16(), type: fields.u16(), cookie: fields.u64(), length: fields.u32() };
}

/** Which chunk of which reply. */
export interface ChunkPlace {
  readonly cookie: bigint;
  /** It is the reply's last. */
  readonly done: boolean;
}

/** A header with room for `extra` bytes of the payload, of `length` in all. */
function chunkStart(place: ChunkPlace, type: number, length: number, extra: number): DataView {
  const view = new DataView(new ArrayBuffer(CHUNK_HEADER_BYTES + extra));
  view.setUint32(0, CHUNK_MAGIC);
  view.setUint16(4, place.done ? CHUNK_DONE : 0);
  view.setUint16(6, type);
  view.setBigUint64(8, place.cookie);
  view.setUint32(16, length);
  return view;
}

function bytesOf(view: DataView): Uint8Array {
  return new Uint8Array(view.buffer);
}

/** The chunk that ends a reply and says nothing. */
export function encodeDone(cookie: bigint): Uint8Array {
  return bytesOf(chunkStart({ cookie, done: true }, chunk.none, 0, 0));
}

/** What precedes `length` bytes of data from `offset`. */
export function encodeDataStart(place: ChunkPlace, offset: number, length: number): Uint8Array {
  const view = chunkStart(place, chunk.offsetData, 8 + length, 8);
  view.setBigUint64(CHUNK_HEADER_BYTES, BigInt(offset));
  return bytesOf(view);
}

/** A chunk that says that a range reads as zeroes. */
export function encodeHole(place: ChunkPlace, offset: number, length: number): Uint8Array {
  const view = chunkStart(place, chunk.offsetHole, 12, 12);
  view.setBigUint64(CHUNK_HEADER_BYTES, BigInt(offset));
  view.setUint32(CHUNK_HEADER_BYTES + 8, length);
  return bytesOf(view);
}

/** A chunk that says that a request failed; `offset`: where. A text that is too long is cut. */
export function encodeError(
  place: ChunkPlace,
  failure: { code: Errno; text?: string; offset?: number },
): Uint8Array {
  const text = utf8(failure.text ?? "").subarray(0, limits.nbdMaxStringBytes);
  const at = failure.offset === undefined ? new Uint8Array(0) : message([64, failure.offset]);
  const type = failure.offset === undefined ? chunk.error : chunk.errorOffset;
  const payload = message([32, nbdError(failure.code)], [16, text.byteLength], text, at);
  return message(bytesOf(chunkStart(place, type, payload.byteLength, 0)), payload);
}

/** An extent of a block status: bytes, and what its context says of them. */
export interface StatusExtent {
  readonly length: number;
  readonly flags: number;
}

/** A chunk with the extents of one context, from the request's offset on. */
export function encodeBlockStatus(
  place: ChunkPlace,
  context: number,
  extents: readonly StatusExtent[],
): Uint8Array {
  const length = 4 + extents.length * 8;
  const view = chunkStart(place, chunk.blockStatus, length, length);
  let at = CHUNK_HEADER_BYTES;
  view.setUint32(at, context);
  for (const extent of extents) {
    view.setUint32((at += 4), extent.length);
    view.setUint32((at += 4), extent.flags);
  }
  return bytesOf(view);
}

/** The payload of a block status. Throws for one of no extents, of half an extent, or with an empty extent. */
export function decodeBlockStatus(payload: Uint8Array): { context: number; extents: StatusExtent[] } {
  const fields = new Fields(payload);
  const context = fields.u32();
  if (fields.left === 0 || fields.left % 8 !== 0)
    throw protocolError("Protocol error: invalid payload for NBD_REPLY_TYPE_BLOCK_STATUS");
  const count = fields.left / 8;
  if (count > limits.nbdMaxStatusExtents) throw protocolError("Too many extents in one reply");
  const extents = Array.from({ length: count }, () => ({ length: fields.u32(), flags: fields.u32() }));
  if (extents.some((extent) => extent.length === 0))
    throw protocolError("Protocol error: server sent status chunk with zero length");
  return { context, extents };
}

/** The payload of a hole: its range; the offset may be no safe integer. */
export function decodeHole(payload: Uint8Array): { offset: number; length: number } {
  const fields = new Fields(payload);
  const hole = { offset: fields.size(), length: fields.u32() };
  fields.end();
  return hole;
}

/** The offset of data out of the payload's first 8 bytes; it may be no safe integer. */
export function decodeDataOffset(start: Uint8Array): number {
  return new Fields(start).size();
}

/** The payload of an error of type `type`, which may be one that is not known here: its beginning is always the same. */
export function decodeError(
  type: number,
  payload: Uint8Array,
): { code: Errno; text: string; offset?: number } {
  const fields = new Fields(payload);
  const number = fields.u32();
  if (number === 0) throw protocolError("Protocol error: server sent structured error chunk with error = 0");
  const text = fields.text(fields.u16());
  const code = errnoOfNbd(number);
  if (type !== chunk.errorOffset) return { code, text };
  const offset = fields.size();
  fields.end();
  return { code, text, offset };
}
