// Chunks of a stream and a commit: as QEMU's at first and where they take long or a speed is set, larger where they do not. Zeroes
// stay zeroes in parts of 512 KiB, however large a chunk is.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { copyOnRead } from "../../../src/drivers/filter/copy-on-read.ts";
import { ChunkSize } from "../../../src/block/copy/chunk-size.ts";
import { startCommit } from "../../../src/job/commit/commit.ts";
import { startStream } from "../../../src/job/stream/stream.ts";
import { KiB, MiB, TestGraph, pattern, same } from "../support/graph.ts";
import { clusterBytes, cow, images, makeImage } from "./cow-format.ts";

const SIZE = 24 * MiB;

/** base <- mid <- top; `mid` has all of the disk's data, which is written as `content` says. */
async function chain(content = pattern(SIZE, 5)): Promise<TestGraph> {
  const made = new TestGraph();
  images.clear();
  made.graph.register(cow, copyOnRead);
  for (const name of ["base", "mid", "top"]) makeImage(name, SIZE);
  const { clusters } = images.get("mid")!;
  for (let at = 0; at < SIZE; at += clusterBytes)
    clusters.set(at / clusterBytes, content.slice(at, at + clusterBytes));
  await made.graph.add({ driver: "cow", "node-name": "base", backing: null });
  await made.graph.add({ driver: "cow", "node-name": "mid", backing: "base" });
  await made.graph.add({ driver: "cow", "node-name": "top", backing: "mid" });
  return made;
}

/** Writes down how many bytes each write of a node has; each takes `ms`. */
function writesOf(made: TestGraph, node: BlockNode, ms = 0): number[] {
  const sizes: number[] = [];
  const { driver } = node;
  const { pwrite } = driver;
  driver.pwrite = async (offset, buffer, flags) => {
    sizes.push(buffer.byteLength);
    if (ms > 0) await new Promise<void>((resolve) => made.host.clock.timer(ms, resolve));
    await pwrite!.call(driver, offset, buffer, flags);
  };
  return sizes;
}

async function stream(made: TestGraph, speed = 0): Promise<void> {
  const job = await startStream(made.graph, { "job-id": "j", device: "top", speed });
  await made.host.clock.settle(job.done);
}

async function contentOf(made: TestGraph, name: string): Promise<Uint8Array> {
  const edge = await made.edge(name, Perm.consistentRead);
  const bytes = new Uint8Array(SIZE);
  await edge.pread(0, bytes);
  await made.graph.detach(edge);
  return bytes;
}

test("a size grows while chunks take little time, shrinks when they take long, within its bounds", () => {
  const size = new ChunkSize(512 * KiB);
  const seen = [size.bytes];
  for (const ms of [1, 1, 1, 1, 50, 101, 500, 500, 500]) {
    size.took(size.bytes, ms);
    seen.push(size.bytes);
  }
  expect(seen.map((bytes) => bytes / KiB)).toEqual([512, 1024, 2048, 4096, 4096, 4096, 2048, 1024, 512, 512]);
  // What is shorter for another reason says nothing of larger ones.
  size.took(64 * KiB, 0);
  expect(size.bytes).toBe(512 * KiB);
});

test("over a slow link it shrinks further, nothing is under way beside, and it comes back", () => {
  const size = new ChunkSize(512 * KiB, 128 * KiB);
  const seen = [[size.bytes / KiB, size.allowsSeveral]];
  for (const ms of [5000, 2000, 700, 400, 60, 60, 1]) {
    size.took(size.bytes, ms);
    seen.push([size.bytes / KiB, size.allowsSeveral]);
  }
  expect(seen).toEqual([
    [512, false],
    [128, false],
    [128, false],
    [128, false],
    [256, false],
    [512, true],
    [512, true],
    [1024, true],
  ]);
  // Who gives no smaller one keeps the least.
  const fixed = new ChunkSize(512 * KiB);
  fixed.took(512 * KiB, 5000);
  expect([fixed.bytes / KiB, fixed.allowsSeveral]).toEqual([512, true]);
});

describe("a stream", () => {
  test("takes ever larger chunks while they take no time", async () => {
    const made = await chain();
    const sizes = writesOf(made, made.graph.node("top"));
    await stream(made);
    expect(sizes[0]).toBe(512 * KiB);
    expect(Math.max(...sizes)).toBe(4 * MiB);
    expect(sizes.reduce((sum, bytes) => sum + bytes, 0)).toBe(SIZE);
    expect(same(await contentOf(made, "top"), pattern(SIZE, 5))).toBe(true);
    expect(made.graph.arena.inUse).toBe(0);
  });

  test.each([
    ["with a speed", 0, 1 << 30],
    ["that takes long", 150, 0],
  ])("%s keeps to 512 KiB", async (_, ms, speed) => {
    const made = await chain();
    const sizes = writesOf(made, made.graph.node("top"), ms);
    await stream(made, speed);
    expect(new Set(sizes)).toEqual(new Set([512 * KiB]));
    expect(sizes.length * 512 * KiB).toBe(SIZE);
  });

  test("reads 1 MiB at a time where the arena has no room for more", async () => {
    const made = await chain();
    const { arena } = made.graph;
    const sizes = writesOf(made, made.graph.node("top"));
    using _most = await arena.acquire(arena.size - 2 * MiB);
    await stream(made);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(2 * MiB);
    expect(same(await contentOf(made, "top"), pattern(SIZE, 5))).toBe(true);
  });

  test("finds zeroes within a large chunk", async () => {
    const content = pattern(SIZE, 5);
    // The last is shorter than a part; before the first larger chunk, in one, at the end of one.
    const zeroes = [MiB / 2, 9 * MiB, 9.5 * MiB, 12 * MiB];
    for (const at of zeroes) content.fill(0, at, at + 512 * KiB);
    content.fill(0, 14 * MiB, 14 * MiB + 256 * KiB);
    const made = await chain(content);
    const { driver } = made.graph.node("top");
    const zeroed: number[] = [];
    driver.pwriteZeroes = async (offset, bytes) => {
      for (let at = offset; at < offset + bytes; at += 512 * KiB) zeroed.push(at);
      await driver.pwrite!(offset, new Uint8Array(bytes), 0);
    };
    await stream(made);
    expect(zeroed.toSorted((a, b) => a - b)).toEqual(zeroes);
    expect(same(await contentOf(made, "top"), content)).toBe(true);
  });
});

test("whichever write fails, the chain shows what it did, and the next stream copies the rest", async () => {
  const made = await chain();
  const top = made.graph.node("top");
  const { driver } = top;
  const { pwrite } = driver;
  for (const nth of [1, 6, 9]) {
    let count = 0;
    driver.pwrite = (offset, buffer, flags) => {
      if (++count === nth) return Promise.reject(blockError("EIO", "pwrite"));
      return pwrite!.call(driver, offset, buffer, flags);
    };
    const job = await startStream(made.graph, { "job-id": "j", device: "top", "on-error": "report" });
    await expect(made.host.clock.settle(job.done)).rejects.toMatchObject({ code: "EIO" });
    driver.pwrite = pwrite!;
    expect(same(await contentOf(made, "top"), pattern(SIZE, 5))).toBe(true);
    expect([top.backing?.node.name, made.graph.arena.inUse]).toEqual(["mid", 0]);
    // What was copied so far is not copied again: begin with nothing.
    images.get("top")!.clusters.clear();
  }
  await stream(made);
  expect(top.backing).toBeUndefined();
  expect(same(await contentOf(made, "top"), pattern(SIZE, 5))).toBe(true);
});

test("a commit takes ever larger chunks as well", async () => {
  const made = await chain();
  const sizes = writesOf(made, made.graph.node("base"));
  const args = { "job-id": "j", device: "top", "top-node": "mid", "base-node": "base" };
  const job = await startCommit(made.graph, args);
  await made.host.clock.settle(job.done);
  expect([sizes[0], Math.max(...sizes)]).toEqual([512 * KiB, 4 * MiB]);
  expect(same(await contentOf(made, "base"), pattern(SIZE, 5))).toBe(true);
});
