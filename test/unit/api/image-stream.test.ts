// Exports while the guest writes, here and across a port, and overlays that are thrown away. Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  type ImageStreamOptions,
  type Node,
  type RemoteEngine,
  addBitmap,
  connectEngine,
  createEngine,
  createImage,
  discardOverlay,
  imageStream,
  openNode,
  serveEngine,
  stream,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;
let remote: RemoteEngine;

beforeEach(async () => {
  engine = createEngine({ arenaBytes: 16 * MiB });
  const { port1, port2 } = new MessageChannel();
  void serveEngine(port2, engine, { keepEngine: true });
  remote = await connectEngine(port1);
});

afterEach(async () => {
  remote.fail(new Error("over"));
  await engine.close();
});

/** Not by a Response: Chromium's tells of no reason why its stream failed. */
async function bytesOf(disk: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  const reader = disk.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value as Uint8Array<ArrayBuffer>);
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

/** What an exported qcow2 image holds. */
async function opened(image: Uint8Array): Promise<Uint8Array> {
  const file = { driver: "memory", buffer: image } as never;
  await using node = await openNode({ driver: "qcow2", "read-only": true, file }, { engine });
  return await node.read(0, node.length);
}

/** A disk with 3 MiB of data, whose name is `disk`. */
async function disk(): Promise<Node> {
  const node = await openNode({ driver: "memory", size: 8 * MiB, "node-name": "disk" }, { engine });
  await node.write(MiB, pattern(3 * MiB, 1));
  return node;
}

const ways: [string, ImageStreamOptions][] = [
  ["raw", {}],
  ["qcow2", { format: "qcow2" }],
  ["compressed qcow2", { format: "qcow2", compress: true }],
];

describe.each(["here", "across a port"] as const)("an export %s", (where) => {
  async function start(node: Node, options: ImageStreamOptions): Promise<ReadableStream<Uint8Array>> {
    if (where === "here") return imageStream(node, options);
    return (await remote.disk("disk")).imageStream(options);
  }

  it.each(ways)("as %s is the disk of its start, whatever is written meanwhile", async (_way, options) => {
    await using node = await disk();
    const before = await node.read(0, node.length);
    const told: [number, number][] = [];
    const onProgress = (...progress: [number, number]): number => told.push(progress);
    const exported = await start(node, { ...options, onProgress });
    await node.write(0, pattern(2 * MiB, 7));
    const bytes = bytesOf(exported);
    await node.write(3 * MiB + 512, pattern(4 * MiB, 8));
    const held = options.format === "qcow2" ? await opened(await bytes) : await bytes;
    expect(same(held, before)).toBe(true);
    expect(told.at(-1)![0]).toBe(told.at(-1)![1]);
    expect(told.at(-1)![1]).toBeGreaterThan(0);
    expect(same(await node.read(3 * MiB + 512, 4 * MiB), pattern(4 * MiB, 8))).toBe(true);
    expect(engine.graph.nodes.map(({ name }) => name)).toEqual(["disk"]);
  });

  it("works above a job that runs, from a handle that was made meanwhile", async () => {
    const base = await disk();
    const store = { driver: "memory", size: 0, "node-name": "store" } as const;
    await openNode(store, { engine });
    await createImage({ driver: "qcow2", file: "store", size: base.length }, { engine });
    const spec = { driver: "qcow2", file: "store", backing: "disk", "node-name": "top" } as const;
    const top = await openNode(spec, { engine });
    const guest = await remote.guestDisk("top");
    const job = await stream(top, { speedBytesPerSecond: MiB });
    const there = await remote.disk("top");
    const exported = where === "here" ? await imageStream(top) : await there.imageStream();
    await guest.write(MiB, pattern(MiB, 5));
    const bytes = await bytesOf(exported);
    expect(same(bytes.subarray(MiB, 4 * MiB), pattern(3 * MiB, 1))).toBe(true);
    expect(same(await there.read(MiB, MiB), pattern(MiB, 5))).toBe(true);
    await job.done;
    expect(same(await there.read(MiB, MiB), pattern(MiB, 5))).toBe(true);
  });

  it("fails, and not its guest, when there is no room for what the guest overwrites", async () => {
    await using node = await disk();
    const scratch = { driver: "memory", size: node.length, "max-bytes": MiB };
    const exported = await start(node, { scratch });
    const bytes = bytesOf(exported);
    const failed = expect(bytes).rejects.toMatchObject({ code: "ENOSPC" });
    await node.write(4 * MiB, pattern(4 * MiB, 2));
    await node.write(MiB, pattern(3 * MiB, 2));
    await failed;
    expect(same(await node.read(MiB, 3 * MiB), pattern(3 * MiB, 2))).toBe(true);
    expect(engine.graph.nodes.map(({ name }) => name)).toEqual(["disk"]);
  });

  it("leaves nothing behind when it is cancelled", async () => {
    await using node = await disk();
    const reader = (await start(node, { format: "qcow2" })).getReader();
    await reader.read();
    await reader.cancel();
    expect(engine.graph.nodes.map(({ name }) => name)).toEqual(["disk"]);
    const abort = new AbortController();
    const why = new Error("enough");
    const aborted = (await start(node, { signal: abort.signal })).getReader();
    await aborted.read();
    abort.abort(why);
    await expect(aborted.read().then(() => aborted.read())).rejects.toBe(why);
    expect(engine.graph.nodes.map(({ name }) => name)).toEqual(["disk"]);
  });

  it("refuses what makes no sense", async () => {
    await using node = await disk();
    await expect(start(node, { compress: true })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(start(node, { format: "vmdk" })).rejects.toMatchObject({ code: "EINVAL" });
    const odd = { format: "qcow2", clusterBytes: 1000 } as const;
    await expect(start(node, odd)).rejects.toMatchObject({ code: "EINVAL" });
  });
});

it("a page that goes in the middle of an export leaves no filter", async () => {
  await using node = await disk();
  const there = await remote.disk("disk");
  await (await there.imageStream()).getReader().read();
  expect(engine.graph.nodes.length).toBeGreaterThan(1);
  remote.fail(new Error("gone"));
  while (engine.graph.nodes.length > 1) await new Promise((resolve) => setTimeout(resolve, 1));
  expect(node.length).toBe(8 * MiB);
});

describe("an overlay", () => {
  async function overlay(): Promise<Node> {
    const base = await disk();
    const store = { driver: "memory", size: 0, "node-name": "store", discard: "unmap" } as const;
    await openNode(store, { engine });
    await createImage({ driver: "qcow2", file: "store", size: base.length }, { engine });
    return openNode({ driver: "qcow2", file: "store", backing: "disk", "node-name": "top" }, { engine });
  }

  it("is thrown away, its room given back", async () => {
    const top = await overlay();
    await top.write(512 * KiB, pattern(2 * MiB, 9));
    await top.release();
    const there = await remote.disk("top");
    await there.discardOverlay();
    expect(same(await there.read(MiB, 3 * MiB), pattern(3 * MiB, 1))).toBe(true);
    expect(same(await there.read(512 * KiB, 512 * KiB), new Uint8Array(512 * KiB))).toBe(true);
    expect((await there.info())["actual-size"]).toBeLessThan(512 * KiB);
    await there.write(0, pattern(4096, 2));
    expect(same(await top.read(0, 4096), pattern(4096, 2))).toBe(true);
    const [extent] = [await top.blockStatus(MiB, MiB)];
    expect(extent.depth).toBe(1);
  });

  it("is kept where it can't be, with the reason", async () => {
    const top = await overlay();
    const plain = await openNode({ driver: "memory", size: MiB }, { engine });
    await expect(discardOverlay(plain)).rejects.toMatchObject({ code: "EINVAL" });
    addBitmap(top, "b");
    await expect(discardOverlay(top)).rejects.toMatchObject({ code: "EBUSY" });
    await top.close();
    const again = { driver: "qcow2", file: "store", backing: "disk" } as const;
    await using busy = await openNode(again, { engine });
    const job = await stream(busy, { speedBytesPerSecond: 1 });
    await expect(discardOverlay(busy)).rejects.toThrow("stream");
    await job.cancel();
    await job.done.catch(() => undefined);
  });

  it("has snapshots that the page makes, applies and removes", async () => {
    await overlay();
    const there = await remote.disk("top");
    await there.write(0, pattern(4096, 1));
    const made = await there.createSnapshot("first");
    await there.write(0, pattern(4096, 2));
    expect((await there.snapshots()).map(({ name, id }) => [name, id])).toEqual([["first", made.id]]);
    await there.applySnapshot("first");
    expect(same(await there.read(0, 4096), pattern(4096, 1))).toBe(true);
    await there.removeSnapshot("first");
    expect(await there.snapshots()).toEqual([]);
    await expect(there.applySnapshot("first")).rejects.toMatchObject({ code: "ENOENT" });
  });
});
