/**
 * Big-endian fields: a cursor that reads them from a whole message and refuses to go beyond it, a function that puts a message
 * together, and a queue that makes messages of whatever pieces a connection delivers.
 *
 * Invariant: nothing here allocates by a number that a peer sent before that many bytes are there.
 */
import { protocolError } from "./errors.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A string as bytes. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Reads the fields of one message in their order. Throws (EINVAL) beyond its end. */
export class Fields {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#bytes.byteLength - this.#at;
  }

  #next(bytes: number): number {
    if (bytes > this.left) throw protocolError("The message is too short");
    const at = this.#at;
    this.#at += bytes;
    return at;
  }

  u16(): number {
    return this.#view.getUint16(this.#next(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#next(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#next(8));
  }

  /** A 64-bit size or offset as a number, which is no safe integer if it is above 2^53: to be compared with a limit. */
  size(): number {
    const at = this.#next(8);
    return this.#view.getUint32(at) * 2 ** 32 + this.#view.getUint32(at + 4);
  }

  /** So many bytes; a view of the message. */
  bytes(count: number): Uint8Array {
    const at = this.#next(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** So many bytes as text. Throws for what is no UTF-8, or has a NUL in it. */
  text(count: number): string {
    const bytes = this.bytes(count);
    let text: string;
    try {
      text = decoder.decode(bytes);
    } catch {
      throw protocolError("A string is no UTF-8");
    }
    if (text.includes("\0")) throw protocolError("A string has a NUL in it");
    return text;
  }

  /** Throws if something is left. */
  end(): void {
    if (this.left > 0) throw protocolError("The message is too long");
  }
}

/** A field: [bits, value], or bytes as they are. */
export type Field = readonly [16 | 32, number] | readonly [64, number | bigint] | Uint8Array;

/** A message of these fields, one after the other. Numbers of 64 bits are safe integers or bigints. */
export function message(...fields: readonly Field[]): Uint8Array {
  const length = fields.reduce(
    (sum, field) => sum + (field instanceof Uint8Array ? field.byteLength : field[0] / 8),
    0,
  );
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const field of fields) {
    if (field instanceof Uint8Array) {
      bytes.set(field, at);
      at += field.byteLength;
      continue;
    }
    const [bits, value] = field;
    if (bits === 16) view.setUint16(at, value);
    else if (bits === 32) view.setUint32(at, value);
    else view.setBigUint64(at, BigInt(value));
    at += bits / 8;
  }
  return bytes;
}

/** What has come and was not taken yet. Pieces are kept as they came: whoever reuses a piece's memory must copy it first. */
export class Inbox {
  #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** Bytes that are there. */
  get length(): number {
    return this.#bytes;
  }

  push(piece: Uint8Array): void {
    if (piece.byteLength === 0) return;
    this.#pieces.push(piece);
    this.#bytes += piece.byteLength;
  }

  /** The next `count` bytes in one piece, a view where they came in one; undefined: they are not all there, and none is taken. */
  take(count: number): Uint8Array | undefined {
    if (count > this.#bytes) return undefined;
    const first = this.#pieces[0];
    if (count === 0 || !first) return new Uint8Array(0);
    if (first.byteLength < count) {
      const whole = new Uint8Array(count);
      this.takeInto(whole);
      return whole;
    }
    this.#advance(first, count);
    return first.subarray(0, count);
  }

  /** Fills `target` as far as there are bytes; returns how many. */
  takeInto(target: Uint8Array): number {
    let at = 0;
    while (at < target.byteLength) {
      const first = this.#pieces[0];
      if (!first) break;
      const count = Math.min(first.byteLength, target.byteLength - at);
      target.set(count === first.byteLength ? first : first.subarray(0, count), at);
      this.#advance(first, count);
      at += count;
    }
    return at;
  }

  /** Copies what is left of the piece that was pushed last, whose memory is used again. */
  keep(): void {
    const last = this.#pieces.pop();
    if (last) this.#pieces.push(last.slice());
  }

  /** Throws away up to `count` bytes; returns how many. */
  skip(count: number): number {
    let left = count;
    while (left > 0) {
      const first = this.#pieces[0];
      if (!first) break;
      const part = Math.min(first.byteLength, left);
      this.#advance(first, part);
      left -= part;
    }
    return count - left;
  }

  /** Throws away all there is. */
  clear(): void {
    this.#pieces = [];
    this.#bytes = 0;
  }

  #advance(first: Uint8Array, count: number): void {
    this.#bytes -= count;
    if (count === first.byteLength) this.#pieces.shift();
    else this.#pieces[0] = first.subarray(count);
  }
}
