// How a job is followed, let go and heard: progress, await using, a failure that nobody waits for, an abort's reason.
// Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  BackupJob,
  type Engine,
  type Host,
  JobCancelledError,
  MirrorJob,
  type Node,
  type ProgressReport,
  backup,
  browserHost,
  mirror,
  openNode,
  portableDrivers,
  whenReady,
} from "../../../src/browser.ts";
import { asyncDispose } from "../../../src/base/lease.ts";
import { createEngine } from "../../../src/index.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";

const SIZE = 4 * MiB;

let engine: Engine;
let warnings: [string, string][];

beforeEach(() => {
  warnings = [];
  const host: Host = {
    ...browserHost(),
    diagnostics: { warn: (message, code) => warnings.push([code, message]) },
  };
  engine = createEngine({ host, drivers: portableDrivers, arenaBytes: 16 * MiB });
});

afterEach(async () => {
  await engine.close();
});

async function disk(name: string): Promise<Node> {
  const node = await openNode({ driver: "memory", size: SIZE, "node-name": name }, { engine });
  await node.write(0, pattern(SIZE, 1));
  return node;
}

async function fullDisk(): Promise<Node> {
  const rule = { event: "none", iotype: "write", errno: 28 } as const;
  const image = { driver: "memory", size: SIZE } as const;
  return openNode({ driver: "blkdebug", image, "inject-error": [rule] }, { engine });
}

async function failure(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Lets all that has nothing to wait for happen. */
async function idle(): Promise<void> {
  for (let i = 0; i < 20; i++) await engine.graph.host.clock.turn();
}

describe("progress()", () => {
  it("tells how far the job is, never less than before, and its end", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const job = await backup(source, target, { speedBytesPerSecond: 4 * MiB });
    const reports: ProgressReport[] = [];
    for await (const report of job.progress({ intervalMs: 10 })) reports.push(report);
    expect(reports.length).toBeGreaterThan(2);
    expect(reports.map(({ offset }) => offset)).toEqual(
      reports.map(({ offset }) => offset).toSorted((a, b) => a - b),
    );
    expect(reports[0]!.fraction).toBeLessThan(1);
    expect(reports.at(-1)).toMatchObject({ offset: SIZE, length: SIZE, fraction: 1 });
    expect(["concluded", "null"]).toContain(reports.at(-1)!.status);
    await job.done;
  });

  it("keeps no timer while the job is paused, and goes on with it", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const job = await backup(source, target, { speedBytesPerSecond: 64 * KiB });
    const reports = job.progress({ intervalMs: 1 });
    job.pause();
    let report = (await reports.next()).value as ProgressReport;
    while (report.status !== "paused") report = (await reports.next()).value as ProgressReport;
    const { clock } = engine.graph.host;
    let timers = 0;
    const timer = clock.timer.bind(clock);
    clock.timer = (delayMs, callback) => {
      timers += 1;
      return timer(delayMs, callback);
    };
    const next = reports.next();
    await idle();
    expect(timers).toBe(0);
    job.setSpeed(0);
    job.resume();
    expect(((await next).value as ProgressReport).status).not.toBe("paused");
    await job.done;
    await reports.return(undefined);
  });

  it("ends with the signal's reason, and leaves the job alone", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const job = await backup(source, target, { speedBytesPerSecond: 64 * KiB });
    const over = new AbortController();
    const seen = (async (): Promise<void> => {
      for await (const { offset } of job.progress({ signal: over.signal, intervalMs: 60_000 }))
        if (offset >= 0) over.abort(new Error("enough"));
    })();
    expect(await failure(seen)).toMatchObject({ message: "enough" });
    expect(job.isCancelled).toBe(false);
    await job.cancel();
  });

  it("of a job that fails ends, too", async () => {
    const job = await backup(await disk("source"), await fullDisk());
    const statuses: string[] = [];
    for await (const { status } of job.progress()) statuses.push(status);
    expect(["concluded", "null"]).toContain(statuses.at(-1));
    expect(await failure(job.done)).toMatchObject({ code: "ENOSPC" });
  });
});

describe("await using", () => {
  it("cancels a job that runs, and waits", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const left = async (): Promise<void> => {
      await using job = await mirror(source, target, { jobId: "m" });
      await whenReady(job);
      const found = engine.jobs.find("m");
      expect(found).toBe(job);
      if (!found?.isBlockJob) throw new Error("a mirror is no block job");
      // As what it is: a job of any other kind has no error policy.
      expect(found.ioStatus).toBe("ok");
      expect(engine.jobs.find("none")).toBeUndefined();
      // Of a class, with what its jobs have.
      const ofClass: MirrorJob | undefined = engine.jobs.find("m", MirrorJob);
      expect(ofClass).toBe(job);
      expect(ofClass?.copiesInFlight).toBe(0);
      expect(engine.jobs.find("m", BackupJob)).toBeUndefined();
      throw new Error("left in a hurry");
    };
    await expect(left()).rejects.toThrow("left in a hurry");
    expect(engine.jobs.jobs).toEqual([]);
    await source.write(0, pattern(KiB, 2));
    await idle();
    expect(warnings).toEqual([]);
  });

  it("leaves one that is over as it is, and forgets one that waits to be dismissed", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    {
      await using job = await backup(source, target, { autoDismiss: false });
      expect(await job.done).toMatchObject({ offset: SIZE });
      expect(job.status).toBe("concluded");
    }
    expect(engine.jobs.jobs).toEqual([]);
    const job = await backup(source, target);
    await job.done;
    await job[asyncDispose]();
    await job[asyncDispose]();
  });

  it("tells a failure that nobody has heard of, once", async () => {
    const source = await disk("source");
    const job = await backup(source, await fullDisk(), { autoDismiss: false });
    await engine.graph.changes.until(() => job.status === "concluded");
    expect(await failure(job[asyncDispose]())).toMatchObject({ code: "ENOSPC" });
    await idle();
    expect(warnings).toEqual([]);
    const heard = await backup(source, await fullDisk());
    expect(await failure(heard.done)).toMatchObject({ code: "ENOSPC" });
    await heard[asyncDispose]();
  });
});

describe("a job that fails while nobody waits for it", () => {
  it("is told once, by name and with its error", async () => {
    const job = await backup(await disk("source"), await fullDisk(), { jobId: "nightly" });
    await engine.graph.changes.until(() => job.status === "null");
    await idle();
    expect(warnings).toEqual([
      [
        "BLOCKWRIGHT_JOB_FAILED",
        "job 'nightly' failed, and nobody waits for its end (job.done): No space left on device",
      ],
    ]);
  });

  it.each<[string, (job: Awaited<ReturnType<typeof backup>>) => unknown]>([
    ["waits for done", (job) => job.done.catch(() => undefined)],
    ["listens to its end", (job) => job.addEventListener("BLOCK_JOB_COMPLETED", () => undefined)],
    [
      "iterates over its events",
      async (job) => {
        for await (const event of job) expect(event.type).not.toBe("");
      },
    ],
  ])("is not told where somebody %s", async (_what, hear) => {
    const job = await backup(await disk("source"), await fullDisk());
    const hearing = hear(job);
    await engine.graph.changes.until(() => job.status === "null");
    await hearing;
    await idle();
    expect(warnings).toEqual([]);
  });

  it("nor a job that was cancelled, or succeeded", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const job = await mirror(source, target);
    await job.cancel();
    // What was begun is finished first.
    await engine.graph.changes.until(() => job.status === "null");
    const good = await backup(source, target);
    await engine.graph.changes.until(() => good.status === "null");
    await idle();
    expect(warnings).toEqual([]);
  });
});

describe("an abort's reason", () => {
  it("is the cause of what done rejects with", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const stop = new AbortController();
    const job = await backup(source, target, { signal: stop.signal, speedBytesPerSecond: 64 * KiB });
    const reason = new Error("the night is over");
    stop.abort(reason);
    const error = await failure(job.done);
    expect(error).toBeInstanceOf(JobCancelledError);
    expect((error as JobCancelledError).cause).toBe(reason);
  });

  it("is kept, too, where it had aborted before the job's first step", async () => {
    const [source, target] = [await disk("source"), await disk("target")];
    const stop = new AbortController();
    const begun = mirror(source, target, { signal: stop.signal });
    stop.abort("enough");
    const error = await failure(begun.then((job) => job.done));
    expect(error === "enough" || (error as Error).cause === "enough").toBe(true);
  });

  it("is absent after a cancel", async () => {
    const job = await mirror(await disk("source"), await disk("target"));
    await job.cancel();
    const error = await failure(job.done);
    expect((error as JobCancelledError).cause).toBeUndefined();
  });
});
