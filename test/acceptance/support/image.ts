// Images that the acceptance tests serve.

/** `bytes` bytes that look random, the same each time; no sector is like another, and none is zero. */
export function diskImage(bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(bytes / 4);
  let state = seed;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer);
}
