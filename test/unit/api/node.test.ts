// The library's node handles over disks in memory; runs in Node and in Chromium (the browser Host works in both).
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  type Engine,
  type Node,
  type DriverType,
  BlockError,
  createEngine,
  createImage,
  openNode,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

function disk(size: number, name?: string): Promise<Node> {
  const named = name === undefined ? {} : { "node-name": name };
  return openNode({ driver: "memory", size, discard: "unmap", ...named }, { engine });
}

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("a node", () => {
  it("reads what was written, zeroes what was zeroed, and tells its length", async () => {
    await using node = await disk(MiB, "d0");
    expect([node.name, node.length, node.readOnly]).toEqual(["d0", MiB, false]);
    const data = pattern(10_000, 7);
    await node.write(5_000, data);
    expect(same(await node.read(5_000, 10_000), data)).toBe(true);
    await node.writeZeroes(5_000, 3_000);
    const into = new Uint8Array(10_000);
    expect(await node.read(5_000, into)).toBe(into);
    expect(same(into.subarray(0, 3_000), new Uint8Array(3_000))).toBe(true);
    expect(same(into.subarray(3_000), data.subarray(3_000))).toBe(true);
    await node.flush();
    await node.discard(0, MiB);
    expect(same(await node.read(0, MiB), new Uint8Array(MiB))).toBe(true);
  });

  it("refuses what is outside the disk", async () => {
    await using node = await disk(MiB);
    const error = await rejection(node.read(MiB - 1, 2));
    expect(error).toBeInstanceOf(BlockError);
    expect(error).toMatchObject({ code: "EIO", op: "pread", offset: MiB - 1, bytes: 2 });
  });

  it("is closed by `await using`, and closes once", async () => {
    let kept: Node;
    {
      await using node = await disk(MiB, "gone");
      kept = node;
    }
    expect(engine.graph.findNode("gone")).toBeUndefined();
    await kept.close();
    expect(() => kept.length).toThrow("the node handle is closed");
  });

  it("is closed with its engine, so that storage is let go of", async () => {
    const closed: string[] = [];
    const recorder: DriverType = {
      name: "recorder",
      kind: "protocol",
      open: ({ node }) =>
        Promise.resolve({
          length: () => KiB,
          pread: () => Promise.resolve(),
          close: () => Promise.resolve(void closed.push(node.name)),
        }),
    };
    const other = createEngine({ arenaBytes: MiB, drivers: [recorder] });
    const spec = { driver: "recorder", "node-name": "r" } as unknown as Parameters<typeof openNode>[0];
    const open = await openNode(spec, { engine: other });
    await open.read(0, 512);
    await other.close();
    expect(closed).toEqual(["r"]);
    await open.close();
    expect(closed).toEqual(["r"]);
  });

  it("reports a failed flush when it closes, and is closed all the same", async () => {
    await using memory = await disk(MiB, "m");
    const node = await openNode(
      {
        driver: "blkdebug",
        "node-name": "failing",
        image: memory.name,
        "inject-error": [{ event: "none", iotype: "flush", errno: 5 }],
      },
      { engine },
    );
    await node.write(0, pattern(512, 1));
    expect(await rejection(node.close())).toMatchObject({ code: "EIO" });
    expect(engine.graph.findNode("failing")).toBeUndefined();
  });

  it("keeps a second writer out once it has written, and not before", async () => {
    await using first = await disk(MiB, "shared");
    await using below = await openNode({ driver: "raw", file: "shared" }, { engine });
    await using above = await openNode({ driver: "raw", file: "shared" }, { engine });
    await below.write(0, pattern(512, 1));
    expect(await rejection(above.write(0, pattern(512, 2)))).toMatchObject({ code: "EPERM" });
    expect(same(await first.read(0, 512), pattern(512, 1))).toBe(true);
    await below.release();
    await above.write(0, pattern(512, 2));
    expect(same(await below.read(0, 512), pattern(512, 2))).toBe(true);
  });

  it("works on the caller's own buffer", async () => {
    const buffer = new Uint8Array(64 * KiB);
    await using node = await openNode({ driver: "memory", buffer }, { engine });
    await node.write(512, pattern(512, 9));
    expect(same(buffer.subarray(512, 1024), pattern(512, 9))).toBe(true);
  });

  it("ends a wait with the signal's reason", async () => {
    await using node = await disk(MiB);
    const reason = new Error("no longer needed");
    const signal = AbortSignal.abort(reason);
    expect(await rejection(node.read(0, 512, { signal }))).toBe(reason);
    expect(await rejection(openNode({ driver: "null-co", "node-name": "n" }, { engine, signal }))).toBe(
      reason,
    );
    expect(engine.graph.findNode("n")).toBeUndefined();
  });
});

describe("streams", () => {
  it("carry a whole disk, in chunks of 1 MiB", async () => {
    await using from = await disk(2 * MiB + 4096);
    await using to = await disk(2 * MiB + 4096);
    const data = pattern(2 * MiB + 4096, 3);
    await from.write(0, data);
    const sizes: number[] = [];
    const watch = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        sizes.push(chunk.byteLength);
        controller.enqueue(chunk);
      },
    });
    await from.readable().pipeThrough(watch).pipeTo(to.writable());
    expect(sizes).toEqual([MiB, MiB, 4096]);
    expect(same(await to.read(0, data.byteLength), data)).toBe(true);
  });

  it("cover a range, and fill a reader's own buffer", async () => {
    await using node = await disk(MiB);
    const data = pattern(MiB, 5);
    await node.write(0, data);
    const reader = node.readable({ offset: 1000, length: 3000 }).getReader({ mode: "byob" });
    const first = await reader.read(new Uint8Array(2000));
    expect(same(first.value!, data.subarray(1000, 3000))).toBe(true);
    const second = await reader.read(new Uint8Array(2000));
    expect(same(second.value!, data.subarray(3000, 4000))).toBe(true);
    expect((await reader.read(new Uint8Array(1))).done).toBe(true);
  });

  it("are plain where the engine has no byte streams, as WebKit", async () => {
    await using node = await disk(3 * MiB);
    const data = pattern(3 * MiB, 6);
    await node.write(0, data);
    const PlainStream = new Proxy(ReadableStream, {
      construct(target, [source, strategy]: [UnderlyingDefaultSource, QueuingStrategy]) {
        if ("type" in source) throw new TypeError("ReadableByteStreamController is not implemented");
        return new target(source, strategy);
      },
    });
    vi.stubGlobal("ReadableStream", PlainStream);
    try {
      const stream = node.readable({ offset: 5 });
      expect(() => stream.getReader({ mode: "byob" })).toThrow(TypeError);
      const got = new Uint8Array(
        await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
      );
      expect(same(got, data.subarray(5))).toBe(true);
    } finally {
      vi.unstubAllGlobals();
    }
  });

  it("read no further ahead than one chunk", async () => {
    await using node = await disk(16 * MiB);
    let reads = 0;
    const read = node.read.bind(node);
    node.read = (async (offset: number, into: Uint8Array) => {
      reads += 1;
      return read(offset, into);
    }) as typeof node.read;
    const reader = node.readable().getReader();
    await reader.read();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(reads).toBeLessThanOrEqual(2);
    await reader.cancel();
  });

  it("refuse a range outside the disk, and bytes beyond its end", async () => {
    await using node = await disk(MiB);
    expect(() => node.readable({ offset: MiB, length: 1 })).toThrow("is outside the disk");
    const writer = node.writable({ offset: MiB - 512 }).getWriter();
    await writer.write(new Uint8Array(512));
    expect(await rejection(writer.write(new Uint8Array(1)))).toMatchObject({ code: "ENOSPC" });
  });
});

describe("qcow2 in memory", () => {
  it("is made, written, mapped and described", async () => {
    await using storage = await disk(0, "storage");
    await createImage({ driver: "qcow2", file: "storage", size: 8 * MiB }, { engine });
    await using node = await openNode({ driver: "qcow2", file: "storage", discard: "unmap" }, { engine });
    expect(node.length).toBe(8 * MiB);
    await node.write(MiB, pattern(128 * KiB, 1));
    await node.writeZeroes(2 * MiB, MiB);
    const extents = [];
    for await (const { offset, bytes, data, zero, present } of node.map())
      extents.push([offset / KiB, bytes / KiB, data, zero, present]);
    expect(extents).toEqual([
      [0, 1024, false, true, false],
      [1024, 128, true, false, true],
      [1152, 896, false, true, false],
      [2048, 1024, false, true, true],
      [3072, 5120, false, true, false],
    ]);
    expect(await node.blockStatus(MiB, 4096)).toMatchObject({ offset: MiB, bytes: 4096, data: true });
    expect(await node.info()).toMatchObject({
      format: "qcow2",
      "virtual-size": 8 * MiB,
      "cluster-size": 65536,
      "format-specific": { type: "qcow2" },
    });
    expect(node.chain).toMatchObject([{ driver: "qcow2", length: 8 * MiB }]);
    expect(storage.length).toBeGreaterThan(0);
  });

  it("opens a backing file only through the gate", async () => {
    await using base = await disk(MiB, "base");
    await base.write(0, pattern(512, 8));
    await using storage = await disk(0, "overlay-storage");
    await createImage(
      { driver: "qcow2", file: storage.name, size: MiB, "backing-file": "base.raw", "backing-fmt": "raw" },
      { engine },
    );
    const spec = { driver: "qcow2", file: storage.name } as const;
    expect(await rejection(openNode(spec, { engine }))).toMatchObject({ code: "EPERM" });
    const asked: unknown[] = [];
    await using node = await openNode(spec, {
      engine,
      gate: async (request) => {
        asked.push([request.kind, request.name, request.format]);
        return { allow: { driver: "raw", file: base.name } };
      },
    });
    expect(asked).toEqual([["backing", "base.raw", "raw"]]);
    expect(same(await node.read(0, 512), pattern(512, 8))).toBe(true);
  });
});
