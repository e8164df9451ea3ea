/** What the kernels' tests share: reproducible bytes, and a copy of them in the arena's memory. */
import type { Kernels } from "../../../src/kernels/kernels.ts";

/** `length` bytes of xorshift32 noise. */
export function noise(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = (seed * 2654435761 + 12345) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state >>> 11;
  }
  return bytes;
}

/** A copy of `source` at byte `offset` of the kernels' area, with bytes of 0xa5 on both sides. */
export function placed(kernels: Kernels, source: Uint8Array, offset: number): Uint8Array<ArrayBuffer> {
  const { buffer, start } = kernels.area;
  new Uint8Array(buffer, start, offset + source.length + 64).fill(0xa5);
  const view = new Uint8Array(buffer, start + offset, source.length);
  view.set(source);
  return view;
}
