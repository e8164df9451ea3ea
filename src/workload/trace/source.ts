/**
 * The bytes of a recording, read from the begin as often as that is asked for, a piece at a time: a recording may be longer than
 * memory.
 */

/** Reads a recording's bytes from the begin on. A piece is not kept by who reads it. */
export type RecordingBytes = () => Iterable<Uint8Array>;

/** Bytes that are in memory. */
export function bytesInMemory(bytes: Uint8Array): RecordingBytes {
  return () => [bytes];
}

/** The first bytes, so many or all that there are. */
export function firstBytes(source: RecordingBytes, count: number): Uint8Array {
  const first = new Uint8Array(count);
  let have = 0;
  for (const piece of source()) {
    const part = piece.subarray(0, count - have);
    first.set(part, have);
    have += part.length;
    if (have === count) break;
  }
  return first.subarray(0, have);
}

/** The lines of a text, without their ends. */
export function* linesOf(source: RecordingBytes): Generator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for (const piece of source()) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}

/** Takes bytes off a source in blocks of any length. */
export class BlockReader {
  readonly #pieces: Iterator<Uint8Array>;
  #piece = new Uint8Array(0);

  constructor(source: RecordingBytes) {
    this.#pieces = source()[Symbol.iterator]();
  }

  /** The next bytes, a copy; shorter only where the source ends. */
  take(count: number): Uint8Array {
    const block = new Uint8Array(count);
    let have = 0;
    while (have < count && this.#fetch()) {
      const part = this.#piece.subarray(0, count - have);
      block.set(part, have);
      have += part.length;
      this.#piece = this.#piece.subarray(part.length);
    }
    return block.subarray(0, have);
  }

  #fetch(): boolean {
    while (this.#piece.length === 0) {
      const next = this.#pieces.next();
      if (next.done) return false;
      this.#piece = next.value as Uint8Array<ArrayBuffer>;
    }
    return true;
  }
}
