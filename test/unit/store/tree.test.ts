// Trees of disks: what is written is what is read, equal ranges share nodes, and what is no node is refused.
import { expect, test } from "vitest";
import { LEAF_BYTES, LeafTable, TreeNode, depthOf } from "../../../src/store/tree.ts";

const GiB = 2 ** 30;

/** Blobs by the text of a made-up hash. */
function blobs() {
  const all = new Map<string, Uint8Array>();
  const key = (hash: Uint8Array): string => hash.join();
  return {
    all,
    write: async (blob: Uint8Array): Promise<Uint8Array> => {
      const hash = new Uint8Array(32);
      blob.forEach((byte, at) => (hash[at % 31] = (hash[at % 31]! * 31 + byte + at) & 255));
      hash[31] = 1;
      all.set(key(hash), blob);
      return hash;
    },
    read: async (hash: Uint8Array): Promise<Uint8Array> => all.get(key(hash))!,
  };
}

function hashOf(leaf: number): Uint8Array {
  return new Uint8Array(32).fill(1 + (leaf % 255));
}

test.each([
  [0, 1],
  [LEAF_BYTES, 1],
  [LEAF_BYTES + 1, 2],
  [64 * LEAF_BYTES, 2],
  [64 * LEAF_BYTES + 1, 3],
  [64 * GiB, 4],
  [64 * 1024 * GiB, 5],
])("a disk of %d bytes has a tree of %d levels", (size, depth) => {
  expect(depthOf(size)).toBe(depth);
});

test.each([LEAF_BYTES, 100 * LEAF_BYTES, 64 * GiB, 4096 * GiB])(
  "the leaves of a disk of %d bytes are read as they were written",
  async (size) => {
    const { write, read } = blobs();
    const leaves = Math.ceil(size / LEAF_BYTES);
    const chosen = new Set([0, 1, 63, 64, 65, 4095, 4096, leaves - 1].filter((leaf) => leaf < leaves));
    const table = new LeafTable();
    for (const leaf of chosen) table.set(leaf, hashOf(leaf));
    const root = await table.save(size, write);
    const again = await LeafTable.load(root, read);
    expect([...again.leaves()].map(({ leaf, hash }) => [leaf, ...hash])).toEqual(
      [...chosen].sort((a, b) => a - b).map((leaf) => [leaf, ...hashOf(leaf)]),
    );
  },
);

test("a tree of nothing has no root", async () => {
  const { write, all } = blobs();
  expect(await new LeafTable().save(64 * GiB, write)).toEqual({ hash: undefined, depth: 4 });
  expect(all.size).toBe(0);
});

test("one changed leaf of a large disk costs one node a level", async () => {
  const { write, read, all } = blobs();
  const size = 64 * GiB;
  const table = new LeafTable();
  for (let leaf = 0; leaf < size / LEAF_BYTES; leaf += 1) table.set(leaf, hashOf(leaf));
  const root = await table.save(size, write);
  const before = all.size;
  const changed = await LeafTable.load(root, read);
  changed.set(5000, new Uint8Array(32).fill(77));
  await changed.save(size, write);
  expect(all.size - before).toBe(3);
});

test.each([
  ["nothing", new Uint8Array(0)],
  ["a bitmap alone that promises a child", new Uint8Array(8).fill(1)],
  ["more than it promises", new Uint8Array(8 + 32)],
])("%s is no node", (_what, blob) => {
  expect(() => TreeNode.parse(blob)).toThrow("a node of a tree is malformed");
});
