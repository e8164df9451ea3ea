// Writing at once: what it takes, and what a failure leaves.
import { expect, test } from "vitest";
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
  below: { pwriteNow: NonNullable<BlockDriver["pwriteNow"]> };
}

/** An image over a file in memory that takes writes at once, with its first tables in memory. */
async function image(): Promise<Bench> {
  const { graph, host, edge } = bench();
  graph.register(qcow2);
  const file = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await qcow2.create!({ graph, host }, { size: 64 * CLUSTER, file: "m" });
  const { driver } = file;
  const below = {
    pwriteNow(offset: number, buffer: Uint8Array): boolean {
      void driver.pwrite!(offset, buffer, 0);
      return true;
    },
  };
  driver.pwriteNow = (offset, buffer) => below.pwriteNow(offset, buffer);
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

test("whole new clusters and places of its own are written at once, parts of new clusters are not", async () => {
  const { node, edge } = await image();
  expect(edge.pwriteNow(4 * CLUSTER, new Uint8Array(3 * CLUSTER).fill(2))).toBe(true);
  expect(edge.pwriteNow(5 * CLUSTER + 512, new Uint8Array(1024).fill(3))).toBe(true);
  expect(edge.pwriteNow(20 * CLUSTER, new Uint8Array(512).fill(4))).toBe(false);
  const content = await bytes(edge, 4 * CLUSTER, 4 * CLUSTER);
  const at = [0, CLUSTER + 511, CLUSTER + 512, CLUSTER + 1536, 3 * CLUSTER - 1, 3 * CLUSTER];
  expect(at.map((index) => content[index])).toEqual([2, 2, 3, 2, 2, 0]);
  expect((await bytes(edge, 20 * CLUSTER, 512)).every((byte) => byte === 0)).toBe(true);
  expect(await (node.driver as Qcow2).check()).toEqual({ corruptions: [], leaks: 0 });
});

test("what a failed write left in a cluster is not taken for zeroes by the next one there", async () => {
  const { node, edge, below } = await image();
  const whole = below.pwriteNow;
  below.pwriteNow = (offset, buffer) => {
    whole(offset, buffer.subarray(0, 3 * 512));
    return false;
  };
  expect(edge.pwriteNow(4 * CLUSTER, new Uint8Array(CLUSTER).fill(9))).toBe(false);
  await edge.pwrite(8 * CLUSTER + 512, new Uint8Array(512).fill(7));
  const content = await bytes(edge, 8 * CLUSTER, CLUSTER);
  expect([0, 512, 1023, 1024, 1535].map((index) => content[index])).toEqual([0, 7, 7, 0, 0]);
  expect((await bytes(edge, 4 * CLUSTER, CLUSTER)).every((byte) => byte === 0)).toBe(true);
  expect(await (node.driver as Qcow2).check()).toEqual({ corruptions: [], leaks: 0 });
});
