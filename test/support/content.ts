// Contents for tests, in Node and in browsers: no two places of a disk are alike, and none is like another seed's.

/** `bytes` bytes, a multiple of 4; each 32-bit word differs from its neighbours. */
export function contentOf(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + seed * 0x1234567, 0x9e3779b1) >>> 0;
  return new Uint8Array(words.buffer);
}

/** pattern(65536, 3) of the unit tests, packed by zstd 1.5.4 with a checksum, in base64. */
export const zstdFrame =
  "KLUv/WQA/00IAAQIAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OT" +
  "o7PD0+P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5fYGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9" +
  "fn+AgYKAgFQBACz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/P" +
  "z8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8/Pz8" +
  "/Pz8/AHf1P3R";
