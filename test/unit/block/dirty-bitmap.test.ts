// Dirty bitmaps: what feeds them, successors, and the commands' refusals and undos.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import * as commands from "../../../src/block/bitmap/commands.ts";
import {
  type DirtyBitmap,
  createDirtyBitmap,
  defaultGranularity,
  dirtyBitmapInfo,
  findDirtyBitmap,
} from "../../../src/block/model/dirty-bitmap.ts";
import { pwrite, truncate } from "../../../src/block/io/io.ts";
import { pdiscard, pwriteZeroes } from "../../../src/block/io/zeroes.ts";
import { KiB, MiB, TestGraph } from "../support/graph.ts";
import { type ProbeDriver, addProbe } from "../support/probe.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";

const SIZE = MiB;

async function bench(): Promise<{
  test: TestGraph;
  node: BlockNode;
  driver: ProbeDriver;
  bitmap: DirtyBitmap;
}> {
  const made = new TestGraph();
  const { node, driver } = await addProbe(made.graph, { "node-name": "n", size: SIZE, discard: "unmap" });
  const bitmap = createDirtyBitmap(node, { name: "b", granularity: 4096 });
  return { test: made, node, driver, bitmap };
}

const dirty = (bitmap: DirtyBitmap): string =>
  bitmap.bitmap
    .extents(0, bitmap.bitmap.length, 99)
    .map(({ offset, bytes }) => `${offset / 4096}+${bytes / 4096}`)
    .join(" ");

describe("what feeds a bitmap", () => {
  test("writes, zeroes and discards, in whole granules, also failed ones", async () => {
    const { node, driver, bitmap } = await bench();
    await pwrite(node, 4000, new Uint8Array(200));
    await pwriteZeroes(node, 16 * KiB, 1);
    await pdiscard(node, 32 * KiB, 4096);
    driver.before = () => Promise.reject(blockError("EIO", "pwrite"));
    await expect(pwrite(node, 64 * KiB, new Uint8Array(1))).rejects.toThrow();
    expect(dirty(bitmap)).toBe("0+2 4+1 8+1 16+1");
    expect(bitmap.dirtyBytes).toBe(5 * 4096);
  });

  test("not while it is disabled, and not by reads or refused writes", async () => {
    const { node, bitmap } = await bench();
    bitmap.enabled = false;
    await pwrite(node, 0, new Uint8Array(1));
    bitmap.enabled = true;
    await expect(pwrite(node, -1, new Uint8Array(1))).rejects.toThrow();
    expect(bitmap.dirtyBytes).toBe(0);
  });

  test("it follows the node's length", async () => {
    const { node, bitmap } = await bench();
    await pwrite(node, SIZE - 1, new Uint8Array(1));
    await truncate(node, 4096, { exact: true, preallocation: "off" });
    expect([bitmap.bitmap.length, bitmap.dirtyBytes]).toEqual([4096, 0]);
    await truncate(node, 12_288, { exact: true, preallocation: "off" });
    expect(dirty(bitmap)).toBe("1+2");
  });
});

describe("successors", () => {
  test("record in the bitmap's place; abdicate keeps only their bits", async () => {
    const { node, bitmap } = await bench();
    await pwrite(node, 0, new Uint8Array(1));
    bitmap.createSuccessor();
    await pwrite(node, 4096, new Uint8Array(1));
    expect(dirty(bitmap)).toBe("0+1");
    expect(bitmap.recording).toBe(true);
    expect(() => bitmap.check()).toThrow(
      "Bitmap 'b' is currently in use by another operation and cannot be used",
    );
    bitmap.abdicate();
    expect([dirty(bitmap), bitmap.enabled, bitmap.busy]).toEqual(["1+1", true, false]);
    await pwrite(node, 8192, new Uint8Array(1));
    expect(dirty(bitmap)).toBe("1+2");
  });

  test("reclaim keeps all bits", async () => {
    const { node, bitmap } = await bench();
    await pwrite(node, 0, new Uint8Array(1));
    bitmap.createSuccessor();
    await pwrite(node, 4096, new Uint8Array(1));
    bitmap.reclaim();
    expect([dirty(bitmap), bitmap.enabled, bitmap.busy]).toEqual(["0+2", true, false]);
  });

  test("of a disabled bitmap record nothing; a change of length reaches them", async () => {
    const { node, bitmap } = await bench();
    bitmap.enabled = false;
    bitmap.createSuccessor();
    await pwrite(node, 0, new Uint8Array(1));
    await truncate(node, 2 * SIZE, { exact: true, preallocation: "off" });
    bitmap.reclaim();
    expect([bitmap.enabled, bitmap.dirtyBytes, bitmap.bitmap.length]).toEqual([false, 0, 2 * SIZE]);
  });
});

test("the default granularity", async () => {
  const { node } = await bench();
  expect(defaultGranularity(node)).toBe(65536);
  for (const [clusterSize, granularity] of [
    [512, 4096],
    [32768, 32768],
    [2 * MiB, 65536],
  ] as const) {
    Object.assign(node.driver, { getInfo: () => ({ clusterSize }) });
    expect(defaultGranularity(node)).toBe(granularity);
  }
});

test("query shows them, those of jobs without names, newest first", async () => {
  const { node, bitmap } = await bench();
  createDirtyBitmap(node, { granularity: 512 });
  createDirtyBitmap(node, { name: "c", granularity: 512 });
  bitmap.inconsistent = true;
  expect(dirtyBitmapInfo(node)).toEqual([
    { name: "c", count: 0, granularity: 512, recording: true, busy: false, persistent: false },
    { count: 0, granularity: 512, recording: true, busy: false, persistent: false },
    {
      name: "b",
      count: 0,
      granularity: 4096,
      recording: true,
      busy: false,
      persistent: false,
      inconsistent: true,
    },
  ]);
});

describe("commands", () => {
  test.each([
    [{ name: "" }, "Bitmap name cannot be empty"],
    [{ name: "x", granularity: 256 }, "Granularity must be power of 2 and at least 512"],
    [{ name: "x", granularity: 1000 }, "Granularity must be power of 2 and at least 512"],
    [{ name: "b" }, "Bitmap already exists: b"],
    [{ name: "x".repeat(1024) }, `Bitmap name too long: ${"x".repeat(1024)}`],
    [{ name: "x", persistent: true }, "Can't store persistent bitmaps to n: Operation not supported"],
    [{ name: "x", node: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
  ])("add %o is refused", async (args, message) => {
    const { test: made, node } = await bench();
    expect(() => commands.addBitmap(made.graph, { node: "n", ...args })).toThrow(message);
    expect(node.dirtyBitmaps).toHaveLength(1);
  });

  test("of a node that there is not are refused in other words than a new one's", async () => {
    const { test: made } = await bench();
    expect(() => commands.clearBitmap(made.graph, { node: "nope", name: "b" })).toThrow(
      "Node 'nope' not found",
    );
  });

  test.each([
    ["busy", "Bitmap 'b' is currently in use by another operation and cannot be used", true, true],
    // Recording is not a part of what the image stores: that may be switched, as the real daemon has it.
    ["readOnly", "Bitmap 'b' is readonly and cannot be modified", false, true],
    ["inconsistent", "Bitmap 'b' is inconsistent and cannot be used", true, false],
  ] as const)("a bitmap that is %s", async (state, message, enables, removes) => {
    const { test: made, bitmap } = await bench();
    bitmap[state] = true;
    const name = { node: "n", name: "b" };
    expect(() => commands.clearBitmap(made.graph, name)).toThrow(message);
    if (enables) expect(() => commands.enableBitmap(made.graph, name, true)).toThrow(message);
    else commands.enableBitmap(made.graph, name, true);
    expect(() => commands.mergeBitmaps(made.graph, { node: "n", target: "b", bitmaps: [] })).toThrow(message);
    if (removes) expect(() => commands.removeBitmap(made.graph, name)).toThrow(message);
    else commands.removeBitmap(made.graph, name);
  });

  test("each change can be taken back", async () => {
    const { test: made, node, bitmap } = await bench();
    await pwrite(node, 0, new Uint8Array(1));
    const name = { node: "n", name: "b" };
    const undoClear = commands.clearBitmap(made.graph, name);
    expect(bitmap.dirtyBytes).toBe(0);
    undoClear();
    expect(bitmap.dirtyBytes).toBe(4096);
    const undoDisable = commands.enableBitmap(made.graph, name, false);
    expect(bitmap.recording).toBe(false);
    undoDisable();
    expect(bitmap.recording).toBe(true);
    const undoAdd = commands.addBitmap(made.graph, { node: "n", name: "c", disabled: true });
    expect(findDirtyBitmap(node, "c")?.enabled).toBe(false);
    undoAdd();
    expect(findDirtyBitmap(node, "c")).toBeUndefined();
  });

  test("merge adds bits of other granularities and nodes, and can be taken back", async () => {
    const { test: made, node, bitmap } = await bench();
    const other = await made.disk("m", SIZE);
    createDirtyBitmap(node, { name: "fine", granularity: 512 }).bitmap.set(5000, 10);
    createDirtyBitmap(other, { name: "coarse", granularity: 64 * KiB }).bitmap.set(64 * KiB, 1);
    const undo = commands.mergeBitmaps(made.graph, {
      node: "n",
      target: "b",
      bitmaps: ["fine", { node: "m", name: "coarse" }],
    });
    expect(dirty(bitmap)).toBe("1+1 16+16");
    undo();
    expect(dirty(bitmap)).toBe("");
  });

  test("merge refuses bitmaps of another length, and changes nothing", async () => {
    const { test: made, node, bitmap } = await bench();
    const other = await made.disk("m", 4096);
    createDirtyBitmap(node, { name: "c" }).bitmap.set(0, 1);
    createDirtyBitmap(other, { name: "d" });
    const bitmaps = ["c", { node: "m", name: "d" }];
    expect(() => commands.mergeBitmaps(made.graph, { node: "n", target: "b", bitmaps })).toThrow(
      `Bitmaps are of different sizes (destination size is ${SIZE}, source size is 4096) and can't be merged`,
    );
    expect(() =>
      commands.mergeBitmaps(made.graph, { node: "n", target: "b", bitmaps: ["c", "nope"] }),
    ).toThrow("Dirty bitmap 'nope' not found");
    expect(bitmap.dirtyBytes).toBe(0);
  });

  test("the hash is the one of the bits in words of 64", async () => {
    const { test: made, bitmap } = await bench();
    bitmap.bitmap.set(0, 4096);
    const words = new Uint8Array(32);
    words[0] = 1;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", words));
    const hex = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    expect(await commands.bitmapSha256(made.graph, { node: "n", name: "b" })).toBe(hex);
  });
});
