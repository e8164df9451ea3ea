// Contents for tests, in Node and in browsers: no two places of a disk are alike, and none is like another seed's.

/** `bytes` bytes, a multiple of 4; each 32-bit word differs from its neighbours. */
export function contentOf(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + seed * 0x1234567, 0x9e3779b1) >>> 0;
  return new Uint8Array(words.buffer);
}
