/** Reading the tables of an image that is checked, piece by piece. Source: qcow2.txt. */
import type { Walk } from "./inspected.ts";

const CHUNK_BYTES = 65536;

/** A table of 64-bit entries in the file. */
export interface TablePlace {
  readonly offset: number;
  readonly entries: number;
}

/** Up to 16 hexadecimal digits, as QEMU prints table entries. */
export function hex(high: number, low: number): string {
  return (BigInt(high >>> 0) * 2n ** 32n + BigInt(low >>> 0)).toString(16);
}

/** Where the first entry of `bytes` at `from` or behind it lies that is not 0, in an array that begins at a multiple of 4; or the end. */
export function nextEntry(bytes: Uint8Array, from: number): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength >>> 2);
  let index = from >>> 2;
  while (index < words.length && words[index] === 0) index += 1;
  return (index >>> 1) * 8;
}

/** Calls `entry` for each entry of a table that is not 0. What lies outside of the file counts as 0. */
export async function forEachEntry(
  walk: Walk,
  { offset, entries }: TablePlace,
  entry: (high: number, low: number, index: number) => Promise<void> | void,
): Promise<void> {
  const { file } = walk.image;
  const within = Math.min(entries * 8, Math.max(0, file.length - offset));
  const bytes = new Uint8Array(Math.min(CHUNK_BYTES, entries * 8));
  const view = new DataView(bytes.buffer);
  for (let done = 0; done < within; done += bytes.byteLength) {
    const part = Math.min(bytes.byteLength, entries * 8 - done);
    walk.spend(part);
    const table = bytes.subarray(0, part);
    await file.pread(offset + done, table);
    for (let at = nextEntry(table, 0); at < part; at = nextEntry(table, at + 8)) {
      const waiting = entry(view.getUint32(at), view.getUint32(at + 4), (done + at) / 8);
      if (waiting) await waiting;
    }
  }
}
