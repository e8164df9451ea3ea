// A guest's reads at once while jobs are behind it: their filters pass on what they have nothing to do with.
import { expect, test } from "vitest";
import { plugGuest } from "../../../src/api/guest.ts";
import {
  type Node,
  backup,
  commit,
  createEngine,
  createImage,
  mirror,
  openNode,
  stream,
} from "../../../src/browser.ts";
import { isPromise } from "../../../src/base/answer.ts";
import type { GuestDisk } from "../../../src/machine/guest-disk.ts";
import type { Engine } from "../../../src/machine/engine.ts";

const KiB = 1024;
const SIZE = 1024 * KiB;
const CLUSTER = 64 * KiB;
const WRITTEN = 0;
const ZEROED = CLUSTER;
const BELOW = 2 * CLUSTER;

/** A store whose reads can be had at once, as those of opfs can. */
async function store(engine: Engine, name: string, size = 0): Promise<Node> {
  const node = await openNode({ driver: "memory", "node-name": name, size }, { engine });
  const { driver } = node.blockNode;
  const pread = driver.pread.bind(driver);
  Object.assign(driver, {
    pread(offset: number, buffer: Uint8Array): void {
      void pread(offset, buffer, 0);
    },
  });
  return node;
}

/** An overlay with a cluster of sevens and one of zeroes, over a base of nines. */
async function overlay(engine: Engine): Promise<Node> {
  const base = await store(engine, "base", SIZE);
  await base.write(0, new Uint8Array(SIZE).fill(9));
  await store(engine, "file");
  await createImage({ driver: "qcow2", file: "file", size: SIZE }, { engine });
  const disk = await openNode(
    { driver: "qcow2", "node-name": "disk", file: "file", backing: "base" },
    { engine },
  );
  await disk.write(WRITTEN, new Uint8Array(CLUSTER).fill(7));
  await disk.writeZeroes(ZEROED, CLUSTER);
  return disk;
}

async function target(engine: Engine): Promise<Node> {
  await store(engine, "target", SIZE);
  return openNode({ driver: "raw", file: "target" }, { engine });
}

const slow = { speedBytesPerSecond: 1 };

/** The last byte of what is read at once; "later": it was not. */
async function lastByte(guest: GuestDisk, offset: number, bytes = 4 * KiB): Promise<number | "later"> {
  const answer = guest.read(offset, bytes);
  if (!isPromise(answer)) return answer.at(-1)!;
  await answer;
  return "later";
}

test.each([
  ["no job", () => Promise.resolve(undefined)],
  ["a stream job", (_: Engine, disk: Node) => stream(disk, slow)],
  ["a mirror job", async (engine: Engine, disk: Node) => mirror(disk, await target(engine), slow)],
  ["a backup job", async (engine: Engine, disk: Node) => backup(disk, await target(engine), slow)],
  ["an active commit", (_: Engine, disk: Node) => commit(disk, slow)],
] as const)("with %s behind it", async (name, start) => {
  await using engine = createEngine();
  const disk = await overlay(engine);
  const guest = await plugGuest(disk, {});
  const job = await start(engine, disk);
  expect(await lastByte(guest, WRITTEN)).toBe(7);
  expect(await lastByte(guest, ZEROED)).toBe(0);
  expect(await lastByte(guest, WRITTEN, 2 * CLUSTER)).toBe(0);
  // A stream copies what is read from below.
  expect(await lastByte(guest, BELOW + CLUSTER)).toBe(name === "a stream job" ? "later" : 9);
  if (job) {
    expect(["running", "ready"]).toContain(job.status);
    await job.cancel({ force: true });
  }
});

test("a copy under way holds reads of its clusters only", async () => {
  await using engine = createEngine();
  const disk = await overlay(engine);
  const { requests } = disk.blockNode;
  const guest = await plugGuest(disk, {});
  const copy = requests.begin("read", 0, 512);
  requests.makeSerialising(copy, CLUSTER);
  const held = guest.read(CLUSTER - 512, 512);
  expect(isPromise(held)).toBe(true);
  expect(await lastByte(guest, CLUSTER, 512)).toBe(0);
  copy.waiting = true;
  expect(await lastByte(guest, 0, 512)).toBe(7);
  requests.end(copy);
  expect((await held).at(-1)).toBe(7);
});
