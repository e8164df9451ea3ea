// memory: content against a model, holes, the limit of max-bytes, and a buffer handed in.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Req } from "../../../../src/block/model/contract.ts";
import { MEMORY_PAGE_BYTES, MemoryDriver } from "../../../../src/drivers/protocol/memory.ts";
import { KiB, MiB, pattern, TestGraph } from "../../support/graph.ts";

const PAGE = MEMORY_PAGE_BYTES;

async function memoryDriver(test: TestGraph, options: Record<string, unknown> = {}): Promise<MemoryDriver> {
  const node = await test.graph.add({ driver: "memory", "node-name": "disk", ...options });
  if (!(node.driver instanceof MemoryDriver)) throw new Error("not a sparse disk");
  return node.driver;
}

describe("memory", () => {
  it("behaves like a plain buffer under random requests", async () => {
    const size = 5 * PAGE + 1000;
    const range = fc.tuple(fc.nat(size - 1), fc.integer({ min: 1, max: 2 * PAGE }));
    const request = fc.record({
      verb: fc.constantFrom("write", "zero", "unmap", "discard"),
      range,
      value: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(request, { maxLength: 30 }), async (requests) => {
        const test = new TestGraph(MiB);
        const driver = await memoryDriver(test, { size });
        const model = new Uint8Array(size);
        for (const {
          verb,
          range: [offset, wanted],
          value,
        } of requests) {
          const bytes = Math.min(wanted, size - offset);
          if (verb === "write") await driver.pwrite(offset, new Uint8Array(bytes).fill(value));
          else if (verb === "discard") await driver.pdiscard(offset, bytes);
          else await driver.pwriteZeroes(offset, bytes, verb === "unmap" ? Req.mayUnmap : 0);
          model.fill(verb === "write" ? value : 0, offset, offset + bytes);
        }
        const content = new Uint8Array(size).fill(0xee);
        await driver.pread(0, content);
        expect(test.graph.kernels.firstDifference(content, model)).toBe(-1);
      }),
      { numRuns: 30 },
    );
  });

  it("knows its holes, joined into runs", async () => {
    const driver = await memoryDriver(new TestGraph(MiB), { size: 8 * PAGE });
    await driver.pwrite(2 * PAGE + 5, new Uint8Array(PAGE).fill(1));
    expect(await driver.blockStatus(0, 8 * PAGE)).toMatchObject({ bytes: 2 * PAGE, data: false, zero: true });
    expect(await driver.blockStatus(2 * PAGE, 6 * PAGE)).toMatchObject({
      bytes: 2 * PAGE,
      data: true,
      zero: false,
    });
    expect(await driver.blockStatus(3 * PAGE + 7, 10)).toMatchObject({ bytes: 10, data: true });
    expect(await driver.allocatedBytes()).toBe(2 * PAGE);
  });

  it("gives whole pages back on discards and on zeroes that may unmap, the short last page too", async () => {
    const driver = await memoryDriver(new TestGraph(MiB), { size: 2 * PAGE + 512 });
    await driver.pwrite(0, new Uint8Array(2 * PAGE + 512).fill(7));
    await driver.pwriteZeroes(0, PAGE, 0);
    expect(await driver.allocatedBytes()).toBe(3 * PAGE);
    await driver.pwriteZeroes(0, PAGE, Req.mayUnmap);
    await driver.pdiscard(2 * PAGE, 512);
    expect(await driver.allocatedBytes()).toBe(PAGE);
    await driver.pdiscard(PAGE, PAGE - 1);
    expect(await driver.allocatedBytes()).toBe(PAGE);
  });

  it("runs full at max-bytes, changes nothing then, and goes on when the limit moves", async () => {
    const test = new TestGraph(MiB);
    const driver = await memoryDriver(test, { size: 4 * PAGE, "max-bytes": 2 * PAGE });
    const edge = await test.edge("disk");
    await edge.pwrite(0, pattern(PAGE, 1));
    const full = edge.pwrite(PAGE, pattern(2 * PAGE, 2));
    await expect(full).rejects.toMatchObject({
      code: "ENOSPC",
      message: "No space left on device",
      node: "disk",
    });
    expect((await test.content("disk", PAGE)).every((byte) => byte === 0)).toBe(true);
    driver.setMaxBytes(3 * PAGE);
    await edge.pwrite(PAGE, pattern(2 * PAGE, 2));
    expect(await test.content("disk", PAGE, 2 * PAGE)).toEqual(pattern(2 * PAGE, 2));
  });

  it("grows by truncate and forgets what a shrink cuts off", async () => {
    const driver = await memoryDriver(new TestGraph(MiB), { size: PAGE });
    await driver.pwrite(0, new Uint8Array(PAGE).fill(9));
    await driver.truncate(100);
    await driver.truncate(2 * PAGE);
    const content = new Uint8Array(2 * PAGE);
    await driver.pread(0, content);
    const expected = new Uint8Array(2 * PAGE).fill(9, 0, 100);
    expect(content).toEqual(expected);
    expect(driver.length()).toBe(2 * PAGE);
  });

  it("walks and clears a petabyte at the cost of its pages only", async () => {
    const driver = await memoryDriver(new TestGraph(MiB), { size: 2 ** 50 });
    await driver.pwrite(2 ** 49, new Uint8Array(10).fill(1));
    expect(await driver.blockStatus(0, 2 ** 50)).toMatchObject({ bytes: 2 ** 49, zero: true });
    expect(await driver.blockStatus(2 ** 49 + PAGE, 2 ** 40)).toMatchObject({ bytes: 2 ** 40, zero: true });
    await driver.pwriteZeroes(0, 2 ** 50, Req.mayUnmap);
    expect(await driver.allocatedBytes()).toBe(0);
  });

  it("is the caller's buffer when there is one, and as long as that", async () => {
    const test = new TestGraph(MiB);
    const buffer = new Uint8Array(64 * KiB);
    await test.graph.add({ driver: "memory", "node-name": "disk", buffer });
    const edge = await test.edge("disk", 15);
    await edge.pwrite(512, pattern(512, 3));
    expect(buffer.subarray(512, 1024)).toEqual(pattern(512, 3));
    await expect(edge.pwrite(64 * KiB - 512, new Uint8Array(1024))).rejects.toMatchObject({ code: "ENOSPC" });
  });

  it("refuses a buffer together with a size, and what is no buffer", async () => {
    const { graph } = new TestGraph(MiB);
    const spec = { driver: "memory", "node-name": "disk" };
    await expect(graph.add({ ...spec, buffer: new Uint8Array(8), size: 8 })).rejects.toThrow(
      "cannot be used together",
    );
    await expect(graph.add({ ...spec, buffer: "x" })).rejects.toThrow(
      "Parameter 'buffer' expects a Uint8Array",
    );
    await expect(graph.add({ ...spec, size: -1 })).rejects.toThrow(
      "expects a non-negative number below 2^64",
    );
    expect(graph.nodes).toEqual([]);
  });
});
