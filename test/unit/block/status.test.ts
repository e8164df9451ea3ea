// Block status of a node and down a chain: which layer decides, shorter and longer backing files, filters, depth.
import { describe, expect, test } from "vitest";
import type { BlockNode } from "../../../src/block/model/node.ts";
import {
  blockStatus,
  blockStatusAbove,
  isAllocated,
  isAllocatedAbove,
} from "../../../src/block/io/status.ts";
import { clusterBytes as C, cow, makeImage } from "../job/cow-format.ts";
import { TestGraph } from "../support/graph.ts";

/** A chain given from the base up: size in clusters, allocated clusters. */
async function chain(
  ...layers: { name: string; size: number; has: number[] }[]
): Promise<{ test: TestGraph; node: (name: string) => BlockNode }> {
  const test = new TestGraph();
  test.graph.register(cow);
  let backing: string | null = null;
  for (const { name, size, has } of layers) {
    const image = makeImage(name, size * C);
    for (const index of has) image.clusters.set(index, new Uint8Array(C).fill(1));
    await test.graph.add({ driver: "cow", "node-name": name, backing });
    backing = name;
  }
  return { test, node: (name) => test.graph.node(name) };
}

const brief = ({ bytes, data, zero, allocated, eof }: Awaited<ReturnType<typeof blockStatus>>): string =>
  `${bytes / C}${data ? " data" : ""}${zero ? " zero" : ""}${allocated ? " allocated" : ""}${eof ? " eof" : ""}`;

describe("one node", () => {
  test("it answers for itself only, and its end is told", async () => {
    const { node } = await chain(
      { name: "base", size: 4, has: [0, 1, 2, 3] },
      { name: "top", size: 4, has: [1] },
    );
    const top = node("top");
    expect(brief(await blockStatus(top, 0, 4 * C))).toBe("1");
    expect(brief(await blockStatus(top, C, 3 * C))).toBe("1 data allocated");
    expect(brief(await blockStatus(top, 2 * C, 9 * C))).toBe("2 eof");
    expect(brief(await blockStatus(top, 4 * C, C))).toBe("1 zero eof");
    expect(await isAllocated(top, C, C)).toEqual({ allocated: true, bytes: C });
  });

  test("without a backing file what is not allocated reads as zeroes", async () => {
    const { node } = await chain({ name: "base", size: 2, has: [] });
    expect(brief(await blockStatus(node("base"), 0, 2 * C))).toBe("2 zero eof");
  });

  test("above a shorter backing file the range beyond its end reads as zeroes, and the answer stops there", async () => {
    const { node } = await chain({ name: "base", size: 2, has: [0, 1] }, { name: "top", size: 4, has: [] });
    expect(brief(await blockStatus(node("top"), C, 3 * C))).toBe("1");
    expect(brief(await blockStatus(node("top"), 2 * C, 2 * C))).toBe("2 zero eof");
  });

  test("an answer for an unaligned range is cut out of the driver's", async () => {
    const { node } = await chain({ name: "base", size: 2, has: [1] });
    const status = await blockStatus(node("base"), 100, 2 * C - 100);
    expect([status.bytes, status.zero]).toEqual([C - 100, true]);
  });

  test("an empty range is a programmer's error; a closed node has no medium", async () => {
    const { test: made, node } = await chain({ name: "base", size: 2, has: [] });
    const base = node("base");
    await expect(blockStatus(base, 0, 0)).rejects.toThrow("empty range");
    await made.graph.remove("base");
    await expect(blockStatus(base, 0, 1)).rejects.toMatchObject({ code: "ENOMEDIUM" });
  });

  test("memory's holes show through raw and filters", async () => {
    const made = new TestGraph();
    await made.disk("m", 4 * C);
    await made.fill("m", C, C);
    await made.graph.add({ driver: "blkdebug", "node-name": "f", image: "m" });
    const raw = await made.graph.add({ driver: "raw", "node-name": "r", file: "f" });
    expect(brief(await blockStatus(raw, 0, 4 * C))).toBe("1 zero allocated");
    expect(brief(await blockStatus(raw, C, 3 * C))).toBe("1 data allocated");
  });
});

describe("a chain", () => {
  const three = (): ReturnType<typeof chain> =>
    chain(
      { name: "base", size: 4, has: [0, 3] },
      { name: "mid", size: 4, has: [1] },
      { name: "top", size: 4, has: [2] },
    );

  test.each([
    [0, "1 data allocated", 3],
    [1, "1 data allocated", 2],
    [2, "1 data allocated", 1],
    [3, "1 data allocated eof", 3],
  ])("cluster %d is found", async (index, text, depth) => {
    const { node } = await three();
    const status = await blockStatusAbove(node("top"), index * C, (4 - index) * C);
    expect([brief(status), status.depth]).toEqual([text, depth]);
  });

  test("a base is left out, or asked too; what no layer has is not said to be zero then", async () => {
    const { node } = await three();
    const [top, base] = [node("top"), node("base")];
    const without = await blockStatusAbove(top, 0, C, { base });
    expect([brief(without), without.depth]).toEqual(["1", 0]);
    const included = await blockStatusAbove(top, 0, C, { base, includeBase: true });
    expect([brief(included), included.depth]).toEqual(["1 data allocated", 3]);
    expect(await isAllocatedAbove(top, 0, 4 * C, { base })).toEqual({ allocated: false, bytes: C, depth: 0 });
    expect(await isAllocatedAbove(top, C, 3 * C, { base })).toEqual({ allocated: true, bytes: C, depth: 2 });
    expect(await isAllocatedAbove(top, 0, 4 * C, { base: top })).toEqual({
      allocated: false,
      bytes: 4 * C,
      depth: 0,
    });
  });

  test("the end of a shorter middle layer is zero, and belongs to it: data below does not show", async () => {
    const { node } = await chain(
      { name: "base", size: 4, has: [0, 1, 2, 3] },
      { name: "mid", size: 2, has: [] },
      { name: "top", size: 4, has: [] },
    );
    const top = node("top");
    expect(brief(await blockStatusAbove(top, 0, 4 * C))).toBe("2 data allocated");
    const end = await blockStatusAbove(top, 2 * C, 2 * C);
    expect([end.bytes, end.zero, end.data]).toEqual([2 * C, true, false]);
    const reading = await isAllocatedAbove(top, 2 * C, 2 * C, { base: node("base") });
    expect(reading).toMatchObject({ allocated: true, depth: 2 });
  });

  test("a longer backing file shows only as far as the top reaches", async () => {
    const { node } = await chain(
      { name: "base", size: 8, has: [0, 1, 2, 3] },
      { name: "top", size: 2, has: [] },
    );
    expect(brief(await blockStatusAbove(node("top"), 0, 8 * C))).toBe("2 data allocated eof");
    const beyond = await blockStatusAbove(node("top"), 2 * C, C);
    expect([brief(beyond), beyond.depth]).toEqual(["1 zero eof", 0]);
  });

  test("filters between layers are looked through", async () => {
    const { test: made, node } = await chain({ name: "base", size: 2, has: [1] });
    await made.graph.add({ driver: "blkdebug", "node-name": "f", image: "base" });
    makeImage("over", 2 * C);
    await made.graph.add({ driver: "cow", "node-name": "over", backing: "f" });
    expect(brief(await blockStatusAbove(node("over"), 0, 2 * C))).toBe("1 zero");
    expect(brief(await blockStatusAbove(node("over"), C, C))).toBe("1 data allocated eof");
  });
});
