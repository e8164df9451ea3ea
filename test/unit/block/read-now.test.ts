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
  Object.assign(driver, {
    preadNow(offset: number, buffer: Uint8Array): boolean {
      void driver.pread(offset, buffer, 0);
      return true;
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

test.each([
  ["no job", () => Promise.resolve(undefined)],
  ["a stream job", (_: Engine, disk: Node) => stream(disk, slow)],
  ["a mirror job", async (engine: Engine, disk: Node) => mirror(disk, await target(engine), slow)],
  ["a backup job", async (engine: Engine, disk: Node) => backup(disk, await target(engine), slow)],
  ["an active commit", (_: Engine, disk: Node) => commit(disk, slow)],
] as const)("with %s behind it", async (_name, start) => {
  await using engine = createEngine();
  const disk = await overlay(engine);
  const guest = await plugGuest(disk, {});
  const job = await start(engine, disk);
  const now = (offset: number, bytes = 4 * KiB): number | false => {
    const buffer = new Uint8Array(bytes);
    return guest.readNow!(offset, buffer) && buffer.at(-1)!;
  };
  expect([now(WRITTEN), now(ZEROED)]).toEqual([7, 0]);
  // Neither across two kinds of clusters, nor from below, where a stream copies what is read.
  expect([now(WRITTEN, 2 * CLUSTER), now(BELOW + CLUSTER)]).toEqual([false, false]);
  if (job) {
    expect(["running", "ready"]).toContain(job.status);
    await job.cancel({ force: true });
  }
});

test("a copy under way holds reads of its clusters only", async () => {
  await using engine = createEngine();
  const disk = await overlay(engine);
  const { requests, driver } = disk.blockNode;
  const guest = await plugGuest(disk, {});
  const copy = requests.begin("read", 0, 512);
  requests.makeSerialising(copy, CLUSTER);
  const buffer = new Uint8Array(512);
  expect([guest.readNow!(CLUSTER - 512, buffer), guest.readNow!(CLUSTER, buffer)]).toEqual([false, true]);
  copy.waiting = true;
  expect(guest.readNow!(0, buffer)).toBe(true);
  requests.end(copy);
  expect(driver.preadNow).toBeDefined();
});
