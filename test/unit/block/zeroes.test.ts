// Writing zeroes and discarding: edges, limits, fallback, what the node's options allow.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { pdiscard, pwriteZeroes } from "../../../src/block/io/zeroes.ts";
import { KiB, TestGraph } from "../support/graph.ts";
import { type ProbeDriver, addProbe } from "../support/probe.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";

const SIZE = 64 * KiB;

async function probe(
  options: Partial<Parameters<typeof addProbe>[1]> = {},
): Promise<{ node: BlockNode; driver: ProbeDriver }> {
  const made = await addProbe(new TestGraph().graph, { "node-name": "n", size: SIZE, ...options });
  made.driver.bytes.fill(0xff);
  return made;
}

describe("pwriteZeroes", () => {
  test.each([
    ["inside one block", 100, 50, ["pread 0+512", "pwrite 0+512"]],
    ["to a block's end", 100, 412, ["pread 0+512", "pwrite 0+512"]],
    ["from a block's start", 512, 10, ["pread 512+512", "pwrite 512+512"]],
    ["over one boundary", 500, 24, ["pread 0+512", "pwrite 0+512", "pread 512+512", "pwrite 512+512"]],
    ["aligned", 512, 1024, ["pwriteZeroes 512+1024"]],
    [
      "with both edges",
      1,
      2000,
      ["pread 0+512", "pwrite 0+512", "pwriteZeroes 512+1024", "pread 1536+512", "pwrite 1536+512"],
    ],
  ])("%s", async (_name, offset, bytes, calls) => {
    const { node, driver } = await probe({ limits: { requestAlignment: 512 } });
    await pwriteZeroes(node, offset, bytes);
    expect(driver.take()).toEqual(calls);
    driver.bytes.forEach((byte, at) => {
      if ((byte === 0) !== (at >= offset && at < offset + bytes)) throw new Error(`byte ${at} is ${byte}`);
    });
  });

  test("pieces by alignment and largest size: what is left over at the ends goes on its own", async () => {
    const { node, driver } = await probe({
      limits: { requestAlignment: 512, pwriteZeroesAlignment: 4096, maxPwriteZeroes: 8192 },
    });
    await pwriteZeroes(node, 512, 20480);
    expect(driver.take()).toEqual([
      "pwriteZeroes 512+3584",
      "pwriteZeroes 4096+8192",
      "pwriteZeroes 12288+8192",
      "pwriteZeroes 20480+512",
    ]);
  });

  test("a largest size below the alignment does not stop the work", async () => {
    const { node, driver } = await probe({ limits: { requestAlignment: 4096, maxPwriteZeroes: 512 } });
    await pwriteZeroes(node, 0, 8192);
    expect(driver.take()).toEqual(["pwriteZeroes 0+4096", "pwriteZeroes 4096+4096"]);
  });

  test("without a fast way it writes data, split by the largest transfer, and noFallback forbids that", async () => {
    const { node, driver } = await probe({ limits: { maxTransfer: 4096 } });
    delete driver.pwriteZeroes;
    await pwriteZeroes(node, 0, 10_000);
    expect(driver.take()).toEqual(["pwrite 0+4096", "pwrite 4096+4096", "pwrite 8192+1808"]);
    expect(driver.bytes.indexOf(0xff)).toBe(10_000);
    await expect(pwriteZeroes(node, 0, 512, Req.noFallback)).rejects.toMatchObject({ code: "ENOTSUP" });
    expect(driver.take()).toEqual([]);
  });

  test("a driver that says ENOTSUP is written to; other errors fail the request and leave the range dirty", async () => {
    const { node, driver } = await probe();
    const bitmap = createDirtyBitmap(node, { granularity: 512 });
    driver.before = (call) => {
      if (call.op === "pwriteZeroes") throw blockError("ENOTSUP", call.op);
    };
    await pwriteZeroes(node, 0, 512);
    expect(driver.take()).toEqual(["pwriteZeroes 0+512", "pwrite 0+512"]);
    driver.before = () => Promise.reject(blockError("ENOSPC", "pwriteZeroes"));
    await expect(pwriteZeroes(node, 1024, 512)).rejects.toMatchObject({ code: "ENOSPC" });
    expect(bitmap.bitmap.extents(0, SIZE, 9)).toEqual([
      { offset: 0, bytes: 512 },
      { offset: 1024, bytes: 512 },
    ]);
  });

  test.each([
    ["unmap", Req.mayUnmap],
    ["ignore", 0],
  ] as const)("mayUnmap under discard=%s: a user's own node does as it is asked", async (discard, flags) => {
    const bench = new TestGraph();
    const { driver } = await addProbe(bench.graph, { "node-name": "n", size: SIZE, discard });
    await bench.graph.add({ driver: "raw", "node-name": "above", file: "n" });
    const [own, above] = [await bench.edge("n", 15), await bench.edge("above")];
    await own.pwriteZeroes(0, 512, Req.mayUnmap);
    expect(driver.take()).toEqual([`pwriteZeroes 0+512:${Req.mayUnmap}`]);
    await above.pwriteZeroes(0, 512, Req.mayUnmap);
    expect(driver.take()).toEqual([`pwriteZeroes 0+512${flags ? `:${flags}` : ""}`]);
  });

  test("beyond the end it grows the node", async () => {
    const { node, driver } = await probe();
    await pwriteZeroes(node, SIZE, 4096);
    expect([node.length, driver.bytes.byteLength]).toEqual([SIZE + 4096, SIZE + 4096]);
  });

  test("of nothing does nothing", async () => {
    const { node, driver } = await probe();
    await pwriteZeroes(node, 100, 0);
    expect(driver.take()).toEqual([]);
    expect(node.writeGeneration).toBe(0);
  });
});

describe("pdiscard", () => {
  test("it is honoured only with discard=unmap", async () => {
    const { node, driver } = await probe({ discard: "ignore" });
    const bitmap = createDirtyBitmap(node, { granularity: 512 });
    await pdiscard(node, 0, 512);
    expect(driver.take()).toEqual([]);
    expect(bitmap.dirtyBytes).toBe(0);
  });

  test("only whole blocks, in pieces; the range is dirty", async () => {
    const { node, driver } = await probe({
      discard: "unmap",
      limits: { requestAlignment: 512, pdiscardAlignment: 4096, maxPdiscard: 4096 },
    });
    const bitmap = createDirtyBitmap(node, { granularity: 512 });
    await pdiscard(node, 100, 10_000);
    expect(driver.take()).toEqual(["pdiscard 512+3584", "pdiscard 4096+4096", "pdiscard 8192+1536"]);
    expect(bitmap.bitmap.extents(0, SIZE, 9)).toEqual([{ offset: 0, bytes: 10_240 }]);
    await pdiscard(node, 100, 300);
    expect(driver.take()).toEqual([]);
  });

  test("ENOTSUP passes, other errors don't", async () => {
    const { node, driver } = await probe({ discard: "unmap" });
    driver.before = () => Promise.reject(blockError("ENOTSUP", "pdiscard"));
    await pdiscard(node, 0, 512);
    driver.before = () => Promise.reject(blockError("EIO", "pdiscard"));
    await expect(pdiscard(node, 0, 512)).rejects.toMatchObject({ code: "EIO" });
  });

  test("a discard neither grows the node nor moves the highest write", async () => {
    const { node } = await probe({ discard: "unmap" });
    await pdiscard(node, SIZE - 512, 4096);
    expect([node.length, node.highestWrite]).toEqual([SIZE, 0]);
  });
});
