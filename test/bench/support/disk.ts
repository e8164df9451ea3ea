/** What the benches copy. */
import { closeSync, openSync, writeSync } from "node:fs";

/** Noise that does not compress, the same each time: a function that fills words and goes on where it was. */
export function noiseWords(): (words: Uint32Array) => void {
  let state = 88_172_645;
  return (words) => {
    for (let word = 0; word < words.length; word++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[word] = state;
    }
  };
}

/** Makes a disk of so many MiB of incompressible bytes without holes, the same each time. */
export function makeDisk(path: string, mebibytes: number): void {
  const fd = openSync(path, "w");
  const block = new Uint32Array(1 << 18);
  const fill = noiseWords();
  for (let i = 0; i < mebibytes; i++) {
    fill(block);
    writeSync(fd, new Uint8Array(block.buffer));
  }
  closeSync(fd);
}
