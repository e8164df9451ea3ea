// convert, compare, map, check, measure and resize over disks in memory; runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type BlockJob,
  type Engine,
  type ImageMapEntry,
  type Node,
  BlockError,
  applySnapshot,
  check,
  commitOverlay,
  compare,
  convert,
  CopyError,
  CopyStatusError,
  createEngine,
  createImage,
  createSnapshot,
  imageMap,
  measure,
  openNode,
  rebase,
  removeSnapshot,
  resize,
  showSnapshot,
  snapshots,
} from "../../../src/browser.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 24 * MiB });
});

afterEach(() => engine.close());

function disk(size: number, name: string): Promise<Node> {
  return openNode({ driver: "memory", size, discard: "unmap", "node-name": name }, { engine });
}

/** An open qcow2 image in memory; `name` is that of the image, `name`-file that of its storage. */
async function qcow2(size: number, name: string): Promise<Node> {
  await disk(0, `${name}-file`);
  await createImage({ driver: "qcow2", file: `${name}-file`, size }, { engine });
  return openNode({ driver: "qcow2", file: `${name}-file`, "node-name": name, discard: "unmap" }, { engine });
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe("convert", () => {
  it("copies data, skips zeroes, and compresses", async () => {
    const source = await disk(9 * MiB, "source");
    const data = pattern(3 * MiB, 5);
    data.fill(0, MiB, 2 * MiB);
    await source.write(2 * MiB + 1, data);
    for (const compress of [false, true]) {
      const target = await qcow2(9 * MiB, `target-${compress}`);
      const seen: number[] = [];
      await convert(source, target, { targetIsZero: true, compress, onProgress: (done) => seen.push(done) });
      expect(await compare(source, target)).toEqual({ identical: true, sizesDiffer: false });
      expect(seen).toEqual(seen.toSorted((a, b) => a - b));
      expect(seen.at(-1)).toBe(9 * MiB);
      const stored = (await all(target.map())).filter((extent) => extent.data);
      expect(stored.reduce((sum, extent) => sum + extent.bytes, 0)).toBeLessThanOrEqual(2 * MiB + 192 * KiB);
    }
  });

  it("copies no more at once than is asked for, and tells of each", async () => {
    const source = await disk(4 * MiB, "stepped");
    const target = await disk(4 * MiB, "steps");
    await source.write(0, pattern(4 * MiB, 3));
    const seen: number[] = [];
    await convert(source, target, { stepBytes: MiB, onProgress: (done) => seen.push(done / MiB) });
    expect(seen).toEqual([0, 1, 2, 3, 4]);
    expect(await compare(source, target)).toMatchObject({ identical: true });
  });

  it("writes in order where it is asked to, whatever is read first", async () => {
    const source = await disk(24 * MiB, "source");
    await source.write(0, pattern(24 * MiB, 1));
    const { driver } = source.blockNode;
    const read = driver.pread.bind(driver);
    driver.pread = (offset, buffer, flags) =>
      offset > 0
        ? read(offset, buffer, flags)
        : new Promise((resolve) => setTimeout(resolve, 20)).then(() => read(offset, buffer, flags));
    const target = await qcow2(24 * MiB, "target");
    await convert(source, target, { targetIsZero: true, inOrder: true, parallel: 6, sparseBytes: 0 });
    // One run of the file for all of the disk.
    const places = (await all(imageMap(target))).map(({ offset, bytes }) => ({ offset, bytes }));
    expect(places).toEqual([{ offset: 0, bytes: 24 * MiB }]);
    expect(await compare(source, target)).toMatchObject({ identical: true });
  });

  it("overwrites what the target held, with zeroes too", async () => {
    const source = await disk(MiB, "source");
    await source.write(300 * KiB, pattern(5000, 3));
    const target = await disk(2 * MiB, "target");
    await target.write(0, pattern(2 * MiB, 9));
    await convert(source, target);
    expect(same(await target.read(0, MiB), await source.read(0, MiB))).toBe(true);
    expect(same(await target.read(MiB, MiB), pattern(2 * MiB, 9).subarray(MiB))).toBe(true);
  });

  it("refuses a target that is too short or cannot compress", async () => {
    const source = await disk(2 * MiB, "source");
    const target = await disk(MiB, "target");
    await expect(convert(source, target)).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(convert(target, source, { compress: true })).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  it("says which side failed and where, and leaves nothing in flight", async () => {
    await (await disk(8 * MiB, "below")).write(0, pattern(8 * MiB, 1));
    const sector = (5 * MiB) / 512;
    const source = await openNode(
      {
        driver: "blkdebug",
        image: "below",
        "inject-error": [{ event: "none", iotype: "read", errno: 5, sector, once: false }],
      },
      { engine },
    );
    const target = await disk(8 * MiB, "target");
    const error = await convert(source, target).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(CopyError);
    expect(error).toMatchObject({ operation: "read", code: "EIO", range: { offset: 4 * MiB } });
    expect(engine.graph.arena.inUse).toBe(0);
  });

  it("copies several disks end to end, into compressed clusters too", async () => {
    const lengths = [MiB + 700, 0, 300 * KiB, 2 * MiB];
    const sources: Node[] = [];
    const whole = new Uint8Array(lengths.reduce((sum, length) => sum + Math.ceil(length / 512) * 512, 0));
    let at = 0;
    for (const [index, length] of lengths.entries()) {
      const source = await disk(length, `source${index}`);
      const data = pattern(length, index + 1);
      data.fill(0, 0, length / 2);
      if (length > 0) await source.write(0, data);
      whole.set(data, at);
      at += Math.ceil(length / 512) * 512;
      sources.push(source);
    }
    for (const compress of [false, true]) {
      const target = await qcow2(whole.byteLength, `target-${compress}`);
      await convert(sources, target, { targetIsZero: true, compress });
      expect(same(await target.read(0, whole.byteLength), whole)).toBe(true);
    }
    const target = await disk(whole.byteLength - 512, "short");
    await expect(convert(sources, target)).rejects.toMatchObject({ code: "ENOSPC" });
    await expect(convert([], target)).rejects.toMatchObject({ code: "EINVAL" });
    const options = { targetHasBacking: true };
    await expect(convert(sources, target, options)).rejects.toMatchObject({ code: "EINVAL" });
  });

  it("salvages what can be read, sector by sector", async () => {
    const data = pattern(3 * MiB, 1);
    await (await disk(3 * MiB, "below")).write(0, data);
    const rule = (iotype: "read" | "block-status", sector: number): object => ({
      event: "none",
      iotype,
      errno: 5,
      sector,
      once: false,
    });
    const rules = [rule("read", 100), rule("read", 4097), rule("block-status", 5000)];
    const source = await openNode(
      { driver: "blkdebug", image: "below", "inject-error": rules as [] },
      { engine },
    );
    const target = await disk(3 * MiB, "target");
    await expect(convert(source, target)).rejects.toBeInstanceOf(CopyStatusError);
    const unread: string[] = [];
    await convert(source, target, { salvage: ({ step, offset }) => unread.push(`${step} ${offset / 512}`) });
    expect(new Set(unread)).toEqual(new Set(["read 100", "read 4097", "status 5000"]));
    expect(unread.filter((what) => what === "status 5000")).toHaveLength(2);
    expect(unread[0]).toBe("status 5000");
    for (const sector of [100, 4097]) data.fill(0, sector * 512, sector * 512 + 512);
    expect(same(await target.read(0, 3 * MiB), data)).toBe(true);
  });

  it("keeps to a speed", async () => {
    const source = await disk(6 * MiB, "source");
    await source.write(0, pattern(6 * MiB, 1));
    const target = await disk(6 * MiB, "target");
    const { clock } = engine.graph.host;
    const started = clock.nowMs();
    await convert(source, target, { speedBytesPerSecond: 20 * MiB });
    // Three pieces of 100 ms each.
    expect(clock.nowMs() - started).toBeGreaterThan(250);
    expect(same(await target.read(0, 6 * MiB), await source.read(0, 6 * MiB))).toBe(true);
  });

  it("stops when it is aborted", async () => {
    const source = await disk(16 * MiB, "source");
    await source.write(0, pattern(16 * MiB, 1));
    const target = await disk(16 * MiB, "target");
    const controller = new AbortController();
    const reason = new Error("enough");
    const onProgress = (done: number): void => {
      if (done > 0) controller.abort(reason);
    };
    const { signal } = controller;
    await expect(convert(source, target, { parallel: 1, signal, onProgress })).rejects.toBe(reason);
    expect(engine.graph.arena.inUse).toBe(0);
  });
});

describe("rebase", () => {
  it("keeps the content over another backing file, and over none", async () => {
    const old = await disk(2 * MiB, "old");
    await old.write(0, pattern(2 * MiB, 1));
    const next = await disk(3 * MiB + 300, "next");
    await next.write(0, pattern(3 * MiB, 2));
    await next.write(512 * KiB, pattern(2 * MiB, 1).subarray(512 * KiB, MiB));
    await disk(0, "image-file");
    await createImage({ driver: "qcow2", file: "image-file", size: 4 * MiB }, { engine });
    const spec = { driver: "qcow2", file: "image-file", backing: "old" } as const;
    const image = await openNode(spec, { engine });
    await image.write(100 * KiB, pattern(5000, 3));
    const before = await image.read(0, 4 * MiB);
    const seen: number[] = [];
    const target = { filename: "next.raw", format: "raw", node: next };
    await rebase(image, target, { onProgress: (done) => seen.push(done) });
    expect(seen.at(-1)).toBe(4 * MiB);
    expect(image.chain.map(({ name }) => name).at(-1)).toBe("next");
    expect(same(await image.read(0, 4 * MiB), before)).toBe(true);
    const own = (await all(image.map())).filter((extent) => extent.depth === 0 && extent.data);
    expect(own.reduce((sum, extent) => sum + extent.bytes, 0)).toBe(1536 * KiB);
    expect((await image.info())["backing-filename"]).toBe("next.raw");
    await rebase(image, null);
    expect(image.chain.map(({ driver }) => driver)).toEqual(["qcow2"]);
    expect(same(await image.read(0, 4 * MiB), before)).toBe(true);
  });

  it("refuses what can't be, and changes nothing when it is aborted", async () => {
    const plain = await disk(MiB, "plain");
    const image = await qcow2(MiB, "image");
    const target = { filename: "x", format: "raw" };
    await expect(rebase(plain, null)).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(rebase(image, target)).rejects.toMatchObject({ code: "EINVAL" });
    await expect(rebase(image, { ...target, node: image })).rejects.toMatchObject({ code: "EINVAL" });
    const reason = new Error("enough");
    const controller = new AbortController();
    const onProgress = (): void => controller.abort(reason);
    const { signal } = controller;
    await plain.write(0, pattern(MiB, 1));
    await expect(rebase(image, { ...target, node: plain }, { onProgress, signal })).rejects.toBe(reason);
    expect((await image.info())["backing-filename"]).toBeUndefined();
    await rebase(image, target, { unsafe: true });
    expect((await image.info({}))["backing-filename"]).toBe("x");
    expect(engine.graph.arena.inUse).toBe(0);
  });
});

describe("commitOverlay", () => {
  /** Three images: base, middle (longer) and top, with some of the content in each. */
  async function chain(): Promise<{ top: Node; whole: Uint8Array }> {
    await (await disk(2 * MiB, "base")).write(0, pattern(2 * MiB, 1));
    for (const [name, below] of [
      ["middle", "base"],
      ["top", "middle"],
    ] as const) {
      await disk(0, `${name}-file`);
      await createImage({ driver: "qcow2", file: `${name}-file`, size: 3 * MiB }, { engine });
      const spec = { driver: "qcow2", file: `${name}-file`, backing: below } as const;
      const node = await openNode({ ...spec, "node-name": name }, { engine });
      await node.write(name === "top" ? MiB : 2 * MiB, pattern(300 * KiB, name.length));
      if (name === "top") return { top: node, whole: await node.read(0, 3 * MiB) };
    }
    throw new Error("no top");
  }

  it("empties the overlay once what it held is in its backing file", async () => {
    const { top, whole } = await chain();
    await commitOverlay(top);
    expect(top.name).toBe("middle");
    expect(same(await top.read(0, 3 * MiB), whole)).toBe(true);
    await top.close();
    const again = await openNode({ driver: "qcow2", file: "top-file", backing: "middle" }, { engine });
    expect(same(await again.read(0, 3 * MiB), whole)).toBe(true);
    expect((await all(again.map())).some(({ depth, present }) => depth === 0 && present)).toBe(false);
  });

  it("leaves the overlay as it is with another base, and where the job fails", async () => {
    const { top, whole } = await chain();
    await expect(commitOverlay(top, { base: "nothing" })).rejects.toThrow("Did not find 'nothing'");
    const follow = async (job: BlockJob): Promise<void> => {
      await job.cancel({ force: true });
      throw new Error("no");
    };
    await expect(commitOverlay(top, { follow })).rejects.toThrow("no");
    expect(same(await top.read(0, 3 * MiB), whole)).toBe(true);
    const plain = await qcow2(MiB, "alone");
    await expect(commitOverlay(plain)).rejects.toThrow("Image does not have a backing file");
  });
});

describe("snapshots", () => {
  it("are made, listed, shown, applied and removed", async () => {
    const image = await qcow2(MiB, "image");
    await image.write(0, pattern(MiB, 1));
    const first = await createSnapshot(image, "first");
    expect(first).toMatchObject({ id: "1", name: "first", icount: 0, diskBytes: MiB });
    await image.write(0, pattern(MiB, 2));
    await createSnapshot(image, "1");
    await image.write(0, pattern(MiB, 3));
    expect(snapshots(image).map(({ id, name }) => `${id} ${name}`)).toEqual(["1 first", "2 1"]);
    await expect(showSnapshot(image, "1")).rejects.toMatchObject({ code: "EINVAL" });
    await applySnapshot(image, { name: "1" });
    expect(same(await image.read(0, MiB), pattern(MiB, 2))).toBe(true);
    await applySnapshot(image, "1");
    expect(same(await image.read(0, MiB), pattern(MiB, 1))).toBe(true);
    await expect(applySnapshot(image, { id: "2", name: "first" })).rejects.toMatchObject({ code: "ENOENT" });
    await removeSnapshot(image, "first");
    await expect(removeSnapshot(image, "first")).rejects.toMatchObject({ code: "ENOENT" });
    await image.close();
    const spec = { driver: "qcow2", file: "image-file", "read-only": true } as const;
    const reader = await openNode(spec, { engine });
    await showSnapshot(reader, "1");
    expect(same(await reader.read(0, MiB), pattern(MiB, 2))).toBe(true);
    await expect(createSnapshot(reader, "x")).rejects.toMatchObject({ code: "EACCES" });
    const plain = await disk(MiB, "plain");
    expect(snapshots(plain)).toEqual([]);
    await expect(createSnapshot(plain, "x")).rejects.toMatchObject({ code: "ENOTSUP" });
  });
});

describe("compare", () => {
  it("finds the first sector that differs, beyond the shorter end too", async () => {
    const a = await disk(8 * MiB, "a");
    const b = await disk(6 * MiB, "b");
    expect(await compare(a, b)).toEqual({ identical: true, sizesDiffer: true });
    await a.write(7 * MiB + 700, pattern(1, 9));
    expect(await compare(b, a)).toEqual({
      identical: false,
      mismatch: "content",
      offset: 7 * MiB + 512,
      sizesDiffer: true,
    });
    await b.write(5 * MiB + 1, new Uint8Array([1]));
    await b.write(3 * MiB + 1, new Uint8Array([1]));
    expect(await compare(a, b)).toMatchObject({ mismatch: "content", offset: 3 * MiB });
    expect(await compare(a, b, { strict: true })).toMatchObject({ identical: false, mismatch: "size" });
  });

  it("begins where it is told to", async () => {
    const [a, b] = [await disk(8 * MiB, "a"), await disk(6 * MiB, "b")];
    for (const at of [MiB, 3 * MiB, 7 * MiB]) await a.write(at, new Uint8Array([1]));
    const first = async (offset: number): Promise<number | undefined> =>
      (await compare(a, b, { offset })).offset;
    expect(await first(MiB)).toBe(MiB);
    expect(await first(MiB + 512)).toBe(3 * MiB);
    expect(await first(4 * MiB)).toBe(7 * MiB);
    expect(await first(7 * MiB)).toBe(7 * MiB);
    for (const offset of [7 * MiB + 512, 9 * MiB])
      expect(await compare(a, b, { offset })).toEqual({ identical: true, sizesDiffer: true });
    for (const offset of [100, -512])
      await expect(compare(a, b, { offset })).rejects.toMatchObject({ code: "EINVAL" });
  });
});

describe("map", () => {
  it("says where the bytes lie", async () => {
    const image = await qcow2(4 * MiB, "image");
    await image.write(MiB, pattern(128 * KiB, 1));
    const entries: ImageMapEntry[] = await all(imageMap(image));
    expect(entries.map(({ offset, bytes, data, depth }) => [offset, bytes, data, depth])).toEqual([
      [0, MiB, false, 0],
      [MiB, 128 * KiB, true, 0],
      [MiB + 128 * KiB, 3 * MiB - 128 * KiB, false, 0],
    ]);
    const place = entries[1]?.fileOffset ?? -1;
    await image.flush();
    const file = await openNode({ driver: "raw", file: "image-file", "read-only": true }, { engine });
    expect(same(await file.read(place, 1000), pattern(128 * KiB, 1).subarray(0, 1000))).toBe(true);
    expect(await all(imageMap(image, { offset: MiB, length: 10 }))).toMatchObject([{ bytes: 10 }]);
  });

  it("says what is stored compressed", async () => {
    const source = await disk(192 * KiB, "source");
    await source.write(0, new Uint8Array(128 * KiB).fill(7));
    const image = await qcow2(192 * KiB, "image");
    await convert(source, image, { compress: true });
    await image.write(64 * KiB, pattern(64 * KiB, 1));
    const entries = await all(imageMap(image));
    expect(entries.map(({ offset, data, compressed }) => [offset, data, compressed])).toEqual([
      [0, true, true],
      [64 * KiB, true, false],
      [128 * KiB, false, false],
    ]);
  });
});

describe("check", () => {
  it("finds a leak, writes nothing unless asked, and repairs", async () => {
    const image = await qcow2(MiB, "image");
    await image.write(0, pattern(64 * KiB, 1));
    await image.close();
    const file = await openNode({ driver: "raw", file: "image-file" }, { engine });
    const head = await file.read(48, 8);
    const table = Number(new DataView(head.buffer).getBigUint64(0));
    const block = Number(new DataView((await file.read(table, 8)).buffer).getBigUint64(0));
    // The header's cluster is counted twice.
    await file.write(block, new Uint8Array([0, 2]));
    await file.close();
    const spec = { driver: "qcow2", file: "image-file" } as const;
    const words: string[] = [];
    const onMessage = (text: string): void => void words.push(text);
    expect(await check(spec, { engine, onMessage })).toMatchObject({
      leaks: 1,
      corruptions: 0,
      leaksFixed: 0,
    });
    expect(words).toEqual(["Leaked cluster 0 refcount=2 reference=1"]);
    expect(await check(spec, { engine, repair: "leaks" })).toMatchObject({ leaks: 0, leaksFixed: 1 });
    expect(await check(spec, { engine })).toMatchObject({
      leaks: 0,
      corruptions: 0,
      allocatedClusters: 1,
      clusterSize: 65536,
    });
    await expect(check({ driver: "raw", file: "image-file" }, { engine })).rejects.toMatchObject({
      code: "ENOTSUP",
    });
  });
});

describe("measure and resize", () => {
  it("tells what a new image takes", async () => {
    const source = await disk(MiB, "source");
    await source.write(70_000, pattern(10, 1));
    const empty = await measure({ format: "qcow2", bytes: MiB });
    const filled = await measure({ format: "qcow2", source });
    expect(filled.requiredBytes - empty.requiredBytes).toBe(64 * KiB);
    expect(filled.fullyAllocatedBytes).toBe(empty.requiredBytes + MiB);
    expect(await measure({ format: "raw", bytes: 1000 })).toEqual({
      requiredBytes: 1024,
      fullyAllocatedBytes: 1024,
    });
    await expect(measure({ format: "qcow2", bytes: 1, clusterSize: 1000 })).rejects.toBeInstanceOf(
      BlockError,
    );
  });

  it("makes a disk longer and shorter", async () => {
    const image = await qcow2(MiB, "image");
    await resize(image, 3 * MiB, { preallocation: "metadata" });
    expect(image.length).toBe(3 * MiB);
    await resize(image, 512);
    expect(image.length).toBe(512);
    await expect(resize(image, 100)).rejects.toMatchObject({ code: "EINVAL" });
  });
});
