// Blocks that are looked for by their digests.
import { expect, test } from "vitest";
import { BlockTable } from "../../../src/store/block-table.ts";
import { randomness } from "../../support/random.ts";

test("of equal blocks the first counts, however the table grew, and zeroes are nowhere", () => {
  const random = randomness(1);
  const known = new Map<number, { owner: number; block: number }>();
  const small = new BlockTable();
  const roomy = new BlockTable();
  roomy.reserve(5000);
  for (let owner = -200; owner < 200; owner += 1) {
    // Some of them lie in one slot at first.
    const digests = Uint32Array.from({ length: 16 }, () => random(4) * 2 ** 30 + random(1000));
    for (const table of [small, roomy]) table.add(owner, digests);
    for (const [block, digest] of digests.entries())
      if (digest !== 0 && !known.has(digest)) known.set(digest, { owner, block });
  }
  for (const table of [small, roomy]) {
    for (const [digest, place] of known) expect(table.find(digest)).toEqual(place);
    expect(table.find(0)).toBeUndefined();
    expect(table.count(Uint32Array.of(0, 2000, ...known.keys()))).toBe(known.size);
  }
});

test("beyond what it may hold nothing is", () => {
  const table = new BlockTable();
  const digests = new Uint32Array(2 ** 21);
  table.add(1, digests.fill(5));
  expect(table.isFull).toBe(false);
  table.add(2, digests.fill(6));
  expect(table.isFull).toBe(true);
  table.add(3, Uint32Array.of(7));
  expect([5, 6, 7].map((digest) => table.find(digest)?.owner)).toEqual([1, 2, undefined]);
});
