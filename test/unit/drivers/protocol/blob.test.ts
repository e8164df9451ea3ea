// blob: a Blob as a read-only disk, refusals, an image in a Blob by fromBlob(); runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Engine, createEngine, createImage, fromBlob, openNode } from "../../../../src/browser.ts";
import { MiB, pattern } from "../../support/graph.ts";

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

/** A qcow2 image of 1 MiB with `data` at 70000, in a Blob. */
async function imageBlob(data: Uint8Array): Promise<Blob> {
  await using store = await openNode(
    { driver: "memory", size: 0, "node-name": "store", discard: "unmap" },
    { engine },
  );
  await createImage({ driver: "qcow2", file: "store", size: MiB }, { engine });
  const disk = await openNode({ driver: "qcow2", file: "store" }, { engine });
  await disk.write(70_000, data);
  await disk.close();
  return new Blob([await store.read(0, store.length)]);
}

describe("blob", () => {
  it("shows the Blob's bytes, at any offset, and no more", async () => {
    const data = pattern(100_001, 3).map((byte, i) => byte ^ i);
    await using node = await fromBlob(new Blob([data.slice(0, 777), data.slice(777)]), { engine });
    expect([node.length, node.readOnly]).toEqual([100_001, true]);
    for (const [offset, bytes] of [
      [0, 100_001],
      [776, 3],
      [511, 1],
      [100_000, 1],
    ] as const)
      expect(await node.read(offset, bytes)).toEqual(data.slice(offset, offset + bytes));
    await expect(node.read(100_000, 2)).rejects.toMatchObject({ code: "EIO" });
    expect(await node.blockStatus(5, 50_000)).toMatchObject({ bytes: 50_000, data: true, zero: false });
    // Sectors, as qemu-img info has it.
    expect((await node.info())["virtual-size"]).toBe(196 * 512);
  });

  it("opens the image in a Blob when its format is named, and guesses none", async () => {
    const blob = await imageBlob(pattern(5_000, 9));
    await using disk = await fromBlob(blob, { engine, format: "qcow2", nodeName: "disk" });
    expect([disk.name, disk.length, disk.readOnly]).toEqual(["disk", MiB, true]);
    expect(await disk.read(69_999, 3)).toEqual(new Uint8Array([0, 9, 9]));
    expect(disk.chain).toMatchObject([{ driver: "qcow2", filename: "" }]);
    await using plain = await fromBlob(blob, { engine });
    expect(plain.length).toBe(blob.size);
    const names = engine.graph.nodes.map((node) => node.type.name);
    expect(names.filter((name) => name === "blob")).toHaveLength(2);
  });

  it("refuses writes, a writable node, and what is no Blob", async () => {
    const blob = new Blob([new Uint8Array(512)]);
    await using node = await fromBlob(blob, { engine });
    await expect(node.write(0, new Uint8Array(1))).rejects.toMatchObject({ code: "EPERM" });
    const open = (spec: object): Promise<unknown> =>
      openNode({ driver: "blob", ...spec } as unknown as Parameters<typeof openNode>[0], { engine });
    await expect(open({ blob })).rejects.toMatchObject({ code: "EACCES" });
    await expect(open({})).rejects.toThrow("Parameter 'blob' expects a Blob");
    await expect(open({ blob: "x", "read-only": true })).rejects.toThrow("expected: Blob");
    await expect(fromBlob(blob, { engine, format: "qcow2" })).rejects.toThrow("not in qcow2 format");
    await expect(fromBlob(blob, { engine, format: "none" })).rejects.toThrow("does not accept value 'none'");
    expect(engine.graph.nodes).toHaveLength(1);
    const auto = (await open({ blob, "auto-read-only": true })) as typeof node;
    expect(auto.readOnly).toBe(true);
    await auto.close();
  });

  it("answers EIO when the Blob can't be read any more", async () => {
    const blob = new Blob([new Uint8Array(4096)]);
    blob.slice = () => {
      const part = new Blob();
      part.arrayBuffer = () => Promise.reject(new DOMException("gone", "NotReadableError"));
      return part;
    };
    await using node = await fromBlob(blob, { engine });
    await expect(node.read(0, 512)).rejects.toMatchObject({
      code: "EIO",
      cause: { name: "NotReadableError" },
    });
    blob.slice = () => new Blob(["short"]);
    await expect(node.read(0, 512)).rejects.toMatchObject({ code: "EIO", bytes: 512 });
  });

  it("reads small ranges by blocks, which it keeps within bounds, and large ones as they are", async () => {
    const KiB = 1024;
    const size = 10 * MiB + 1000;
    const blob = new Blob([pattern(size, 5).slice()]);
    const slices: [number, number][] = [];
    const slice = blob.slice.bind(blob);
    blob.slice = (start = 0, end = 0) => {
      slices.push([start, end]);
      return slice(start, end);
    };
    await using node = await fromBlob(blob, { engine });
    const read = async (offset: number, bytes: number): Promise<void> =>
      expect(await node.read(offset, bytes)).toEqual(pattern(size, 5).subarray(offset, offset + bytes));
    // Three that are under way together share a block; one lies across two.
    await Promise.all([read(0, 10), read(60_000, 512), read(65_000, 2000)]);
    await read(70_000, 4096);
    expect(slices).toEqual([
      [0, 64 * KiB],
      [64 * KiB, 128 * KiB],
    ]);
    slices.length = 0;
    await read(1000, 64 * KiB);
    await read(size - 700, 700);
    expect(slices).toEqual([
      [1000, 1000 + 64 * KiB],
      [10 * MiB, size],
    ]);
    // 8 MiB are kept: the first block goes when 128 others came after it.
    for (let at = 1; at <= 128; at++) await node.read(at * 64 * KiB, 1);
    slices.length = 0;
    await read(128 * 64 * KiB, 512);
    await read(0, 512);
    expect(slices).toEqual([[0, 64 * KiB]]);
  });

  it("keeps nothing that has failed, and gives what it keeps at once", async () => {
    const blob = new Blob([pattern(8192, 5).slice()]);
    const slice = blob.slice.bind(blob);
    blob.slice = () => new Blob(["short"]);
    await using node = await fromBlob(blob, { engine });
    const { driver } = node.blockNode;
    const buffer = new Uint8Array(512);
    await expect(node.read(0, 512)).rejects.toMatchObject({ code: "EIO" });
    await expect(driver.pread(0, buffer, 0)).rejects.toMatchObject({ code: "EIO" });
    blob.slice = slice;
    await node.read(0, 512);
    expect(driver.pread(4096, buffer, 0)).toBeUndefined();
    expect(buffer).toEqual(pattern(8192, 5).subarray(4096, 4608));
  });

  it("takes an empty Blob as an empty disk", async () => {
    await using node = await fromBlob(new Blob(), { engine });
    expect([node.length, await node.read(0, 0)]).toEqual([0, new Uint8Array()]);
  });
});
