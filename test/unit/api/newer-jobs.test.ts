// What jobs of newer QEMU can do, by the library: a target known to be zero, another copy mode on the way, a source that goes with its
// copying. Runs in Node and in Chromium.
import { afterEach, beforeEach, expect, it } from "vitest";
import {
  type Engine,
  type Node,
  backup,
  browserHost,
  changeMirror,
  createImage,
  isActivelySynced,
  mirror,
  openNode,
  portableDrivers,
  whenReady,
} from "../../../src/browser.ts";
import { createEngine } from "../../../src/index.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

const SIZE = MiB;

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ host: browserHost(), drivers: portableDrivers, arenaBytes: 16 * MiB });
});

afterEach(() => engine.close());

function disk(name: string, more: object = {}): Promise<Node> {
  return openNode({ driver: "memory", size: SIZE, "node-name": name, ...more }, { engine });
}

it.each([true, false])(
  "a mirror leaves what its target has alone where it is said to be zero: %s",
  async (isZero) => {
    const store = await disk("store");
    await createImage({ driver: "qcow2", file: "store", size: SIZE }, { engine });
    const spec = { driver: "qcow2", file: "store", "node-name": "source" } as const;
    await using source = await openNode(spec, { engine });
    await store.close();
    const target = await disk("target");
    await source.write(0, pattern(64 * KiB, 1));
    await target.write(SIZE - 64 * KiB, pattern(64 * KiB, 2));
    const job = await mirror(source, target, { targetIsZero: isZero });
    await whenReady(job);
    await job.cancel({ force: false });
    await job.done;
    expect(same(await target.read(0, 64 * KiB), pattern(64 * KiB, 1))).toBe(true);
    const rest = await target.read(SIZE - 64 * KiB, 64 * KiB);
    expect(same(rest, isZero ? pattern(64 * KiB, 2) : new Uint8Array(64 * KiB))).toBe(true);
  },
);

it("a mirror's copy mode is changed while it runs: what is written then is in both at once", async () => {
  const [source, target] = [await disk("source"), await disk("target")];
  const job = await mirror(source, target);
  await whenReady(job);
  expect(isActivelySynced(job)).toBe(false);
  await changeMirror(job, { copyMode: "write-blocking" });
  expect(isActivelySynced(job)).toBe(true);
  await source.write(4096, pattern(4096, 3));
  expect(job.bitmap.dirtyBytes).toBe(0);
  expect(isActivelySynced(job)).toBe(true);
  await expect(changeMirror(job, { copyMode: "background" })).rejects.toThrow(
    "Change to copy mode 'background' is not implemented",
  );
  await job.cancel({ force: false });
  await job.done;
  expect(same(await target.read(4096, 4096), pattern(4096, 3))).toBe(true);
});

it("a job of another kind has no copy mode", async () => {
  const [source, target] = [await disk("source"), await disk("target")];
  const job = await backup(source, target, { speedBytesPerSecond: 64 * KiB });
  await expect(changeMirror(job, { copyMode: "write-blocking" })).rejects.toThrow(
    "Job type does not support change",
  );
  expect(isActivelySynced(job)).toBe(false);
  await job.cancel();
});

it("a backup's source goes with its copying, where it is to, and then it has no checkpoint", async () => {
  const [source, scratch] = [await disk("source"), await disk("scratch", { discard: "unmap" })];
  await source.write(0, pattern(256 * KiB, 4));
  const filter = { driver: "copy-before-write", "node-name": "cbw", file: "source", target: "scratch" };
  await using guest = await openNode(filter as never, { engine });
  const view = { driver: "snapshot-access", "node-name": "view", file: "cbw", discard: "unmap" };
  const moment = await openNode(view as never, { engine });
  await guest.write(0, pattern(64 * KiB, 5));
  const target = await disk("target");
  await expect(backup(moment, target, { discardSource: true, checkpoint: "a.checkpoint" })).rejects.toThrow(
    "There is no checkpoint of a backup that takes its source away",
  );
  const job = await backup(moment, target, { discardSource: true, minClusterBytes: 128 * KiB });
  await job.done;
  expect(same(await target.read(0, 256 * KiB), pattern(256 * KiB, 4))).toBe(true);
  await expect(moment.read(0, 512)).rejects.toMatchObject({ code: "EACCES" });
  expect(same(await scratch.read(0, 64 * KiB), new Uint8Array(64 * KiB))).toBe(true);
  await moment.close();
});
