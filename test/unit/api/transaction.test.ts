// transaction(): typed actions, all or none; runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, expectTypeOf, it } from "vitest";
import {
  type BackupJob,
  type Engine,
  JobCancelledError,
  type Node,
  type TransactionAction,
  addBitmap,
  backup,
  bitmaps,
  createEngine,
  createImage,
  dirtyRanges,
  openNode,
  snapshots,
  transaction,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

const SIZE = 4 * MiB;

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

function disk(name: string): Promise<Node> {
  return openNode({ driver: "memory", size: SIZE, discard: "unmap", "node-name": name }, { engine });
}

async function image(name: string): Promise<Node> {
  await engine.graph.add({ driver: "memory", size: 0, "node-name": `${name}-storage` });
  await createImage({ driver: "qcow2", file: `${name}-storage`, size: SIZE }, { engine });
  return openNode({ driver: "qcow2", "node-name": name, file: `${name}-storage`, backing: null }, { engine });
}

/** A disk whose every write fails with ENOSPC. */
async function fullDisk(name: string): Promise<Node> {
  await engine.graph.add({ driver: "memory", size: SIZE, "node-name": `${name}-memory` });
  const rule = { event: "none", iotype: "write", errno: 28 } as const;
  return openNode(
    { driver: "blkdebug", "node-name": name, image: `${name}-memory`, "inject-error": [rule] },
    { engine },
  );
}

/** Everything that an action may change. */
function picture(): unknown {
  return engine.graph.nodes.map((node) => ({
    name: node.name,
    backing: node.backing?.node.name,
    parents: node.parents.size,
    bitmaps: node.dirtyBitmaps.map(({ name, dirtyBytes, enabled, busy }) => [
      name,
      dirtyBytes,
      enabled,
      busy,
    ]),
    quiesced: node.quiesceCounter,
  }));
}

it("a bitmap and a full backup begin at one moment, while a guest writes", async () => {
  const [source, target] = [await disk("source"), await disk("target")];
  await source.write(0, pattern(SIZE, 1));
  let isOver = false;
  let writes = 0;
  const guest = (async (): Promise<void> => {
    for (; !isOver; writes++) await source.write((writes % 64) * 64 * KiB, pattern(4 * KiB, writes));
  })();
  const [job] = await transaction([
    { type: "addBitmap", node: source, name: "daily" },
    { type: "backup", source, target },
  ]);
  await job.done;
  isOver = true;
  await guest;
  expect(writes).toBeGreaterThan(0);
  // What the full backup lacks is what the bitmap says: together they are the disk.
  await (
    await backup(source, target, { sync: "incremental", bitmap: "daily" })
  ).done;
  expect(same(await source.read(0, SIZE), await target.read(0, SIZE))).toBe(true);
});

it("the jobs come in the order of their actions, with their types", async () => {
  const [a, b, c, d] = [await disk("a"), await disk("b"), await disk("c"), await disk("d")];
  const jobs = await transaction([
    { type: "backup", source: a, target: b, jobId: "first" },
    { type: "addBitmap", node: a, name: "x" },
    { type: "backup", source: c, target: d },
  ]);
  expectTypeOf(jobs).toEqualTypeOf<[BackupJob, BackupJob]>();
  expect(jobs.map(({ id }) => id)).toEqual(["first", "backup0"]);
  const listed: TransactionAction[] = [{ type: "clearBitmap", node: a, name: "x" }];
  expectTypeOf(transaction(listed)).resolves.toEqualTypeOf<BackupJob[]>();
  await transaction(listed);
  await Promise.all(jobs.map((job) => job.done));
});

describe("an action that can't be done undoes", () => {
  const actions: [string, (nodes: { node: Node; target: Node }) => TransactionAction][] = [
    ["a backup", ({ node, target }) => ({ type: "backup", source: node, target })],
    ["a new bitmap", ({ node }) => ({ type: "addBitmap", node, name: "new", granularity: 4096 })],
    ["a removed bitmap", ({ node }) => ({ type: "removeBitmap", node, name: "old" })],
    ["a cleared bitmap", ({ node }) => ({ type: "clearBitmap", node, name: "old" })],
    ["a bitmap switched off", ({ node }) => ({ type: "enableBitmap", node, name: "old", enabled: false })],
    ["a bitmap switched on", ({ node }) => ({ type: "enableBitmap", node, name: "off" })],
    ["a merge", ({ node }) => ({ type: "mergeBitmaps", node, target: "off", sources: ["old"] })],
    ["an internal snapshot", ({ node }) => ({ type: "createSnapshot", node, name: "s" })],
    ["an overlay", ({ node }) => ({ type: "overlay", node, overlay: { driver: "qcow2", file: "spare" } })],
  ];

  it.each(actions)("%s", async (_name, make) => {
    const [node, target] = [await image("node"), await disk("target")];
    await engine.graph.add({ driver: "memory", size: 0, "node-name": "spare" });
    await createImage({ driver: "qcow2", file: "spare", size: SIZE }, { engine });
    addBitmap(node, "old");
    await node.write(MiB, pattern(KiB, 1));
    addBitmap(node, "off", { disabled: true });
    await node.release();
    const before = picture();
    await expect(transaction([make({ node, target }), { type: "abort" }])).rejects.toThrow(
      "Transaction aborted using Abort action",
    );
    expect(picture()).toEqual(before);
    expect(engine.jobs.jobs).toEqual([]);
    expect(snapshots(node)).toEqual([]);
    await node.write(0, pattern(KiB, 1));
  });
});

it("grouped: when one backup fails the other is cancelled", async () => {
  const [a, b, target, full] = [
    await disk("a"),
    await disk("b"),
    await disk("target"),
    await fullDisk("full"),
  ];
  await a.write(0, pattern(MiB, 1));
  await b.write(0, pattern(MiB, 1));
  const [good, bad] = await transaction(
    [
      { type: "backup", source: a, target, speedBytesPerSecond: 64 * KiB },
      { type: "backup", source: b, target: full },
    ],
    { completion: "grouped" },
  );
  await expect(bad.done).rejects.toMatchObject({ code: "ENOSPC" });
  await expect(good.done).rejects.toBeInstanceOf(JobCancelledError);
});

it("individual: each ends by itself", async () => {
  const [a, b, target, full] = [
    await disk("a"),
    await disk("b"),
    await disk("target"),
    await fullDisk("full"),
  ];
  await a.write(0, pattern(MiB, 1));
  await b.write(0, pattern(MiB, 1));
  const [good, bad] = await transaction([
    { type: "backup", source: a, target },
    { type: "backup", source: b, target: full },
  ]);
  await expect(bad.done).rejects.toMatchObject({ code: "ENOSPC" });
  expect(await good.done).toMatchObject({ cancelled: false });
});

it("an overlay takes the writes from then on, and its bitmap records them", async () => {
  const node = await image("base");
  await node.write(0, pattern(KiB, 1));
  await engine.graph.add({ driver: "memory", size: 0, "node-name": "file" });
  await createImage({ driver: "qcow2", file: "file", size: SIZE }, { engine });
  const overlay = { driver: "qcow2", file: "file", "node-name": "top" } as const;
  expect(await transaction([{ type: "overlay", node, overlay }])).toEqual([]);
  expect(node.name).toBe("top");
  expect(node.chain.map(({ name }) => name)).toEqual(["top", "base"]);
  await node.write(MiB, pattern(KiB, 2));
  expect(same(await node.read(0, KiB), pattern(KiB, 1))).toBe(true);
  expect(engine.graph.node("base").highestWrite).toBeLessThan(MiB);
});

it("bitmaps are switched, merged and removed together", async () => {
  const node = await disk("node");
  addBitmap(node, "old", { granularity: 512 });
  await node.write(512, new Uint8Array(512));
  await transaction([
    { type: "addBitmap", node, name: "new", granularity: 512, disabled: true },
    { type: "mergeBitmaps", node, target: "new", sources: [{ node, name: "old" }] },
    { type: "removeBitmap", node, name: "old" },
    { type: "enableBitmap", node, name: "new" },
  ]);
  await node.write(4096, new Uint8Array(512));
  expect(bitmaps(node).map(({ name }) => name)).toEqual(["new"]);
  expect(dirtyRanges(node, "new")).toEqual([
    { offset: 512, bytes: 512 },
    { offset: 4096, bytes: 512 },
  ]);
});

describe("refuses before anything is touched", () => {
  it.each([
    ["no list", {}, "Invalid parameter type for 'actions', expected: array"],
    ["no action", [null], "Parameter 'type' is missing"],
    ["an unknown action", [{ type: "bakup" }], "Parameter 'type' does not accept value 'bakup'"],
    ["no node", [{ type: "clearBitmap", name: "x" }], "Parameter 'node' is missing"],
    ["a member that it has not", [{ type: "abort", node: {} }], "Parameter 'node' is unexpected"],
  ])("%s", async (_name, actions, message) => {
    await expect(transaction(actions as unknown as TransactionAction[])).rejects.toThrow(message);
  });

  it("nodes of two engines", async () => {
    await using other = createEngine({ arenaBytes: 16 * MiB });
    const source = await disk("source");
    const target = await openNode({ driver: "memory", size: SIZE }, { engine: other });
    await expect(transaction([{ type: "backup", source, target }])).rejects.toMatchObject({ code: "EINVAL" });
  });

  it("a signal that has aborted, with its reason", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const signal = AbortSignal.abort(new Error("no more"));
    await expect(transaction([{ type: "backup", source, target }], { signal })).rejects.toThrow("no more");
    expect(engine.jobs.jobs).toEqual([]);
  });
});
