// The backup job over memory nodes: events, progress, error policy, bitmaps. Recorded expectations are those of the
// real daemon (conformance suite); here they hold in browsers too.
import { describe, expect, it } from "vitest";
import type { Child } from "../../../src/block/model/node.ts";
import {
  type DirtyBitmap,
  createDirtyBitmap,
  findDirtyBitmap,
} from "../../../src/block/model/dirty-bitmap.ts";
import type { BackupArgs } from "../../../src/job/backup/backup.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";
import {
  EIO,
  ENOSPC,
  type Faults,
  type Setup,
  always,
  beginning,
  ending,
  expectGone,
  full,
  once,
  setup,
} from "./backup-support.ts";

describe("a backup", () => {
  it("copies everything, shows its pause at the start, and leaves nothing behind", async () => {
    const s = await setup();
    const job = await s.start();
    expect(s.events).toEqual(beginning);
    await s.settle(job.done);
    await s.test.host.clock.idle();
    expect(s.events).toEqual([...beginning, ...ending, full, "concluded", "null"]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
    expectGone(s);
  });

  it("keeps the moment of its start whatever the guest writes", async () => {
    const s = await setup();
    const before = await s.test.content("src");
    const job = await s.start({ speed: 64 * KiB, "filter-node-name": "flt" });
    const guest = await s.test.edge("flt");
    for (const offset of [3 * MiB, 0, 2 * MiB - 512]) await guest.pwrite(offset, pattern(KiB, 77));
    // Copies for the guest move the job's progress on, beside its own first chunk.
    expect(job.offset).toBeGreaterThanOrEqual(MiB + 128 * KiB);
    job.setSpeed(0);
    await s.settle(job.done);
    expect(s.test.graph.kernels.firstDifference(before, await s.test.content("dst"))).toBe(-1);
    expect(same((await s.test.content("src")).subarray(0, KiB), pattern(KiB, 77))).toBe(true);
  });

  it("copies only what the top layer holds with sync=top, and counts only that", async () => {
    const s = await setup();
    s.test.graph.node("src").driver.blockStatus = (offset, bytes) => {
      const allocated = offset < 256 * KiB;
      return Promise.resolve({
        bytes: allocated ? Math.min(bytes, 256 * KiB - offset) : bytes,
        data: allocated,
        zero: false,
        allocated,
      });
    };
    await s.settle((await s.start({ sync: "top" })).done);
    expect(s.events).toContain(`COMPLETED ${256 * KiB}/${256 * KiB}`);
    expect(await s.test.difference("src", "dst", 256 * KiB)).toBe(-1);
    expect(s.test.graph.kernels.isZero((await s.test.content("dst")).subarray(256 * KiB))).toBe(true);
  });

  it("fails at once when the scan of sync=top fails, whatever the policy", async () => {
    const s = await setup();
    s.test.graph.node("src").driver.blockStatus = () =>
      Promise.reject(Object.assign(new Error("x"), { code: "EIO" }));
    const job = await s.start({ sync: "top", "on-source-error": "ignore" });
    await expect(s.settle(job.done)).rejects.toMatchObject({ code: "EIO" });
    expect(s.events.some((event) => event.startsWith("error"))).toBe(false);
  });

  it("with sync=none copies for the guest only, until it is cancelled", async () => {
    const s = await setup();
    const job = await s.start({ sync: "none", "filter-node-name": "flt" });
    const guest = await s.test.edge("flt");
    await guest.pwrite(MiB, pattern(512, 77));
    await s.test.host.clock.idle();
    expect(jobsOf(s.test.graph).queryBlockJobs()).toMatchObject([
      { offset: 64 * KiB, len: 4 * MiB, busy: false, status: "running" },
    ]);
    await s.settle(job.cancel());
    await job.done.catch(() => undefined);
    expect(s.events).toEqual([
      ...beginning,
      "aborting",
      `CANCELLED ${64 * KiB}/${4 * MiB}`,
      "concluded",
      "null",
    ]);
  });

  it("keeps to its speed: the first chunk goes at once, the next after its share of time", async () => {
    const s = await setup();
    const job = await s.start({ speed: 64 * KiB });
    await s.test.host.clock.idle();
    expect(job.offset).toBe(MiB);
    await s.settle(job.done);
    expect(s.test.host.clock.nowMs()).toBeGreaterThanOrEqual(48_000);
    expect(s.test.host.clock.nowMs()).toBeLessThan(49_000);
  });

  it("pauses and resumes where the user says, and a cancel ends it at once", async () => {
    const s = await setup();
    const job = await s.start({ speed: 64 * KiB });
    await s.test.host.clock.idle();
    job.pause();
    await s.test.host.clock.idle();
    expect(s.events).toEqual([...beginning, "paused"]);
    await expect(job.blockJobCancel(false)).rejects.toThrow(
      "The block job for device 'j' is currently paused",
    );
    job.resume();
    await s.test.host.clock.idle();
    await s.settle(job.blockJobCancel(false));
    await s.test.host.clock.idle();
    expect(s.events.slice(4)).toEqual([
      "paused",
      "running",
      "aborting",
      `CANCELLED ${MiB}/${4 * MiB}`,
      "concluded",
      "null",
    ]);
    expectGone(s);
  });

  it("bounds its requests as x-perf says", async () => {
    const s = await setup();
    const { driver } = s.test.graph.node("dst");
    const { pwrite } = driver;
    let running = 0;
    let most = 0;
    const sizes = new Set<number>();
    driver.pwrite = async (offset, buffer, flags) => {
      most = Math.max(most, (running += 1));
      sizes.add(buffer.byteLength);
      await s.test.host.clock.turn();
      await pwrite!.call(driver, offset, buffer, flags);
      running -= 1;
    };
    await s.settle((await s.start({ "x-perf": { "max-workers": 3, "max-chunk": 128 * KiB } })).done);
    expect([most, ...sizes]).toEqual([3, 128 * KiB]);
  });
});

describe.each([
  ["source", "read"],
  ["target", "write"],
] as const)("an error of the %s", (side, operation) => {
  const faulty = (rules: Record<string, unknown>[]): Promise<Setup> => setup({ faults: { [side]: rules } });
  const policy = (value: string): Partial<BackupArgs> => ({ [`on-${side}-error`]: value });

  it.each([
    ["report", EIO, "EIO", "Input/output error"],
    ["report", ENOSPC, "ENOSPC", "No space left on device"],
    ["enospc", EIO, "EIO", "Input/output error"],
    ["auto", EIO, "EIO", "Input/output error"],
  ])("under %s (errno %i) ends the job", async (value, errno, code, text) => {
    const s = await faulty(once(operation, errno));
    const job = await s.start(policy(value));
    await expect(s.settle(job.done)).rejects.toMatchObject({ code });
    await s.test.host.clock.idle();
    expect(s.events.slice(4, 6)).toEqual([`error ${operation} report`, "aborting"]);
    expect(s.events[6]).toMatch(new RegExp(`^COMPLETED \\d+/${4 * MiB} ${text}$`));
    expectGone(s);
  });

  it("under ignore is tried again and forgotten", async () => {
    const s = await faulty(once(operation, EIO));
    await s.settle((await s.start(policy("ignore"))).done);
    await s.test.host.clock.idle();
    expect(s.events.slice(4)).toEqual([`error ${operation} ignore`, ...ending, full, "concluded", "null"]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it.each([
    ["stop", EIO, "failed"],
    ["stop", ENOSPC, "nospace"],
    ["enospc", ENOSPC, "nospace"],
    ["auto", ENOSPC, "nospace"],
  ])("under %s (errno %i) pauses the job as %s until it is resumed", async (value, errno, ioStatus) => {
    const s = await faulty(once(operation, errno));
    const job = await s.start(policy(value));
    await s.test.host.clock.idle();
    const [row] = jobsOf(s.test.graph).queryBlockJobs();
    expect(row).toMatchObject({
      paused: true,
      busy: false,
      status: "paused",
      "io-status": ioStatus,
      len: 4 * MiB,
    });
    expect(row!["offset"]).toBeLessThan(4 * MiB);
    job.resume();
    await s.settle(job.done);
    expect(s.events.slice(4, 8)).toEqual([`error ${operation} stop`, "paused", "running", "waiting"]);
    expect(await s.test.difference("src", "dst")).toBe(-1);
  });

  it("that stays stops the job again after each resume", async () => {
    const s = await faulty(always(operation, EIO));
    const job = await s.start(policy("stop"));
    for (let turns = 0; turns < 20; turns++) await s.test.host.clock.idle();
    job.resume();
    for (let turns = 0; turns < 20; turns++) await s.test.host.clock.idle();
    expect(s.events.slice(4)).toEqual([
      `error ${operation} stop`,
      "paused",
      "running",
      `error ${operation} stop`,
      "paused",
    ]);
    await s.settle(job.cancel());
    await s.test.host.clock.idle();
    expect(s.events.slice(9, 11)).toEqual(["running", "aborting"]);
    expectGone(s);
  });

  it("that stays is retried under ignore at most once a second in the end, and can be cancelled", async () => {
    const s = await faulty(always(operation, EIO));
    const job = await s.start(policy("ignore"));
    const { clock } = s.test.host;
    while (clock.nowMs() < 60_000) await clock.step();
    const errors = s.events.filter((event) => event === `error ${operation} ignore`).length;
    expect(errors).toBeGreaterThan(50);
    expect(errors).toBeLessThan(80);
    await s.settle(job.cancel());
    expect(job.status).toBe("null");
  });
});

describe("a failed copy before a guest's write", () => {
  it("fails the guest's write and is no business of the job's", async () => {
    const s = await setup({
      faults: { target: [{ event: "none", iotype: "write", errno: EIO, sector: 7, once: true }] },
    });
    const job = await s.start({ sync: "none", "filter-node-name": "flt", "on-target-error": "stop" });
    const guest: Child = await s.test.edge("flt");
    await expect(guest.pwrite(0, pattern(512, 77))).rejects.toMatchObject({ code: "EIO" });
    expect(s.events).toEqual(beginning);
    expect(jobsOf(s.test.graph).queryBlockJobs()).toMatchObject([
      { "io-status": "ok", status: "running", offset: 0 },
    ]);
    await guest.pwrite(0, pattern(512, 77));
    expect(job.offset).toBe(64 * KiB);
    await s.settle(job.cancel());
  });
});

describe("a backup by bitmap", () => {
  async function withBitmap(faults: Faults = {}): Promise<Setup & { bitmap: DirtyBitmap }> {
    const s = await setup({ faults });
    const bitmap = createDirtyBitmap(s.test.graph.node("src"), { name: "b0" });
    bitmap.bitmap.set(256 * KiB, 128 * KiB);
    return { ...s, bitmap };
  }

  it("copies what is dirty, and counts only that", async () => {
    const s = await withBitmap();
    await s.settle((await s.start({ sync: "incremental", bitmap: "b0" })).done);
    expect(s.events).toContain(`COMPLETED ${128 * KiB}/${128 * KiB}`);
    expect(s.bitmap.dirtyBytes).toBe(0);
    expect(s.bitmap).toMatchObject({ busy: false, recording: true });
    const copied = await s.test.content("dst");
    expect(s.test.graph.kernels.isZero(copied.subarray(0, 256 * KiB))).toBe(true);
    expect(
      same(
        copied.subarray(256 * KiB, 384 * KiB),
        (await s.test.content("src")).subarray(256 * KiB, 384 * KiB),
      ),
    ).toBe(true);
  });

  it("has nothing to do, and a length of 0, when nothing is dirty", async () => {
    const s = await withBitmap();
    s.bitmap.bitmap.clear();
    await s.settle((await s.start({ sync: "incremental", bitmap: "b0" })).done);
    expect(s.events).toContain("COMPLETED 0/0");
  });

  it.each([
    ["on-success", 64 * KiB],
    ["always", 64 * KiB],
    ["never", 192 * KiB],
  ] as const)(
    "after success, %s leaves %i dirty bytes, the guest's write during the job among them",
    async (mode, left) => {
      const s = await withBitmap();
      const job = await s.start({
        sync: "bitmap",
        bitmap: "b0",
        "bitmap-mode": mode,
        "filter-node-name": "flt",
        "auto-finalize": false,
      });
      expect(s.bitmap.busy).toBe(true);
      expect(() => s.bitmap.check()).toThrow(
        "Bitmap 'b0' is currently in use by another operation and cannot be used",
      );
      const guest = await s.test.edge("flt");
      await guest.pwrite(0, pattern(512, 9));
      await s.test.host.clock.idle();
      expect(s.events).toContain("BLOCK_JOB_PENDING");
      await s.settle(job.finalize());
      expect(s.bitmap.dirtyBytes).toBe(left);
      expect(findDirtyBitmap(s.test.graph.node("src"), "b0")).toBe(s.bitmap);
    },
  );

  it.each([
    ["on-success", 128 * KiB],
    ["always", 128 * KiB],
    ["never", 128 * KiB],
  ] as const)("after a failure that copied nothing, %s keeps all", async (mode, left) => {
    const s = await withBitmap({ source: once("read", EIO) });
    const job = await s.start({ sync: "bitmap", bitmap: "b0", "bitmap-mode": mode });
    await s.settle(job.done).catch(() => undefined);
    expect(s.bitmap.dirtyBytes).toBe(left);
    expect(s.bitmap.busy).toBe(false);
  });

  it("after a failure, always keeps what was not copied", async () => {
    const s = await withBitmap({ source: once("read", EIO) });
    s.bitmap.bitmap.set(2 * MiB, 64 * KiB);
    const job = await s.start({
      sync: "bitmap",
      bitmap: "b0",
      "bitmap-mode": "always",
      "x-perf": { "max-workers": 1 },
      "on-source-error": "stop",
    });
    await s.test.host.clock.idle();
    const [first] = s.events.filter((event) => event.startsWith("error"));
    expect(first).toBe("error read stop");
    s.test.graph.node("src").driver.pread = () =>
      Promise.reject(Object.assign(new Error("gone"), { code: "EIO" }));
    await s.settle(job.cancel());
    expect(s.bitmap.dirtyBytes).toBe(192 * KiB);
  });
});
