// What the benches copy.
import { closeSync, openSync, writeSync } from "node:fs";

/** Makes a disk of so many MiB of incompressible bytes without holes, the same each time. */
export function makeDisk(path: string, mebibytes: number): void {
  const fd = openSync(path, "w");
  const block = new Uint32Array(1 << 18);
  let state = 88_172_645;
  for (let i = 0; i < mebibytes; i++) {
    for (let word = 0; word < block.length; word++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      block[word] = state;
    }
    writeSync(fd, new Uint8Array(block.buffer));
  }
  closeSync(fd);
}
