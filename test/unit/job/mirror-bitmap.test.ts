// A mirror by a dirty bitmap: what is copied, what each mode leaves dirty after each end, and what is refused.
import { describe, expect, test } from "vitest";
import { addBitmap, lookupBitmap } from "../../../src/block/bitmap/commands.ts";
import type { DirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";
import { type Bench, bench, type Faults, guest } from "./mirror-support.ts";

const GRANULE = 64 * KiB;
const SIZE = 4 * MiB;

interface Turn extends Bench {
  bitmap: DirtyBitmap;
  write: (offset: number, bytes: number, seed: number) => Promise<void>;
  dirty: () => [number, number][];
}

/** Two disks that are the same, a bitmap, and three writes since. */
async function turn(faults: { source?: Faults; target?: Faults } = {}): Promise<Turn> {
  const made = await bench(faults);
  const { graph } = made.test;
  await made.test.fill("dst", 0, SIZE, 1);
  addBitmap(graph, { node: "src", name: "b0", granularity: GRANULE });
  const backend = await guest(made.test);
  const bitmap = lookupBitmap(graph, { node: "src", name: "b0" });
  const write = (offset: number, bytes: number, seed: number): Promise<void> =>
    made.settle(backend.pwrite(offset, pattern(bytes, seed)));
  for (const [offset, bytes] of WRITES) await write(offset, bytes, offset + 7);
  const dirty = (): [number, number][] =>
    bitmap.bitmap.extents(0, SIZE, 99).map(({ offset, bytes }) => [offset, bytes]);
  return { ...made, bitmap, write, dirty };
}

const WRITES: readonly [number, number][] = [
  [100, 300],
  [MiB, 2 * GRANULE],
  [SIZE - 512, 512],
];
const DIRTY: [number, number][] = [
  [0, GRANULE],
  [MiB, 2 * GRANULE],
  [SIZE - GRANULE, GRANULE],
];

const byBitmap = (mode: "never" | "on-success" | "always") =>
  ({ sync: "bitmap", bitmap: "b0", "bitmap-mode": mode }) as const;

describe("what is dirty is copied, and nothing else", () => {
  test.each(["never", "on-success", "always"] as const)("%s", async (mode) => {
    const made = await turn();
    // What the bitmap does not speak of is not looked at: it stays different.
    await made.test.fill("dst", 2 * MiB, GRANULE, 9);
    const job = await made.start(byBitmap(mode));
    await made.ready(job);
    expect(made.events.at(-1)).toBe(`READY ${4 * GRANULE}/${4 * GRANULE}`);
    expect(await made.test.difference("src", "dst")).toBe(2 * MiB);
    await made.test.fill("dst", 2 * MiB, GRANULE, 1);
    await made.write(3 * MiB, 10, 3);
    await made.settle(job.cancel({ force: false }));
    await made.settle(job.done);
    // The write after READY went to both.
    expect(made.dirty()).toEqual(
      mode === "never" ? [...DIRTY.slice(0, 2), [3 * MiB, GRANULE], DIRTY[2]] : [],
    );
    expect([made.bitmap.busy, made.bitmap.recording]).toEqual([false, true]);
    await made.write(5 * GRANULE, 1, 1);
    expect(made.dirty()).toContainEqual([5 * GRANULE, GRANULE]);
  });

  test("turn after turn the target is what the source is", async () => {
    const made = await turn();
    const { random } = made.test.host;
    for (let round = 0; round < 8; round++) {
      const copyMode = round % 2 === 0 ? "background" : "write-blocking";
      const sync = round % 3 === 0 ? ({ sync: "incremental", bitmap: "b0" } as const) : byBitmap("always");
      const job = await made.start({ ...sync, "copy-mode": copyMode, "job-id": `j${round}`, speed: 4 * MiB });
      for (let i = 0; i < 6; i++) {
        await made.write(random.below(SIZE - 5000), 1 + random.below(5000), round * 10 + i);
        await made.test.host.clock.step();
      }
      await made.ready(job);
      // Every third is given up: what was not copied stays dirty, what was copied does not.
      const isHard = round % 3 === 1;
      await made.settle(job.cancel({ force: isHard }));
      await made.settle(job.done.catch(() => undefined));
      expect(made.bitmap.busy).toBe(false);
      if (!isHard) expect(await made.test.difference("src", "dst")).toBe(-1);
      if (!isHard) expect(made.dirty()).toEqual([]);
      for (let i = 0; i < 3; i++) await made.write(random.below(SIZE - 900), 900, round + i);
    }
  });

  test("complete() turns the disk, and the bitmap of the source is clean", async () => {
    const made = await turn();
    const job = await made.start(byBitmap("on-success"));
    await made.ready(job);
    await job.complete();
    await made.settle(job.done);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    expect(made.dirty()).toEqual([]);
  });
});

describe("a mirror that fails", () => {
  const broken: Faults = [{ event: "pwritev", errno: 5, sector: MiB / 512 }];
  test.each([
    ["on-success", DIRTY],
    ["never", DIRTY],
    // One granule failed; what lies before it was copied.
    ["always", undefined],
  ] as const)("under %s leaves what is not copied dirty", async (mode, left) => {
    const made = await turn({ target: broken });
    const job = await made.start({ ...byBitmap(mode), "on-target-error": "report" });
    await expect(made.settle(job.done)).rejects.toThrow();
    expect(made.bitmap.busy).toBe(false);
    if (left) expect(made.dirty()).toEqual(left);
    expect(made.bitmap.bitmap.get(MiB)).toBe(true);
    // What is clean is the same on both sides.
    for (const [offset, bytes] of DIRTY) {
      for (let at = offset; at < offset + bytes; at += GRANULE) {
        if (made.bitmap.bitmap.get(at)) await made.test.fill("src", at, GRANULE, 1);
        if (made.bitmap.bitmap.get(at)) await made.test.fill("dst", at, GRANULE, 1);
      }
    }
    expect(await made.test.difference("src", "dst")).toBe(-1);
  });

  test("before it has copied anything leaves all dirty under always", async () => {
    const made = await turn();
    const job = await made.start({ ...byBitmap("always"), speed: 1 });
    await made.settle(job.cancel());
    await made.settle(job.done.catch(() => undefined));
    for (const [offset] of DIRTY.slice(1)) expect(made.bitmap.bitmap.get(offset)).toBe(true);
  });
});

describe("what is refused", () => {
  test.each([
    [{ sync: "bitmap" }, "Sync mode 'bitmap' not supported"],
    [{ sync: "incremental" }, "Sync mode 'incremental' not supported"],
    [{ sync: "bitmap", bitmap: "b0" }, "Bitmap sync mode must be given when providing a bitmap"],
    [{ sync: "bitmap", bitmap: "b9", "bitmap-mode": "never" }, "Bitmap 'b9' could not be found"],
    [
      { sync: "full", bitmap: "b0", "bitmap-mode": "always" },
      "Sync mode 'full' is not compatible with bitmaps",
    ],
    [{ sync: "full", "bitmap-mode": "always" }, "Cannot specify bitmap sync mode without a bitmap"],
    [
      { sync: "incremental", bitmap: "b0", "bitmap-mode": "never" },
      "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
    ],
    [{ ...byBitmap("never"), granularity: 4096 }, "Granularity and bitmap cannot both be set"],
  ] as const)("%j", async (args, words) => {
    const made = await turn();
    await expect(made.start(args)).rejects.toThrow(words);
    expect([made.bitmap.busy, jobsOf(made.test.graph).jobs.length]).toEqual([false, 0]);
  });

  test("a bitmap that another job uses, and that is free again after a start that fails", async () => {
    const made = await turn();
    await expect(made.start({ ...byBitmap("always"), "buf-size": -1 })).rejects.toThrow("buf-size");
    expect(made.bitmap.busy).toBe(false);
    const job = await made.start({ ...byBitmap("always"), speed: 1 });
    expect(() => made.bitmap.check()).toThrow("currently in use by another operation");
    await made.settle(job.cancel());
    await made.settle(job.done.catch(() => undefined));
    made.bitmap.check();
  });
});
