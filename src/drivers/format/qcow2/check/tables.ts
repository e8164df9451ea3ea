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
    await file.pread(offset + done, bytes.subarray(0, part));
    for (let at = 0; at < part; at += 8) {
      const high = view.getUint32(at);
      const low = view.getUint32(at + 4);
      if ((high | low) === 0) continue;
      const waiting = entry(high, low, (done + at) / 8);
      if (waiting) await waiting;
    }
  }
}
