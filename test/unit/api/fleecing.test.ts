// Backups that never fail or delay the guest: what it overwrites is kept in a scratch disk first. Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type BackupOptions,
  type DriverType,
  type Engine,
  GuestDevice,
  JobCancelledError,
  type Node,
  addBitmap,
  backup,
  bitmaps,
  createEngine,
  openNode,
  transaction,
} from "../../../src/browser.ts";
import { type Deferred, deferred } from "../../../src/base/signals.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

const SIZE = 4 * MiB;

let engine: Engine;
/** Writes to a disk of driver `slow` wait for it. */
let gate: Deferred<void>;

/** A disk of zeroes whose writes wait for the gate. */
function slowDisk(): DriverType {
  return {
    name: "slow",
    kind: "protocol",
    open: async () => {
      const content = new Uint8Array(SIZE);
      return {
        length: () => SIZE,
        pread: (offset: number, buffer: Uint8Array) =>
          buffer.set(content.subarray(offset, offset + buffer.byteLength)),
        pwrite: async (offset: number, data: Uint8Array) => {
          await gate.promise;
          content.set(data, offset);
        },
      };
    },
  };
}

beforeEach(() => {
  gate = deferred();
  engine = createEngine({ arenaBytes: 16 * MiB, drivers: [slowDisk()] });
});

afterEach(async () => {
  gate.resolve();
  await engine.close();
});

function memory(name: string, more: object = {}): Promise<Node> {
  const spec = { driver: "memory", size: SIZE, discard: "unmap", "node-name": name, ...more } as const;
  return openNode(spec, { engine });
}

async function source(): Promise<Node> {
  const node = await memory("source");
  await node.write(0, pattern(SIZE, 1));
  return node;
}

/** A disk whose writes fail with ENOSPC. */
async function fullDisk(): Promise<Node> {
  await engine.graph.add({ driver: "memory", size: SIZE, "node-name": "full-memory" });
  const rule = { event: "none", iotype: "write", errno: 28 } as const;
  return openNode({ driver: "blkdebug", image: "full-memory", "inject-error": [rule] }, { engine });
}

/** Nodes of the graph that nobody but the engine made a name for. */
function leftovers(): string[] {
  return engine.graph.nodes.map(({ name }) => name).filter((name) => name.startsWith("#block"));
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("a target that takes nothing", () => {
  it("full: the guest's write fails for it without fleecing, as QEMU's does", async () => {
    const disk = await source();
    const job = await backup(disk, await fullDisk(), { onTargetError: "stop" });
    expect(await failure(disk.write(0, pattern(KiB, 7)))).toMatchObject({ code: "ENOSPC" });
    await job.cancel();
  });

  it("full: with fleecing the guest goes on, and the job follows its policy", async () => {
    const disk = await source();
    const job = await backup(disk, await fullDisk(), { onTargetError: "stop", fleecing: true });
    await engine.graph.changes.until(() => job.isPausedByError);
    for (let at = 0; at < SIZE; at += 64 * KiB) await disk.write(at, pattern(64 * KiB, 7));
    expect(job.ioStatus).toBe("nospace");
    await job.cancel();
    expect(await failure(job.done)).toBeInstanceOf(JobCancelledError);
    expect(leftovers().length).toBe(1);
    expect(same(await disk.read(0, 64 * KiB), pattern(64 * KiB, 7))).toBe(true);
  });

  it("full once: what failed is copied after all, once there is room", async () => {
    const disk = await source();
    await engine.graph.add({ driver: "memory", size: SIZE, "node-name": "target-memory" });
    const rules = [{ event: "none", iotype: "write", errno: 28, sector: MiB / 512, once: true }];
    const target = await openNode(
      { driver: "blkdebug", image: "target-memory", "inject-error": rules } as never,
      { engine },
    );
    const job = await backup(disk, target, { onTargetError: "enospc", fleecing: true });
    await engine.graph.changes.until(() => job.isPausedByError && job.paused);
    await disk.write(0, pattern(SIZE, 4));
    job.resume();
    await job.done;
    expect(same(await target.read(0, SIZE), pattern(SIZE, 1))).toBe(true);
  });

  it("slow: the guest does not wait for it, and the copy is of the moment", async () => {
    const disk = await source();
    await disk.release();
    const guest = await GuestDevice.plug({ machine: engine.machine, name: "hda", node: disk.blockNode });
    const target = await openNode({ driver: "slow", "node-name": "target" } as never, { engine });
    const job = await backup(disk, target, { fleecing: true });
    for (let at = 0; at < SIZE; at += 64 * KiB) await guest.write(at, pattern(64 * KiB, 9));
    expect(job.offset).toBe(0);
    gate.resolve();
    expect(await job.done).toMatchObject({ offset: SIZE });
    expect(same(await target.read(0, SIZE), pattern(SIZE, 1))).toBe(true);
    expect(same(await disk.read(0, 64 * KiB), pattern(64 * KiB, 9))).toBe(true);
    expect(leftovers()).toEqual([]);
    await guest.unplug();
  });
});

it("what was backed up takes no room in the scratch disk, and costs the guest no copy", async () => {
  const disk = await source();
  // Half of the disk's room: more than what is overwritten at one time, less than what is overwritten in all.
  const scratch = {
    driver: "memory",
    size: SIZE,
    "max-bytes": SIZE / 2,
    discard: "unmap",
    "node-name": "scratch",
  } as const;
  const target = await openNode({ driver: "slow", "node-name": "target" } as never, { engine });
  const job = await backup(disk, target, { fleecing: { scratch }, maxWorkers: 1 });
  await disk.write(SIZE / 2, pattern(SIZE / 2, 5));
  expect(await engine.graph.node("scratch").driver.allocatedBytes?.()).toBe(SIZE / 2);
  gate.resolve();
  await engine.graph.changes.until(() => job.offset >= SIZE / 2);
  await disk.write(0, pattern(SIZE / 2, 5));
  await job.done;
  expect(same(await target.read(0, SIZE), pattern(SIZE, 1))).toBe(true);
});

describe("a scratch disk that is full", () => {
  const scratch = { driver: "memory", size: SIZE, "max-bytes": 64 * KiB } as const;

  it("fails the backup in words, and never the guest", async () => {
    const disk = await source();
    const target = await openNode({ driver: "slow" } as never, { engine });
    const job = await backup(disk, target, { fleecing: { scratch } });
    for (let at = 0; at < SIZE; at += 64 * KiB) await disk.write(at, pattern(64 * KiB, 3));
    gate.resolve();
    expect(await failure(job.done)).toMatchObject({
      code: "ENOSPC",
      message: expect.stringMatching(
        /what the guest overwrote could not be kept: No space left on device/,
      ) as string,
    });
    expect(same(await disk.read(0, 64 * KiB), pattern(64 * KiB, 3))).toBe(true);
    expect(leftovers().length).toBe(1);
  });

  it("asks no policy: ignore does not go on with a moment that is lost", async () => {
    const disk = await source();
    const target = await openNode({ driver: "slow" } as never, { engine });
    const job = await backup(disk, target, {
      fleecing: { scratch },
      onSourceError: "ignore",
      onTargetError: "ignore",
    });
    await disk.write(0, pattern(SIZE, 3));
    gate.resolve();
    expect(await failure(job.done)).toMatchObject({ code: "ENOSPC" });
  });
});

describe("with a bitmap", () => {
  async function recorded(): Promise<Node> {
    const disk = await source();
    addBitmap(disk, "daily", { granularity: 64 * KiB });
    await disk.write(MiB, pattern(MiB, 2));
    return disk;
  }

  const daily: BackupOptions = { sync: "incremental", bitmap: "daily", fleecing: true };

  it("copies what it says, as it was; what is written meanwhile is in it afterwards", async () => {
    const disk = await recorded();
    const target = await openNode({ driver: "slow" } as never, { engine });
    const job = await backup(disk, target, daily);
    await disk.write(MiB, pattern(64 * KiB, 8));
    gate.resolve();
    expect(await job.done).toMatchObject({ offset: MiB });
    expect(same(await target.read(MiB, MiB), pattern(MiB, 2))).toBe(true);
    expect(same(await target.read(0, MiB), new Uint8Array(MiB))).toBe(true);
    expect(bitmaps(disk)).toMatchObject([
      { name: "daily", dirtyBytes: 64 * KiB, busy: false, recording: true },
    ]);
  });

  it("keeps everything when it fails", async () => {
    const disk = await recorded();
    const job = await backup(disk, await fullDisk(), daily);
    await disk.write(3 * MiB, pattern(64 * KiB, 8));
    expect(await failure(job.done)).toMatchObject({ code: "ENOSPC" });
    expect(bitmaps(disk)).toMatchObject([{ dirtyBytes: MiB + 64 * KiB, busy: false, recording: true }]);
  });
});

it("in a transaction: two disks at one moment", async () => {
  const [a, b] = [await source(), await memory("b")];
  const [c, d] = [await memory("c"), await memory("d")];
  const jobs = await transaction([
    { type: "backup", source: a, target: c, fleecing: true },
    { type: "backup", source: b, target: d, fleecing: true },
  ]);
  await a.write(0, pattern(MiB, 6));
  await Promise.all(jobs.map((job) => job.done));
  expect(same(await c.read(0, SIZE), pattern(SIZE, 1))).toBe(true);
  await expect(
    transaction([{ type: "backup", source: a, target: c, fleecing: true }, { type: "abort" }]),
  ).rejects.toThrow("Transaction aborted");
  expect(engine.graph.nodes.map(({ name }) => name).toSorted()).toEqual(["b", "c", "d", "source"]);
});

describe("what can't be is refused, and nothing stays", () => {
  it.each([
    [
      "sync none",
      { sync: "none", fleecing: true },
      "Fleecing copies all of a disk, or what a bitmap says: not sync mode 'none'",
    ],
    ["sync top", { sync: "top", fleecing: true }, "not sync mode 'top'"],
    [
      "a scratch disk of another length",
      { fleecing: { scratch: { driver: "memory", size: KiB } } },
      "scratch disk of 1024 bytes is shorter",
    ],
    ["a scratch disk that is none", { fleecing: { scratch: { driver: "memry" } } }, "memry"],
    ["another option", { fleecing: { scrtch: "x" } }, "did you mean 'scratch'"],
    ["a word that it is not", { onCbwError: "break" }, "does not accept value 'break'"],
  ])("%s", async (_name, options, message) => {
    const [disk, target] = [await source(), await memory("target")];
    expect(String(await failure(backup(disk, target, options as unknown as BackupOptions)))).toContain(
      message,
    );
    expect(engine.jobs.jobs).toEqual([]);
    expect(engine.graph.nodes.map(({ name }) => name).toSorted()).toEqual(["source", "target"]);
    await disk.write(0, pattern(KiB, 1));
  });
});

describe("onCbwError: break-snapshot, without a scratch disk", () => {
  it("lets the guest go on and fails the backup", async () => {
    const disk = await source();
    const target = await fullDisk();
    const job = await backup(disk, target, { onCbwError: "break-snapshot", onTargetError: "ignore" });
    await disk.write(0, pattern(KiB, 7));
    expect(await failure(job.done)).toMatchObject({
      code: "ENOSPC",
      message: expect.stringContaining("what the guest overwrote could not be kept") as string,
    });
    expect(same(await disk.read(0, KiB), pattern(KiB, 7))).toBe(true);
  });

  it("ends sync none at once, which would wait for ever", async () => {
    const disk = await source();
    const job = await backup(disk, await fullDisk(), { onCbwError: "break-snapshot", sync: "none" });
    await disk.write(0, pattern(KiB, 7));
    expect(await failure(job.done)).toMatchObject({ code: "ENOSPC" });
  });
});
