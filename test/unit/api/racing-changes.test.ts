// Changes of one image that come at once: each finds what the one before has left. Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  type Node,
  amend,
  check,
  createEngine,
  createImage,
  createSnapshot,
  openNode,
  removeSnapshot,
  snapshots,
} from "../../../src/browser.ts";
import { amend as amendNode } from "../../../src/block/graph/amend.ts";
import { pread, pwrite } from "../../../src/block/io/io.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { limits } from "../../../src/base/limits.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 24 * MiB });
});

afterEach(() => engine.close());

async function image(options: Record<string, unknown> = {}): Promise<Node> {
  await openNode({ driver: "memory", size: 0, "node-name": "file" }, { engine });
  await createImage({ driver: "qcow2", file: "file", size: 4 * MiB, ...options }, { engine });
  const node = await openNode({ driver: "qcow2", file: "file", "node-name": "image" }, { engine });
  await node.write(0, pattern(MiB, 1));
  return node;
}

async function expectWhole(node: Node): Promise<void> {
  expect(same(await node.read(0, MiB), pattern(MiB, 1))).toBe(true);
  await node.close();
  const found = await check({ driver: "qcow2", file: "file" }, { engine });
  expect(found).toMatchObject({ corruptions: 0, leaks: 0 });
}

describe("snapshots", () => {
  it("that are made at once have an id each", async () => {
    const node = await image();
    const made = await Promise.all(["a", "b", "c"].map((name) => createSnapshot(node, name)));
    expect(made.map(({ id }) => id)).toEqual(["1", "2", "3"]);
    await expectWhole(node);
  });

  it("are removed once, however often that is asked for at once", async () => {
    const node = await image();
    const { id } = await createSnapshot(node, "a");
    await node.write(0, pattern(MiB, 2));
    await createSnapshot(node, "b");
    const ended = await Promise.allSettled([id, id].map((one) => removeSnapshot(node, one)));
    expect(ended.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(snapshots(node).map(({ name }) => name)).toEqual(["b"]);
    await node.write(0, pattern(MiB, 1));
    await expectWhole(node);
  });
});

describe("amendments at once", () => {
  it("leave an image of what both asked for", async () => {
    const node = await image({ version: "v2" });
    const inner = engine.graph.node("image");
    await Promise.all([
      amendNode(inner, { version: "v3", "refcount-bits": 64 }),
      amendNode(inner, { version: "v3", "lazy-refcounts": true }),
    ]);
    expect(inner.driver.formatSpecific?.()).toMatchObject({
      data: { compat: "1.1", "refcount-bits": 64, "lazy-refcounts": true },
    });
    await expect(amend(node, { version: "v2" })).rejects.toThrow("refcount_bits=16");
    await expectWhole(node);
  });
});

describe("a damaged refcount table", () => {
  it("that names a block twice is given up once when the width changes", async () => {
    await image().then((node) => node.close());
    const file = engine.graph.node("file");
    const header = new DataView(new ArrayBuffer(104));
    await pread(file, 0, new Uint8Array(header.buffer));
    const table = Number(header.getBigUint64(48));
    const entry = new Uint8Array(8);
    await pread(file, table, entry);
    await pwrite(file, table + 8, entry);
    const node = await openNode({ driver: "qcow2", file: "file", "node-name": "damaged" }, { engine });
    await amend(node, { "refcount-bits": 64 });
    expect(same(await node.read(0, MiB), pattern(MiB, 1))).toBe(true);
  });
});

describe("a node that is made writable by two at once", () => {
  it("is so for both when both go on", async () => {
    await image().then((node) => node.close());
    const spec = { driver: "qcow2", file: "file", "node-name": "reader", "read-only": true } as const;
    await openNode(spec, { engine });
    const node = engine.graph.node("reader");
    let calls = 0;
    const before = node.driver.setReadOnly!.bind(node.driver);
    node.driver.setReadOnly = async (readOnly) => {
      calls += 1;
      await engine.graph.host.clock.turn();
      await before(readOnly);
      calls += 1;
    };
    const leases = await Promise.all(
      [0, 1].map(async () => {
        const lease = await engine.graph.writable(node);
        expect([node.readOnly, calls]).toEqual([false, 2]);
        return lease;
      }),
    );
    for (const lease of leases) await lease.end();
    expect(node.readOnly).toBe(true);
  });
});

describe("a node that is amended, on a disk that does not answer", () => {
  it("is writable for others at once", async () => {
    await image();
    const node = engine.graph.node("image");
    let end: () => void = () => undefined;
    node.driver.amend = () => new Promise((resolve) => (end = resolve));
    const amended = amendNode(node, { "lazy-refcounts": true });
    await (await engine.graph.writable(node)).end();
    expect(node.readOnly).toBe(false);
    end();
    await amended;
  });
});

describe("a disk that grows beyond what one of its bitmaps can say", () => {
  it("leaves the others whole, and that one inconsistent", async () => {
    await openNode({ driver: "memory", size: MiB, "node-name": "disk" }, { engine });
    const node = engine.graph.node("disk");
    const fine = createDirtyBitmap(node, { name: "fine", granularity: limits.minGranularity });
    const coarse = createDirtyBitmap(node, { name: "coarse", granularity: 64 * KiB });
    const most = limits.maxBitmapBytes * 8 * limits.minGranularity;
    expect(() => node.grew(most + MiB)).toThrow("choose a larger granularity");
    expect([fine.inconsistent, coarse.inconsistent]).toEqual([true, false]);
    expect([coarse.bitmap.length, node.length]).toEqual([most + MiB, most + MiB]);
    fine.recordWrite(most, MiB);
    coarse.recordWrite(most, MiB);
    expect(coarse.dirtyBytes).toBe(MiB);
  });
});
