// The backup job over memory nodes: events, progress, error policy, bitmaps, refusals. Recorded expectations are those
// of the real daemon (conformance suite); here they hold in browsers too.
import { describe, expect, it } from "vitest";
import type { Child } from "../../../src/block/child.ts";
import { type DirtyBitmap, createDirtyBitmap, findDirtyBitmap } from "../../../src/block/dirty-bitmap.ts";
import { BackupAction, type BackupArgs, startBackup } from "../../../src/job/backup.ts";
import { jobsOf } from "../../../src/job/job-registry.ts";
import { JobTransaction } from "../../../src/job/job-transaction.ts";
import { KiB, MiB, TestGraph, pattern, same } from "../support/graph.ts";

const EIO = 5;
const ENOSPC = 28;

interface Setup {
  test: TestGraph;
  events: string[];
  start: (args?: Partial<BackupArgs>) => ReturnType<typeof startBackup>;
  settle: <T>(promise: Promise<T>) => Promise<T>;
}

interface Faults {
  source?: Record<string, unknown>[];
  target?: Record<string, unknown>[];
}

/** A source of 4 MiB, full of data, and a target; `events` lists statuses and block job events. */
async function setup({ size = 4 * MiB, faults = {} as Faults } = {}): Promise<Setup> {
  const test = new TestGraph();
  await test.disk("src", size, faults.source);
  await test.disk("dst", size, faults.target);
  await test.fill("src", 0, size, 1);
  const events: string[] = [];
  test.graph.events.subscribe(({ event, data }) => {
    const status = data["status"] as string | undefined;
    if (status) events.push(status);
    else if (event === "BLOCK_JOB_ERROR")
      events.push(`error ${String(data["operation"])} ${String(data["action"])}`);
    else if (event === "BLOCK_JOB_PENDING") events.push(event);
    else {
      const error = data["error"] === undefined ? "" : ` ${String(data["error"])}`;
      events.push(`${event.slice(10)} ${String(data["offset"])}/${String(data["len"])}${error}`);
    }
  });
  const start: Setup["start"] = (args = {}) =>
    startBackup(test.graph, { "job-id": "j", device: "src", target: "dst", sync: "full", ...args });
  return { test, events, start, settle: (promise) => test.host.clock.settle(promise) };
}

const beginning = ["created", "running", "paused", "running"];
const ending = ["waiting", "pending"];
const full = `COMPLETED ${4 * MiB}/${4 * MiB}`;

/** Asserts that no trace of the job is left. */
function expectGone({ test }: Setup): void {
  expect(jobsOf(test.graph).jobs).toEqual([]);
  expect(test.graph.nodes.filter((node) => node.type.name === "copy-before-write")).toEqual([]);
  expect(test.graph.node("src").parents.size).toBe(0);
  expect(test.graph.arena.inUse).toBe(0);
}

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

const once = (iotype: string, errno: number): Record<string, unknown>[] => [
  { event: "none", iotype, errno, sector: 512, once: true },
];
const always = (iotype: string, errno: number): Record<string, unknown>[] => [
  { event: "none", iotype, errno, sector: 512, once: false },
];

describe.each([
  ["source", "read"],
  ["target", "write"],
] as const)("an error of the %s", (side, operation) => {
  const faulty = (rules: Record<string, unknown>[]): Promise<Setup> => setup({ faults: { [side]: rules } });
  const policy = (value: string): Partial<BackupArgs> =>
    ({ [`on-${side}-error`]: value }) as Partial<BackupArgs>;

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
    await s.test.host.clock.idle();
    job.resume();
    await s.test.host.clock.idle();
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

describe("a refused backup", () => {
  async function refused(args: Partial<BackupArgs>): Promise<{ message: string; s: Setup }> {
    const s = await setup();
    await s.test.disk("small", MiB);
    createDirtyBitmap(s.test.graph.node("src"), { name: "b0" });
    const error = await s.start(args).then(
      () => undefined,
      (e: unknown) => e as Error,
    );
    return { message: error?.message ?? "", s };
  }

  it.each([
    [{ target: "src" }, "Source and target cannot be the same"],
    [{ device: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ target: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ target: "small" }, "Source and target image have different sizes"],
    [{ sync: "incremental" }, "must provide a valid bitmap name for 'incremental' sync mode"],
    [{ sync: "bitmap" }, "must provide a valid bitmap name for 'bitmap' sync mode"],
    [
      { sync: "incremental", bitmap: "b0", "bitmap-mode": "never" },
      "Bitmap sync mode must be 'on-success' when using sync mode 'incremental'",
    ],
    [{ sync: "incremental", bitmap: "nope" }, "Bitmap 'nope' could not be found"],
    [{ sync: "bitmap", bitmap: "b0" }, "Bitmap sync mode must be given when providing a bitmap"],
    [{ sync: "full", bitmap: "b0" }, "Bitmap sync mode must be given when providing a bitmap"],
    [
      { sync: "none", bitmap: "b0", "bitmap-mode": "always" },
      "sync mode 'none' does not produce meaningful bitmap outputs",
    ],
    [
      { bitmap: "b0", "bitmap-mode": "never" },
      "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode 'full'",
    ],
    [{ "bitmap-mode": "always" }, "Cannot specify bitmap sync mode without a bitmap"],
    [{ compress: true }, "Compression is not supported for this drive "],
    [{ "x-perf": { "max-workers": 0 } }, "max-workers must be between 1 and 2147483647"],
    [{ "x-perf": { "max-chunk": -1 } }, "max-chunk must be zero (which means no limit) or positive"],
    [
      { "x-perf": { "max-chunk": 4096 } },
      "Required max-chunk (4096) is less than backup cluster size (65536)",
    ],
    [{ "job-id": "1bad id" }, "Invalid job ID '1bad id'"],
  ] as [Partial<BackupArgs>, string][])("says why: %o", async (args, message) => {
    const answer = await refused(args);
    expect(answer.message).toBe(message);
    expect(answer.s.events).toEqual([]);
    expectGone(answer.s);
    expect(findDirtyBitmap(answer.s.test.graph.node("src"), "b0")?.busy).toBe(false);
  });

  it("because of its speed has existed for a moment", async () => {
    const { message, s } = await refused({ speed: -1 });
    expect(message).toBe("Parameter 'speed' expects a non-negative value");
    expect(s.events).toEqual(["created", "null"]);
    expectGone(s);
  });

  it("because of another job names that job's kind", async () => {
    const s = await setup();
    const job = await s.start({ sync: "none" });
    await s.test.disk("other", 4 * MiB);
    await expect(s.start({ "job-id": "k", device: "other" })).rejects.toThrow(
      "Node 'dst' is busy: block device is in use by block job: backup",
    );
    await s.settle(job.cancel());
    expectGone(s);
  });
});

describe("backups in a transaction", () => {
  it("show their states in the order of the actions, and cancel each other when grouped", async () => {
    const s = await setup({ faults: { source: once("read", EIO) } });
    await s.test.disk("src2", 4 * MiB);
    await s.test.disk("dst2", 4 * MiB);
    const transaction = new JobTransaction();
    const names: string[] = [];
    s.test.graph.events.subscribe(({ data }) => {
      if (data["status"]) names.push(`${String(data["id"])} ${String(data["status"])}`);
    });
    const args = (id: string, device: string, target: string): BackupArgs => ({
      "job-id": id,
      device,
      target,
      sync: "full",
      speed: 256 * KiB,
    });
    const actions = [
      new BackupAction(s.test.graph, args("ja", "src2", "dst2"), { transaction }),
      new BackupAction(s.test.graph, { ...args("jb", "src", "dst"), speed: 0 }, { transaction }),
    ];
    for (const action of actions) await action.prepare();
    for (const action of actions) await action.commit();
    for (const action of actions) await action.clean();
    expect(names).toEqual([
      "ja created",
      "jb created",
      "ja running",
      "ja paused",
      "jb running",
      "jb paused",
      "ja running",
      "jb running",
    ]);
    const [ja, jb] = actions.map((action) => action.job.done);
    await expect(s.settle(jb!)).rejects.toMatchObject({ code: "EIO" });
    await expect(s.settle(ja!)).rejects.toMatchObject({ code: "ECANCELED" });
    expect(names.slice(8)).toEqual([
      "jb aborting",
      "jb concluded",
      "jb null",
      "ja aborting",
      "ja concluded",
      "ja null",
    ]);
  });

  it("are taken back when a later action fails", async () => {
    const s = await setup();
    const action = new BackupAction(s.test.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
    });
    await action.prepare();
    await s.settle(action.abort());
    await action.clean();
    expect(s.events).toEqual(["created", "aborting", "concluded", "null"]);
    expectGone(s);
  });
});
