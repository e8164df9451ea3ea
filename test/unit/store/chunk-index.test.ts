// The table of blobs: what thousands of entries in many packs are found by, whatever order the packs come in.
import { expect, test } from "vitest";
import { ChunkIndex } from "../../../src/store/chunk-index.ts";
import { PackIndex, WORDS_OF_ENTRY } from "../../../src/store/pack.ts";
import { Random } from "./support.ts";

const ENTRY_BYTES = 4 * WORDS_OF_ENTRY;

/** A pack of so many random blobs; blob `n` lies at offset `n`. */
function packOf(name: string, blobs: number, random: Random): PackIndex {
  const entries = random.bytes(blobs * ENTRY_BYTES).slice();
  const view = new DataView(entries.buffer);
  for (let n = 0; n < blobs; n += 1) view.setUint32(n * ENTRY_BYTES + 40, n, true);
  return new PackIndex(name, entries);
}

test("each blob is found in the first pack that has it, however the table grows", () => {
  const random = new Random(5);
  const packs = [300, 0, 1, 2500, 700].map((blobs, at) => packOf(`packs/${at}`, blobs, random));
  const copy = new PackIndex("packs/copy", random.bytes(10 * ENTRY_BYTES).slice());
  for (let n = 0; n < 10; n += 1) copy.hash(n).set(packs[3]!.hash(7 * n));
  for (const parts of [
    [[...packs, copy]],
    [...packs, copy].map((pack) => [pack]),
    [packs.slice(0, 2), [...packs.slice(2), copy]],
  ]) {
    const index = new ChunkIndex();
    for (const part of parts) index.add(part);
    expect(index.size).toBe(3511);
    for (const pack of packs)
      for (let n = 0; n < pack.count; n += 1) {
        const found = index.find(pack.hash(n));
        if (found?.pack !== pack.name || found.offset !== n)
          expect([found?.pack, found?.offset]).toEqual([pack.name, n]);
      }
    const unknown = packs[0]!.hash(0).slice();
    unknown[31]! ^= 1;
    expect([index.find(unknown), index.numberOf(unknown), index.has(copy.hash(3))]).toEqual([
      undefined,
      undefined,
      true,
    ]);
    expect(() => index.require(unknown)).toThrow(/is missing/);
  }
});
