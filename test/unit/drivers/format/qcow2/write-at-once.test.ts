// Writing where the file below answers at once: what of it is over then, and what a failure leaves.
import { expect, test } from "vitest";
import { blockError } from "../../../../../src/base/errors.ts";
import type { Child } from "../../../../../src/block/model/node.ts";
import type { BlockDriver } from "../../../../../src/block/model/contract.ts";
import type { BlockNode } from "../../../../../src/block/model/node.ts";
import { Perm } from "../../../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../../../../src/drivers/format/qcow2/index.ts";
import { TestGraph } from "../../../support/graph.ts";

const KiB = 1024;
const CLUSTER = 64 * KiB;

interface Bench {
  node: BlockNode;
  edge: Child;
  /** What the file below does at once. */
  below: { pwrite: NonNullable<BlockDriver["pwrite"]> };
}

/** An image over a file in memory that takes writes at once, with its first tables in memory. */
async function image(): Promise<Bench> {
  const { graph, host, edge } = bench();
  graph.register(qcow2);
  const file = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await qcow2.create!({ graph, host }, { size: 64 * CLUSTER, file: "m" });
  const { driver } = file;
  const pwrite = driver.pwrite!.bind(driver);
  const below: Bench["below"] = { pwrite: (offset, buffer, flags) => void pwrite(offset, buffer, flags) };
  driver.pwrite = (offset, buffer, flags) => below.pwrite(offset, buffer, flags);
  const node = await graph.add({ driver: "qcow2", "node-name": "q", file: "m" });
  const child = await edge(node, Perm.consistentRead | Perm.write);
  await child.pwrite(0, new Uint8Array(CLUSTER).fill(1));
  return { node, edge: child, below };
}

function bench(): { graph: TestGraph["graph"]; host: TestGraph["host"]; edge: TestGraph["edge"] } {
  const made = new TestGraph();
  return { graph: made.graph, host: made.host, edge: made.edge.bind(made) };
}

async function bytes(edge: Child, offset: number, count: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(count).fill(0x55);
  await edge.pread(offset, buffer);
  return buffer;
}

test("new clusters, parts of them and places of its own are written at once", async () => {
  const { node, edge } = await image();
  expect(edge.pwrite(4 * CLUSTER, new Uint8Array(3 * CLUSTER).fill(2))).toBeUndefined();
  expect(edge.pwrite(5 * CLUSTER + 512, new Uint8Array(1024).fill(3))).toBeUndefined();
  expect(edge.pwrite(20 * CLUSTER + 512, new Uint8Array(512).fill(4))).toBeUndefined();
  expect(node.inFlight).toBe(0);
  const content = await bytes(edge, 4 * CLUSTER, 4 * CLUSTER);
  const at = [0, CLUSTER + 511, CLUSTER + 512, CLUSTER + 1536, 3 * CLUSTER - 1, 3 * CLUSTER];
  expect(at.map((index) => content[index])).toEqual([2, 2, 3, 2, 2, 0]);
  const part = await bytes(edge, 20 * CLUSTER, CLUSTER);
  expect([511, 512, 1023, 1024].map((index) => part[index])).toEqual([0, 4, 4, 0]);
  expect(await (node.driver as Qcow2).check()).toEqual({ corruptions: [], leaks: 0 });
});

test("what a failed write left in a cluster is not taken for zeroes by the next one there", async () => {
  const { node, edge, below } = await image();
  const whole = below.pwrite;
  let failures = 0;
  below.pwrite = (offset, buffer, flags) => {
    void whole(offset, buffer.subarray(0, 3 * 512), flags);
    failures += 1;
    throw blockError("EIO", "pwrite");
  };
  await expect(edge.pwrite(4 * CLUSTER, new Uint8Array(CLUSTER).fill(9))).rejects.toMatchObject({
    code: "EIO",
  });
  // It was tried once: nobody asks again in another way.
  expect(failures).toBe(1);
  below.pwrite = whole;
  await edge.pwrite(8 * CLUSTER + 512, new Uint8Array(512).fill(7));
  const content = await bytes(edge, 8 * CLUSTER, CLUSTER);
  expect([0, 512, 1023, 1024, 1535].map((index) => content[index])).toEqual([0, 7, 7, 0, 0]);
  expect((await bytes(edge, 4 * CLUSTER, CLUSTER)).every((byte) => byte === 0)).toBe(true);
  expect(await (node.driver as Qcow2).check()).toEqual({ corruptions: [], leaks: 0 });
});
