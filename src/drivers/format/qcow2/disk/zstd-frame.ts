/**
 * Finds the end of the zstd frame at the start of a compressed cluster: what follows up to the sector's end is junk, which
 * decoders take for another frame. Checks the sizes that a decoder would allocate by. Source: RFC 8878, section 3.1.1.
 */
import { blockError } from "../../../../base/errors.ts";
import { limits } from "../../../../base/limits.ts";

const MAGIC = 0xfd2fb528;
const DICTIONARY_BYTES = [0, 1, 2, 4] as const;
const CONTENT_BYTES = [0, 2, 4, 8] as const;
const RLE = 1;
const RESERVED = 3;

function damaged(): never {
  throw blockError("EIO", "pread", "a compressed cluster is damaged");
}

/** The bytes of the frame at the start of `input`, which may give at most `most` bytes. Throws EIO if it is none. */
export function zstdFrameBytes(input: Uint8Array, most: number): number {
  // Reads behind the end are checked once, by the result.
  const byte = (at: number): number => input[at] ?? 0;
  const number = (at: number, bytes: number): number => {
    let value = 0;
    for (let index = bytes - 1; index >= 0; index--) value = value * 256 + byte(at + index);
    return value;
  };
  const descriptor = byte(4);
  const isSingle = (descriptor & 0x20) !== 0;
  if (number(0, 4) !== MAGIC || (descriptor & 0x08) !== 0) damaged();
  let at = 5;
  if (!isSingle) {
    const window = byte(at++);
    const base = 2 ** (10 + (window >> 3));
    if (base + (base / 8) * (window & 7) > limits.zstdMaxWindowBytes) damaged();
  }
  const dictionaryBytes = DICTIONARY_BYTES[(descriptor & 3) as 0 | 1 | 2 | 3];
  if (number(at, dictionaryBytes) !== 0) damaged();
  at += dictionaryBytes;
  const flag = (descriptor >> 6) as 0 | 1 | 2 | 3;
  const contentBytes = flag === 0 && isSingle ? 1 : CONTENT_BYTES[flag];
  if (number(at, contentBytes) + (contentBytes === 2 ? 256 : 0) > most) damaged();
  at += contentBytes;
  for (let isLast = false; !isLast && at < input.byteLength;) {
    const header = number(at, 3);
    const type = (header >> 1) & 3;
    if (type === RESERVED || header >> 3 > most) damaged();
    isLast = (header & 1) !== 0;
    at += 3 + (type === RLE ? 1 : header >> 3);
    if (isLast && descriptor & 4) at += 4;
    if (isLast && at <= input.byteLength) return at;
  }
  return damaged();
}
