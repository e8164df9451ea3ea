// null-co: size, reads, status and latency.
import { describe, expect, it } from "vitest";
import { nullAio, nullCo } from "../../../../src/drivers/protocol/null-co.ts";
import { MiB, TestGraph } from "../../support/graph.ts";

async function nullDisk(options: Record<string, unknown>): Promise<TestGraph> {
  const test = new TestGraph(MiB);
  test.graph.register(nullCo);
  await test.graph.add({ driver: "null-co", "node-name": "null", ...options });
  return test;
}

describe("null-co", () => {
  it("is null-aio, too", async () => {
    const test = new TestGraph(MiB);
    test.graph.register(nullAio);
    await test.graph.add({ driver: "null-aio", "node-name": "null", size: MiB, "read-zeroes": true });
    const buffer = new Uint8Array(512).fill(5);
    const edge = await test.edge("null");
    await edge.pwrite(0, buffer);
    await edge.pread(0, buffer);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
  });

  it("is 1 GiB long unless told otherwise", async () => {
    expect((await nullDisk({})).graph.node("null").length).toBe(1024 * MiB);
    expect((await nullDisk({ size: 1000 })).graph.node("null").length).toBe(1000);
  });

  it("leaves the buffer alone, or reads zeroes with read-zeroes", async () => {
    for (const zeroes of [false, true]) {
      const test = await nullDisk({ size: MiB, "read-zeroes": zeroes });
      const buffer = new Uint8Array(512).fill(5);
      await (await test.edge("null")).pread(0, buffer);
      expect(buffer.every((byte) => byte === (zeroes ? 0 : 5))).toBe(true);
    }
  });

  it("counts as allocated only with read-zeroes, as in QEMU", async () => {
    for (const zeroes of [false, true]) {
      const test = await nullDisk({ size: MiB, "read-zeroes": zeroes });
      const status = await (await test.edge("null")).blockStatus(0, MiB);
      expect(status).toMatchObject({ bytes: MiB, data: false, zero: zeroes, allocated: zeroes });
    }
  });

  it("takes latency-ns for every request, in the host's time", async () => {
    const test = await nullDisk({ "latency-ns": 2_500_000 });
    const { clock } = test.host;
    const edge = await test.edge("null");
    await clock.settle(edge.pread(0, new Uint8Array(512)));
    expect(clock.nowMs()).toBe(2.5);
    await clock.settle(
      Promise.all([edge.pwrite(0, new Uint8Array(512)), edge.pwrite(512, new Uint8Array(512))]),
    );
    expect(clock.nowMs()).toBe(5);
    await clock.settle(edge.flush());
    expect(clock.nowMs()).toBe(7.5);
  });
});
