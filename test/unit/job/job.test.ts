// Life, pauses, cancels and ends of single jobs.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { JobEvent } from "../../../src/job/core/events.ts";
import { JobCancelledError } from "../../../src/job/core/job.ts";
import { Engine } from "./fake-job.ts";

describe("life", () => {
  test("success ends by waiting, pending and one event, then null", async () => {
    const engine = new Engine();
    const job = engine.job("j").end();
    expect(engine.take()).toEqual(["j:created"]);
    job.start();
    expect(engine.take()).toEqual(["j:running"]);
    await expect(job.done).resolves.toEqual({ offset: 0, length: 0, cancelled: false });
    await engine.clock.idle();
    expect(engine.take()).toEqual(["j:waiting", "j:pending", "BLOCK_JOB_COMPLETED", "j:concluded", "j:null"]);
    expect(job.calls).toEqual(["prepare", "commit", "clean", "release"]);
    expect(engine.registry.jobs).toEqual([]);
  });

  test("failure skips waiting and pending", async () => {
    const engine = new Engine();
    const job = engine.job("j").step(() => {
      throw blockError("EIO", "pread");
    });
    job.start();
    await expect(job.done).rejects.toThrow("Input/output error");
    await engine.clock.idle();
    expect(engine.take()).toEqual([
      "j:created",
      "j:running",
      "j:aborting",
      "BLOCK_JOB_COMPLETED",
      "j:concluded",
      "j:null",
    ]);
    expect(job.calls).toEqual(["abort", "clean", "release"]);
  });

  test("a failed prepare aborts", async () => {
    const engine = new Engine();
    const job = engine.job("j").end();
    job.prepareError = blockError("EPERM", "mirror");
    job.start();
    await expect(job.done).rejects.toThrow("Operation not permitted");
    expect(engine.log).toContain("j:aborting");
    expect(job.calls).toEqual(expect.arrayContaining(["prepare", "abort", "clean"]));
    expect(job.calls).not.toContain("commit");
  });

  test("a failed commit is the job's error", async () => {
    const engine = new Engine();
    const job = engine.job("j").end();
    job.commitError = blockError("EIO", "flush");
    job.start();
    await expect(job.done).rejects.toThrow("Input/output error");
    await engine.clock.idle();
    expect(engine.log.slice(-4)).toEqual(["j:aborting", "BLOCK_JOB_COMPLETED", "j:concluded", "j:null"]);
  });

  test("a job that is not set up goes from created to null", async () => {
    const engine = new Engine();
    const job = engine.job("j");
    await job.earlyFail(new Error("no"));
    expect(engine.take()).toEqual(["j:created", "j:null"]);
    expect(job.calls).toEqual(["release"]);
    await expect(job.done).rejects.toThrow("no");
  });

  test("manual finalize and dismiss", async () => {
    const engine = new Engine();
    const job = engine.job("j", { autoFinalize: false, autoDismiss: false }).end();
    job.start();
    await engine.clock.idle();
    expect(engine.take().slice(-3)).toEqual(["j:waiting", "j:pending", "BLOCK_JOB_PENDING"]);
    await job.finalize();
    expect(engine.take()).toEqual(["BLOCK_JOB_COMPLETED", "j:concluded"]);
    expect(engine.registry.queryJobs()).toEqual([
      { id: "j", type: "mirror", status: "concluded", "current-progress": 0, "total-progress": 0 },
    ]);
    expect(() => engine.job("j")).toThrow("Job ID 'j' already in use");
    await job.dismiss();
    expect(engine.take()).toEqual(["j:null"]);
    expect(() => engine.registry.job("j")).toThrow("Job not found");
  });

  test.each(["", "1bad id", "-x", "é", "a/b"])("the id '%s' is refused", (id) => {
    const engine = new Engine();
    expect(() => engine.job(id)).toThrow(`Invalid job ID '${id}'`);
    expect(engine.log).toEqual([]);
  });

  test("block jobs that are not there have an error class of their own", () => {
    const engine = new Engine();
    engine.job("plain");
    expect(() => engine.registry.blockJob("nope")).toThrow(
      expect.objectContaining({
        message: "Block job 'nope' not found",
        qmpClass: "DeviceNotActive",
      }) as Error,
    );
    expect(() => engine.registry.blockJob("plain")).toThrow("Block job 'plain' not found");
  });

  test("jobs are listed newest first", () => {
    const engine = new Engine();
    engine.job("a");
    engine.job("b");
    expect(engine.registry.queryJobs().map((row) => row["id"])).toEqual(["b", "a"]);
  });
});

describe("pauses", () => {
  test("a user's pause of a yielding job and its resume are seen before they return", () => {
    const engine = new Engine();
    const job = engine.job("j").step((self) => self.yielding());
    job.start();
    return Promise.resolve().then(() => {
      engine.take();
      job.pause();
      expect(engine.take()).toEqual(["j:paused"]);
      expect(job).toMatchObject({ busy: false, paused: true, pauseCount: 1, userPaused: true });
      expect(() => job.pause()).toThrow("Job is already paused");
      job.resume();
      expect(engine.take()).toEqual(["j:running"]);
      expect(() => job.resume()).toThrow("Can't resume a job that was not paused");
      expect(job.calls).toEqual(["pause", "userResume", "resume"]);
    });
  });

  test("drains and the user's pause are counted", async () => {
    const engine = new Engine();
    const job = engine.job("j").step((self) => self.yielding());
    job.start();
    await Promise.resolve();
    job.drainPause();
    job.drainPause();
    job.pause();
    expect(job.pauseCount).toBe(3);
    job.drainResume();
    job.resume();
    expect(job.status).toBe("paused");
    job.drainResume();
    expect(job.status).toBe("running");
    expect(engine.log.filter((line) => line === "j:paused")).toHaveLength(1);
  });

  test("a job created under a drain pauses before its first step", async () => {
    const engine = new Engine();
    let ran = false;
    const job = engine.job("j").step(() => {
      ran = true;
    });
    job.drainPause();
    job.start();
    expect(engine.take()).toEqual(["j:created", "j:running", "j:paused"]);
    expect(ran).toBe(false);
    job.drainResume();
    expect(engine.take()).toEqual(["j:running"]);
    expect(ran).toBe(true);
  });

  test("a busy job pauses at its next pause point, a ready one in standby", async () => {
    const engine = new Engine();
    const job = engine.job("j").step((self) => self.ready());
    job.start();
    job.pause();
    await engine.clock.idle();
    expect(job).toMatchObject({ status: "ready", busy: true });
    job.step((self) => self.pausing());
    await engine.clock.idle();
    expect(job).toMatchObject({ status: "standby", busy: false });
    job.resume();
    expect(job.status).toBe("ready");
  });

  test("the pause waits for the job's own requests, and is dropped if it is over by then", async () => {
    const engine = new Engine();
    let settle!: () => void;
    const job = engine.job("j").step((self) => self.yielding());
    job.pauseWait = new Promise((resolve) => {
      settle = resolve;
    });
    job.start();
    await Promise.resolve();
    job.drainPause();
    expect(job).toMatchObject({ busy: true, status: "running" });
    job.drainResume();
    settle();
    await engine.clock.idle();
    expect(engine.log).toEqual(["j:created", "j:running"]);
    expect(job.calls).toEqual(["pause", "resume"]);
  });

  test("nothing but a resume or a force-cancel ends a pause", async () => {
    const engine = new Engine();
    const job = engine.job("j").step((self) => self.yielding());
    job.start();
    await Promise.resolve();
    job.pause();
    job.enter();
    expect(job.status).toBe("paused");
  });
});

describe("sleep", () => {
  test("lasts its time", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.sleeping(500))
      .end();
    job.start();
    await engine.clock.settle(job.done);
    expect(engine.clock.nowMs()).toBe(500);
  });

  test("is cut short by a pause, and by waking", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.sleeping(500))
      .step((self) => self.sleeping(500))
      .end();
    job.start();
    await Promise.resolve();
    job.pause();
    expect(job.status).toBe("paused");
    expect(engine.clock.pending).toBe(0);
    job.resume();
    await engine.clock.idle();
    job.wake();
    await engine.clock.settle(job.done);
    expect(engine.clock.nowMs()).toBe(0);
  });

  test("of no time lets others run, and is cut short as well", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.sleeping(0))
      .end();
    job.start();
    await Promise.resolve();
    expect(job.busy).toBe(false);
    job.pause();
    expect(job.status).toBe("paused");
    job.resume();
    await engine.clock.idle();
    expect(job.status).toBe("null");
  });
});

describe("cancel", () => {
  const cancelled = ["j:aborting", "BLOCK_JOB_CANCELLED", "j:concluded", "j:null"];

  test("of a waiting job ends it at once", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.yielding())
      .end();
    job.start();
    await Promise.resolve();
    engine.take();
    await job.cancel();
    await engine.clock.idle();
    expect(engine.take()).toEqual(cancelled);
    expect(job.signal.reason).toBeInstanceOf(JobCancelledError);
    await expect(job.done).rejects.toThrow("Operation canceled");
  });

  test("of a paused job resumes it first", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.yielding())
      .end();
    job.start();
    await Promise.resolve();
    job.pause();
    engine.take();
    await job.cancel({ force: false });
    await engine.clock.idle();
    expect(engine.take()).toEqual(["j:running", ...cancelled]);
    expect(job.calls.slice(0, 3)).toEqual(["pause", "userResume", "resume"]);
  });

  test("of a job that never started ends it without an event of its kind", async () => {
    const engine = new Engine();
    const job = engine.job("j", { autoDismiss: false });
    await job.abandon();
    expect(engine.take()).toEqual(["j:created", "j:aborting", "j:concluded", "j:null"]);
  });

  test("softly, of a ready job: it ends well", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.ready())
      .step((self) => self.yielding())
      .end();
    job.soft = true;
    job.start();
    await engine.clock.idle();
    await job.cancel({ force: false });
    await expect(job.done).resolves.toMatchObject({ cancelled: true });
    expect(engine.log.slice(-5)).toEqual([
      "j:waiting",
      "j:pending",
      "BLOCK_JOB_COMPLETED",
      "j:concluded",
      "j:null",
    ]);
    expect(job.signal.aborted).toBe(false);
  });

  test("of a pending job is over when it returns", async () => {
    const engine = new Engine();
    const job = engine.job("j", { autoFinalize: false }).end();
    job.start();
    await engine.clock.idle();
    engine.take();
    await job.cancel();
    expect(engine.take()).toEqual(cancelled);
    expect(job.calls).toEqual(["abort", "clean", "release"]);
  });

  test("an I/O error that comes with it does not hide it", async () => {
    const engine = new Engine();
    const job = engine.job("j").step(async (self) => {
      await self.yielding();
      throw new JobCancelledError();
    });
    job.start();
    await Promise.resolve();
    await job.cancel();
    await expect(job.done).rejects.toBeInstanceOf(JobCancelledError);
  });

  test("by a caller's AbortSignal", async () => {
    const engine = new Engine();
    const abort = new AbortController();
    const job = engine
      .job("j", { signal: abort.signal })
      .step((self) => self.yielding())
      .end();
    job.start();
    await Promise.resolve();
    abort.abort();
    await expect(job.done).rejects.toBeInstanceOf(JobCancelledError);
  });

  test("a job that was asked to stop does not complete", async () => {
    const engine = new Engine();
    const job = engine
      .job("j")
      .step((self) => self.ready())
      .step((self) => self.yielding());
    job.soft = true;
    job.start();
    await engine.clock.idle();
    await job.cancel({ force: false });
    await expect(job.complete()).rejects.toThrow("The active block job 'j' cannot be completed");
  });

  test("all: every job is gone, whatever its state", async () => {
    const engine = new Engine();
    engine.job("created");
    engine
      .job("running")
      .step((self) => self.yielding())
      .end()
      .start();
    engine.job("pending", { autoFinalize: false }).end().start();
    engine.job("concluded", { autoDismiss: false }).end().start();
    const paused = engine
      .job("paused")
      .step((self) => self.yielding())
      .end();
    paused.start();
    await engine.clock.idle();
    paused.pause();
    await engine.registry.cancelAll();
    expect(engine.registry.jobs).toEqual([]);
  });
});

describe("events of a job", () => {
  test("reach listeners and iterators, and end with the job", async () => {
    const engine = new Engine();
    const job = engine.job("j").end();
    const heard: string[] = [];
    job.addEventListener("BLOCK_JOB_COMPLETED", (event) => heard.push(event.type));
    job.start();
    const seen: string[] = [];
    for await (const event of job)
      seen.push(event.type === "JOB_STATUS_CHANGE" ? event.data.status : event.type);
    expect(seen).toEqual(["waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"]);
    expect(heard).toEqual(["BLOCK_JOB_COMPLETED"]);
    for await (const event of job) expect(event).toBeUndefined();
  });

  test("a slow reader keeps the newest 1024", async () => {
    const engine = new Engine();
    const job = engine.job("j").step(async (self) => {
      for (let i = 0; i < 600; i++) {
        self.drainPause();
        const paused = self.pausing();
        self.drainResume();
        await paused;
      }
    });
    const reader = job[Symbol.asyncIterator]();
    job.end().start();
    await engine.clock.idle();
    let count = 0;
    for await (const event of reader) count += event instanceof JobEvent ? 1 : 0;
    expect(count).toBe(1024);
  });
});
