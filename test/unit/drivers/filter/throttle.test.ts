// The throttle filter in a graph, in virtual time.
import { describe, expect, it } from "vitest";
import { drained } from "../../../../src/block/model/drain.ts";
import { throttleGroupsOf } from "../../../../src/block/throttle/throttle.ts";
import { throttle } from "../../../../src/drivers/filter/throttle.ts";
import { MiB, pattern, TestGraph } from "../../support/graph.ts";

async function throttled(limits: Record<string, number>): Promise<TestGraph> {
  const test = new TestGraph(MiB);
  test.graph.register(throttle);
  throttleGroupsOf(test.graph).add("t", limits);
  await test.disk("disk", MiB);
  await test.graph.add({
    driver: "throttle",
    "node-name": "slow",
    file: "disk",
    "throttle-group": "t",
    discard: "unmap",
  });
  return test;
}

const block = (): Uint8Array => new Uint8Array(512);

describe("throttle", () => {
  it("holds reads, writes, zeroes and discards back, and no flush", async () => {
    const test = await throttled({ "bps-total": 5120 });
    const { clock } = test.host;
    const edge = await test.edge("slow");
    await edge.pwrite(0, pattern(512, 1));
    await edge.pread(0, block());
    expect(clock.nowMs()).toBe(0);
    await clock.settle(edge.pwriteZeroes(0, 512));
    expect(clock.nowMs()).toBe(100);
    await clock.settle(edge.pdiscard(0, 512));
    expect(clock.nowMs()).toBe(200);
    await edge.flush();
    await edge.blockStatus(0, 512);
    expect(clock.nowMs()).toBe(200);
  });

  it("lets everything go when it is drained", async () => {
    const test = await throttled({ "iops-total": 1 });
    const edge = await test.edge("slow");
    const writes = Array.from({ length: 20 }, async (_, i) => edge.pwrite(512 * i, pattern(512, i)));
    await drained([test.graph.node("slow")], () => undefined);
    await Promise.all(writes);
    expect(test.host.clock.nowMs()).toBe(0);
    expect(await test.content("disk", 512 * 19, 512)).toEqual(pattern(512, 19));
    await test.host.clock.settle(edge.pread(0, block()));
    expect(test.host.clock.nowMs()).toBeGreaterThan(10_000);
  });

  it("drains its file's requests too when the file is drained", async () => {
    const test = await throttled({ "iops-total": 1 });
    const edge = await test.edge("slow");
    const writes = Array.from({ length: 5 }, async (_, i) => edge.pwrite(512 * i, block()));
    await drained([test.graph.node("disk")], () => undefined);
    await Promise.all(writes);
    expect(test.host.clock.nowMs()).toBe(0);
  });

  it("uses its group until it is closed", async () => {
    const { graph } = await throttled({ "iops-total": 1 });
    expect(() => throttleGroupsOf(graph).remove("t")).toThrow("object 't' is in use, can not be deleted");
    await graph.remove("slow");
    throttleGroupsOf(graph).remove("t");
  });

  it("refuses a group that does not exist", async () => {
    const { graph } = await throttled({});
    const spec = { driver: "throttle", "node-name": "other", file: "disk" };
    await expect(graph.add({ ...spec, "throttle-group": "nope" })).rejects.toThrow(
      "Throttle group 'nope' does not exist",
    );
    await expect(graph.add(spec)).rejects.toThrow("Parameter 'throttle-group' is missing");
    expect(graph.findNode("other")).toBeUndefined();
  });
});
