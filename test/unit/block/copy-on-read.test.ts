// Reads that populate: what the backing chain holds moves up, the guest's writes win, and nothing counts as dirty.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { pread, pwrite } from "../../../src/block/io/io.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { clusterBytes, cow, images, makeImage } from "../job/cow-format.ts";
import { TestGraph, pattern, same } from "../support/graph.ts";
import { type ProbeDriver, addProbe } from "../support/probe.ts";

const SIZE = 4 * clusterBytes;

async function chain(): Promise<{
  test: TestGraph;
  top: BlockNode;
  base: ProbeDriver;
  clusters: Map<number, Uint8Array>;
}> {
  const made = new TestGraph();
  made.graph.register(cow);
  const { driver } = await addProbe(made.graph, { "node-name": "base", size: SIZE });
  driver.bytes.set(pattern(SIZE, 1));
  makeImage("top", SIZE);
  const top = await made.graph.add({ driver: "cow", "node-name": "top", backing: "base" });
  return { test: made, top, base: driver, clusters: images.get("top")!.clusters };
}

describe("copy on read", () => {
  test("it fills whole clusters, once, and no bitmap is told", async () => {
    const { top, base, clusters } = await chain();
    const bitmap = createDirtyBitmap(top);
    const buffer = new Uint8Array(1000);
    await pread(top, clusterBytes + 100, buffer, Req.copyOnRead);
    expect(same(buffer, pattern(SIZE, 1).subarray(clusterBytes + 100, clusterBytes + 1100))).toBe(true);
    expect([...clusters.keys()]).toEqual([1]);
    expect(bitmap.dirtyBytes).toBe(0);
    base.take();
    await pread(top, clusterBytes, buffer, Req.copyOnRead);
    expect(base.take()).toEqual([]);
  });

  test("prefetch populates and leaves the buffer alone, aligned or not, also beyond the end", async () => {
    const { top, clusters } = await chain();
    const buffer = new Uint8Array(700).fill(0xee);
    await pread(top, 100, buffer, Req.copyOnRead | Req.prefetch);
    await pread(top, SIZE - 512, buffer.subarray(0, 512), Req.copyOnRead | Req.prefetch);
    await pread(top, SIZE - 100, buffer, Req.copyOnRead | Req.prefetch);
    expect(buffer.every((byte) => byte === 0xee)).toBe(true);
    expect([...clusters.keys()]).toEqual([0, 3]);
  });

  test("it waits for no memory: whoever reads may hold all of it", async () => {
    const { test: made, top, clusters } = await chain();
    const { arena } = made.graph;
    using _all = await arena.acquire(arena.size);
    const buffer = new Uint8Array(512);
    await made.host.clock.settle(pread(top, 0, buffer, Req.copyOnRead));
    expect(same(buffer, pattern(512, 1))).toBe(true);
    expect([[...clusters.keys()], arena.waiting]).toEqual([[0], 0]);
  });

  test("a job's read says so to both parts, what is copied and what is there", async () => {
    const { top, base } = await chain();
    await pwrite(top, 0, new Uint8Array(clusterBytes).fill(7));
    const seen: number[] = [];
    const { pread: own } = top.driver;
    top.driver.pread = (offset, buffer, flags) => {
      seen.push(flags);
      return own.call(top.driver, offset, buffer, flags);
    };
    base.take();
    await pread(top, 0, new Uint8Array(2 * clusterBytes), Req.copyOnRead | Req.background);
    expect(seen).toEqual([Req.background, Req.background]);
  });

  test("a guest's write to the same cluster waits, and is not overwritten", async () => {
    const { test: made, top, base } = await chain();
    let release = (): void => undefined;
    base.before = () => new Promise<void>((resolve) => (release = resolve));
    const reading = pread(top, 0, new Uint8Array(512), Req.copyOnRead);
    await made.host.clock.idle();
    let written = false;
    const writing = Promise.resolve(pwrite(top, clusterBytes - 512, new Uint8Array(512).fill(7))).then(
      () => (written = true),
    );
    await made.host.clock.idle();
    expect(written).toBe(false);
    base.before = undefined;
    release();
    await Promise.all([reading, writing]);
    const buffer = new Uint8Array(512);
    await pread(top, clusterBytes - 512, buffer);
    expect(buffer.every((byte) => byte === 7)).toBe(true);
  });

  test("reads and writes of a random guest see what a byte model holds", async () => {
    const { test: made, top } = await chain();
    const model = pattern(SIZE, 1);
    const { random } = made.host;
    for (let round = 0; round < 40; round++) {
      const list = Array.from({ length: 4 }, (_, slot) => {
        const offset = slot * clusterBytes + random.below(clusterBytes - 5000);
        return {
          offset,
          bytes: 1 + random.below(5000),
          value: random.below(256),
          write: random.below(2) === 1,
        };
      });
      await Promise.all(
        list.map(async ({ offset, bytes, value, write }) => {
          const buffer = new Uint8Array(bytes).fill(value);
          if (write) await pwrite(top, offset, buffer);
          else {
            await pread(top, offset, buffer, Req.copyOnRead);
            expect(same(buffer, model.subarray(offset, offset + bytes))).toBe(true);
          }
        }),
      );
      for (const { offset, bytes, value, write } of list)
        if (write) model.fill(value, offset, offset + bytes);
    }
    const whole = new Uint8Array(SIZE);
    await pread(top, 0, whole);
    expect(same(whole, model)).toBe(true);
    expect(made.graph.arena.inUse).toBe(0);
  });

  test("an error of the backing file or of the copy's write fails the read", async () => {
    const { top, base, clusters } = await chain();
    base.before = () => Promise.reject(blockError("EIO", "pread"));
    await expect(pread(top, 0, new Uint8Array(512), Req.copyOnRead)).rejects.toMatchObject({ code: "EIO" });
    base.before = undefined;
    images.get("top")!.faults.push({ op: "write", code: "EIO", once: true });
    await expect(pread(top, 0, new Uint8Array(512), Req.copyOnRead)).rejects.toMatchObject({
      code: "EIO",
    });
    expect(clusters.size).toBe(0);
    await pread(top, 0, new Uint8Array(512), Req.copyOnRead);
    expect(clusters.size).toBe(1);
  });

  test("without room for the copy a guest still reads, and a job that wants the copy is told", async () => {
    const { top, clusters } = await chain();
    images.get("top")!.faults.push({ op: "write", code: "ENOSPC", once: false });
    const buffer = new Uint8Array(512);
    await pread(top, clusterBytes, buffer, Req.copyOnRead);
    expect(same(buffer, pattern(SIZE, 1).subarray(clusterBytes, clusterBytes + 512))).toBe(true);
    const prefetch = pread(top, clusterBytes, buffer, Req.copyOnRead | Req.prefetch);
    await expect(prefetch).rejects.toMatchObject({ code: "ENOSPC" });
    expect(clusters.size).toBe(0);
  });
});
