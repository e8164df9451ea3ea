// Starting backups: what is refused and in which words, and several in one transaction.
import { describe, expect, it } from "vitest";
import { createDirtyBitmap, findDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { type BackupArgs, backupAction } from "../../../src/job/backup/backup.ts";
import { JobTransaction } from "../../../src/job/core/job-core.ts";
import { KiB, MiB } from "../support/graph.ts";
import { EIO, type Setup, expectGone, once, setup } from "./backup-support.ts";

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
    s.test.graph.events.subscribe(({ event, data }) => {
      if (event === "JOB_STATUS_CHANGE") names.push(`${data.id} ${data.status}`);
    });
    const args = (id: string, device: string, target: string): BackupArgs => ({
      "job-id": id,
      device,
      target,
      sync: "full",
      speed: 256 * KiB,
    });
    const actions = [
      backupAction(s.test.graph, args("ja", "src2", "dst2"), { transaction }),
      backupAction(s.test.graph, { ...args("jb", "src", "dst"), speed: 0 }, { transaction }),
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
    const action = backupAction(s.test.graph, {
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
