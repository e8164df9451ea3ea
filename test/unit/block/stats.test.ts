// Statistics of nodes and devices: what was counted, latencies for those who ask, and the images that a disk lies in.
import { expect, it } from "vitest";
import { LatencyHistogram } from "../../../src/block/model/latency.ts";
import { Account } from "../../../src/block/model/node.ts";
import { accountStats, chainStats, nodeStats } from "../../../src/block/stats.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { imageBench } from "../drivers/format/qcow2/image-bench.ts";
import { Role } from "../../../src/block/model/contract.ts";

it("latencies stand in the bins of those kinds that somebody asked for", () => {
  const account = new Account();
  expect(Object.keys(accountStats(account, 0)).filter((name) => name.includes("histogram"))).toEqual([]);
  for (const kind of ["read", "write", "flush"] as const)
    account.latency[kind] = new LatencyHistogram([1_000_000, 10_000_000]);
  account.done("read", 512, 0.5);
  account.done("read", 512, 2);
  account.done("write", 1024, 20);
  account.done("flush", 0, 1);
  account.failed("write", 1);
  const boundaries = [1_000_000, 10_000_000];
  expect(accountStats(account, 4096, { nowMs: 5 })).toMatchObject({
    ...{ rd_bytes: 1024, rd_operations: 2, rd_total_time_ns: 2_500_000 },
    ...{ wr_bytes: 1024, failed_wr_operations: 1, wr_highest_offset: 4096, account_failed: true },
    rd_latency_histogram: { boundaries, bins: [1, 1, 0] },
    wr_latency_histogram: { boundaries, bins: [0, 1, 1] },
    flush_latency_histogram: { boundaries, bins: [0, 1, 0] },
  });
  account.lastAccessMs = 3;
  expect(accountStats(account, 0, { nowMs: 5 })).toMatchObject({ idle_time_ns: 2_000_000 });
});

it("a node is told with what it lies in, and a disk with its backing files too", async () => {
  const { node, bench } = await imageBench();
  const { graph } = bench;
  await graph.add({ driver: "memory", "node-name": "b", size: 8 * MiB });
  await graph.setBacking(node, graph.node("b"), Role.cow);
  const names = { "node-name": "q", parent: { "node-name": "m" } };
  expect(nodeStats(node)).toMatchObject(names);
  expect(nodeStats(node)).not.toHaveProperty("backing");
  expect(chainStats(node)).toMatchObject({ ...names, backing: { "node-name": "b" } });
  expect(chainStats(graph.node("b"))).not.toHaveProperty("parent");
});

it("a driver that counts its discards says so", async () => {
  const { graph } = new TestGraph();
  const node = await graph.add({ driver: "memory", "node-name": "m", size: MiB });
  expect(nodeStats(node)).not.toHaveProperty("driver-specific");
  Object.assign(node.driver, { countsDiscards: true });
  node.account.done("unmap", 4096);
  node.account.failed("unmap");
  expect(nodeStats(node)["driver-specific"]).toEqual({
    ...{ driver: "memory", "discard-nb-ok": 1, "discard-nb-failed": 1, "discard-bytes-ok": 4096 },
  });
});
