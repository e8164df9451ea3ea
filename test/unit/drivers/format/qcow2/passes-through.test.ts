// What a layer of a chain leaves to those below it: told without waiting, it must be what its block status says.
import { expect, test } from "vitest";
import { convert, createEngine, createImage, openNode } from "../../../../../src/browser.ts";
import { type ChainStatus, blockStatusAbove } from "../../../../../src/block/io/status.ts";
import type { BlockNode, Child } from "../../../../../src/block/model/node.ts";
import { checkedQcow2 as qcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import { Dice } from "../../../../../src/sim/dice.ts";
import { TestGraph } from "../../../support/graph.ts";

const CLUSTER = 4096;
const SIZE = 2048 * CLUSTER;

/** Changes some clusters of the layer. */
async function change(edge: Child, dice: Dice): Promise<void> {
  const offset = dice.below(edge.node.length / CLUSTER) * CLUSTER;
  const bytes = Math.min(CLUSTER * (1 + dice.below(40)), edge.node.length - offset);
  const pick = dice.below(4);
  if (pick === 0) await edge.pdiscard(offset, bytes);
  else if (pick === 1) await edge.pwriteZeroes(offset, bytes);
  else await edge.pwrite(offset, new Uint8Array(bytes).fill(1 + dice.below(255)));
}

/** Layers over each other, the lowest first, of sizes that differ; each holds something. */
async function chain(
  sizes: readonly number[],
  extended: boolean,
  dice: Dice,
): Promise<{ test: TestGraph; nodes: BlockNode[] }> {
  const made = new TestGraph();
  const { graph, host } = made;
  graph.register(qcow2);
  const nodes: BlockNode[] = [];
  for (const [index, size] of sizes.entries()) {
    const file = `m${index}`;
    await graph.add({ driver: "memory", "node-name": file, size: 0 });
    const how = { size, file, "cluster-size": extended ? 16384 : CLUSTER, "extended-l2": extended };
    await qcow2.create!({ graph, host }, how);
    const below = index === 0 ? null : `q${index - 1}`;
    const node = await graph.add({ driver: "qcow2", "node-name": `q${index}`, file, backing: below });
    const edge = await made.edge(node);
    for (let times = 0; times < 12; times++) await change(edge, dice);
    await graph.detach(edge);
    nodes.push(node);
  }
  return { test: made, nodes };
}

const brief = ({ bytes, data, zero, allocated, depth }: ChainStatus): string =>
  `${bytes} ${data} ${zero} ${allocated} ${depth}`;

/** The status of all of the disk, extent by extent. */
async function walk(top: BlockNode): Promise<string[]> {
  const found: string[] = [];
  for (let at = 0; at < top.length;) {
    const status = await blockStatusAbove(top, at, top.length - at);
    found.push(`${at}: ${brief(status)}`);
    at += status.bytes;
  }
  return found;
}

/** The extents of the disk, adjacent ones that are alike as one: layers may answer in other pieces. */
async function joined(top: BlockNode): Promise<string[]> {
  const runs: { at: number; what: string }[] = [];
  for (const line of await walk(top)) {
    const [place, , ...what] = line.split(" ");
    const words = what.join(" ");
    if (runs.at(-1)?.what !== words) runs.push({ at: Number.parseInt(place!, 10), what: words });
  }
  return runs.map(({ at, what }) => `${at} ${what}`);
}

/** Has all layers asked in full. */
async function slowly<T>(nodes: readonly BlockNode[], body: () => Promise<T>): Promise<T> {
  const hooks = nodes.map(({ driver }) => driver.passesThrough);
  for (const { driver } of nodes) driver.passesThrough = () => 0;
  try {
    return await body();
  } finally {
    for (const [index, { driver }] of nodes.entries()) driver.passesThrough = hooks[index]!;
  }
}

test.each([1, 2, 3, 4])(
  "layers are passed as their status says, between writes and discards (seed %d)",
  async (seed) => {
    const dice = new Dice(seed);
    const sizes = [SIZE, SIZE / 2, SIZE, (SIZE * 3) / 4, SIZE];
    const { test: made, nodes } = await chain(sizes, seed === 4, dice);
    const top = nodes.at(-1)!;
    const edge = await made.edge(top);
    let passed = 0;
    for (const { driver } of nodes) {
      const hook = driver.passesThrough!.bind(driver);
      driver.passesThrough = (offset, bytes) => {
        const known = hook(offset, bytes);
        if (known > 0) passed += 1;
        return known;
      };
    }
    for (let round = 0; round < 20; round++) {
      await change(edge, dice);
      expect(await joined(top)).toEqual(await slowly(nodes, () => joined(top)));
    }
    // Subclusters are looked at in full.
    expect(passed > 0).toBe(seed !== 4);
  },
);

test("tables that are missing side by side are passed at once, and a conversion of nothing asks ever farther", async () => {
  const engine = createEngine();
  const size = 16 * 2 ** 40;
  for (const file of ["from", "to"]) {
    await engine.graph.add({ driver: "memory", "node-name": file, size: 0 });
    await createImage({ driver: "qcow2", file, size, "cluster-size": 2 ** 21 }, { engine });
  }
  {
    await using from = await openNode({ driver: "qcow2", file: "from" }, { engine });
    await using to = await openNode({ driver: "qcow2", file: "to" }, { engine });
    await from.write(size / 2, new Uint8Array(512).fill(7));
    const { driver } = from.blockNode;
    const tableBytes = 2 ** 39;
    expect(driver.passesThrough!(0, size)).toBe(size / 2);
    const rest = size / 2 - tableBytes;
    expect(driver.passesThrough!(size / 2 + tableBytes, rest)).toBe(rest);

    let asked = 0;
    const status = driver.blockStatus!.bind(driver);
    driver.blockStatus = (...range) => {
      asked += 1;
      return status(...range);
    };
    await convert(from, to, { targetIsZero: true });
    expect(asked).toBeLessThan(64);
    expect(await to.read(size / 2, 1024)).toEqual(new Uint8Array(1024).fill(7, 0, 512));
  }
  await engine.close();
});
