/**
 * Repeatable noise in plain TypeScript: the words of assembly/noise.ts, one by one. Word i of a stream is a mix of its
 * number and of a key of 64 bits.
 */

/** Where a piece of noise comes from. */
export interface NoiseKey {
  /** 0 … 2^32-1. */
  readonly low: number;
  /** 0 … 2^32-1. */
  readonly high: number;
}

/** One word, 0 … 2^32-1. */
export function noiseWord({ low, high }: NoiseKey, at: number): number {
  let x = (Math.imul(at, 0x9e3779b1) + low) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  x = ((x ^ (x >>> 16)) + high) | 0;
  x = Math.imul(x ^ (x >>> 17), 0xed5ad4bb);
  x = Math.imul(x ^ (x >>> 11), 0xac4c1b51);
  return (x ^ (x >>> 15)) >>> 0;
}

/** Fills `bytes` with the words from number `at` on, little-endian; the last one may be cut. */
export function twinNoise(bytes: Uint8Array, key: NoiseKey, at: number): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const whole = bytes.length & ~3;
  for (let i = 0; i < whole; i += 4) view.setUint32(i, noiseWord(key, at + (i >>> 2)), true);
  const last = noiseWord(key, at + (whole >>> 2));
  for (let i = whole; i < bytes.length; i++) bytes[i] = last >>> (8 * (i - whole));
}
