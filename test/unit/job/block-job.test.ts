// What block jobs add: io-status, the policy's one function, speed, the user's view of a pause, query fields; and create.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import type { DriverType } from "../../../src/block/model/contract.ts";
import { Perm } from "../../../src/block/model/permissions.ts";
import { BlockJob } from "../../../src/job/core/block-job.ts";
import { startCreate } from "../../../src/job/create/create.ts";
import { type OnError } from "../../../src/job/core/error-policy.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { valuesOf } from "../../../src/wire/qapi/index.ts";

class PlainJob extends BlockJob {
  protected override async run(): Promise<void> {
    this.counter.setRemaining(100);
    while (!this.isCancelled) await this.yieldUntilEntered();
  }

  fail(policy: OnError, isRead: boolean, code: "EIO" | "ENOSPC"): string {
    return this.errorAction({ policy, isRead, error: blockError(code, "pread") });
  }

  protected override cancelHook(force: boolean): boolean {
    return force;
  }
}

class Bench {
  readonly test = new TestGraph();
  readonly events: { event: string; data: Record<string, unknown> }[] = [];

  constructor() {
    this.test.graph.events.subscribe(({ event, data }) => this.events.push({ event, data }));
  }

  async job(): Promise<PlainJob> {
    const { graph } = this.test;
    const node = await this.test.disk("src", MiB);
    const job = new PlainJob({ id: "j", type: "mirror", registry: jobsOf(graph), graph });
    await job.addNode(node, "main node", { perm: Perm.consistentRead, shared: Perm.all });
    job.start();
    await this.test.host.clock.idle();
    return job;
  }

  named(event: string): Record<string, unknown>[] {
    return this.events.filter((item) => item.event === event).map((item) => item.data);
  }
}

describe("errorAction", () => {
  const cases = valuesOf("BlockdevOnError").flatMap((policy) =>
    (["EIO", "ENOSPC"] as const).flatMap((code) => [true, false].map((isRead) => ({ policy, code, isRead }))),
  );

  test.each(cases)("$policy, $code, read: $isRead", async ({ policy, code, isRead }) => {
    const bench = new Bench();
    const job = await bench.job();
    const stops = policy === "stop" || (code === "ENOSPC" && (policy === "auto" || policy === "enospc"));
    const action = stops ? "stop" : policy === "ignore" ? "ignore" : "report";
    expect(job.fail(policy, isRead, code)).toBe(action);
    expect(bench.named("BLOCK_JOB_ERROR")).toEqual([
      { device: "j", operation: isRead ? "read" : "write", action },
    ]);
    expect(job.ioStatus).toBe(stops ? (code === "ENOSPC" ? "nospace" : "failed") : "ok");
    expect(job.userPaused).toBe(stops);
    expect(job.status).toBe(stops ? "paused" : "running");
    await job.cancel();
  });

  test("the first error sticks until the job is resumed, and one pause is enough", async () => {
    const bench = new Bench();
    const job = await bench.job();
    job.fail("stop", true, "EIO");
    job.fail("stop", true, "ENOSPC");
    expect(job).toMatchObject({ ioStatus: "failed", pauseCount: 1 });
    expect(bench.named("BLOCK_JOB_ERROR")).toHaveLength(2);
    job.resume();
    expect(job).toMatchObject({ ioStatus: "ok", pauseCount: 0 });
    job.fail("stop", false, "ENOSPC");
    expect(job.ioStatus).toBe("nospace");
    await job.cancel();
    expect(job.ioStatus).toBe("ok");
  });

  test("cont clears the io-status and leaves the job paused", async () => {
    const bench = new Bench();
    const job = await bench.job();
    job.fail("stop", true, "EIO");
    job.resetIoStatus();
    expect(job).toMatchObject({ ioStatus: "ok", status: "paused", userPaused: true });
    await job.cancel();
  });
});

describe("block job commands", () => {
  test("a soft cancel is refused while the job is paused by an error; job-cancel is not", async () => {
    const bench = new Bench();
    const job = await bench.job();
    job.fail("stop", true, "EIO");
    await expect(job.blockJobCancel(false)).rejects.toThrow(
      "The block job for device 'j' is currently paused",
    );
    await job.blockJobCancel(true);
    await bench.test.host.clock.idle();
    expect(jobsOf(bench.test.graph).jobs).toEqual([]);
  });

  test("the row of query-block-jobs", async () => {
    const bench = new Bench();
    const job = await bench.job();
    job.setSpeed(1000);
    job.pause();
    expect(jobsOf(bench.test.graph).queryBlockJobs()).toEqual([
      {
        type: "mirror",
        device: "j",
        busy: false,
        paused: true,
        ready: false,
        status: "paused",
        "io-status": "ok",
        offset: 0,
        len: 100,
        speed: 1000,
        "auto-finalize": true,
        "auto-dismiss": true,
      },
    ]);
    await job.cancel();
  });

  test("a negative speed is refused", async () => {
    const job = await new Bench().job();
    expect(() => job.setSpeed(-1)).toThrow("Parameter 'speed' expects a non-negative value");
    await job.cancel();
  });

  test("its nodes are busy while it lives, and free when it is gone", async () => {
    const bench = new Bench();
    const job = await bench.job();
    const node = bench.test.graph.node("src");
    expect(() => node.checkBlocked("mirror-source")).toThrow(
      "Node 'src' is busy: block device is in use by block job: mirror",
    );
    await job.cancel();
    await bench.test.host.clock.idle();
    expect(node.blockedBy("mirror-source")).toBeUndefined();
    expect(node.parents.size).toBe(0);
  });

  test("a drain of its node pauses it for as long as it lasts", async () => {
    const bench = new Bench();
    const job = await bench.job();
    bench.events.length = 0;
    await bench.test.graph.drainAll();
    expect(bench.named("JOB_STATUS_CHANGE").map((data) => data["status"])).toEqual(["paused", "running"]);
    expect(job.pauseCount).toBe(0);
    await job.cancel();
  });

  // A client sends blockdev-del as soon as it hears that the job is over: it was told that the node is in use.
  test.each([true, false])(
    "who hears its end finds its nodes free if it dismisses itself: %s",
    async (autoDismiss) => {
      const { test: world } = new Bench();
      const { graph } = world;
      const node = await world.disk("src", MiB);
      const job = new PlainJob({ id: "j", type: "mirror", registry: jobsOf(graph), graph, autoDismiss });
      await job.addNode(node, "main node", { perm: Perm.consistentRead, shared: Perm.all });
      const parents: number[] = [];
      graph.events.subscribe(({ event }) => {
        if (event === "BLOCK_JOB_CANCELLED") parents.push(node.parents.size);
      });
      job.start();
      await world.host.clock.idle();
      await job.blockJobCancel(true);
      await world.host.clock.idle();
      expect(parents).toEqual([autoDismiss ? 0 : 1]);
    },
  );
});

describe("create", () => {
  function withDriver(create: DriverType["create"]): Bench {
    const bench = new Bench();
    const driver: DriverType = {
      name: "maker",
      kind: "format",
      open: () => Promise.reject(blockError("ENOTSUP", "open")),
    };
    bench.test.graph.register(create ? { ...driver, create } : driver);
    return bench;
  }

  test.each([
    ["succeeds", () => Promise.resolve(), {}],
    [
      "fails",
      () => Promise.reject(blockError("EINVAL", "create", "Cluster size must be a power of two")),
      { error: "Cluster size must be a power of two" },
    ],
  ])("it %s, and waits for a dismiss with all of its progress done", async (_name, create, more) => {
    const bench = withDriver(create);
    const registry = jobsOf(bench.test.graph);
    const job = await startCreate(bench.test.graph, { "job-id": "c", options: { driver: "maker" } });
    await job.done.catch(() => undefined);
    expect(registry.queryJobs()).toEqual([
      { id: "c", type: "create", status: "concluded", "current-progress": 1, "total-progress": 1, ...more },
    ]);
    expect(registry.queryBlockJobs()).toEqual([]);
    expect(bench.events.every(({ event }) => event === "JOB_STATUS_CHANGE")).toBe(true);
    await job.dismiss();
    expect(registry.jobs).toEqual([]);
  });

  test("a driver that creates nothing, and one that is not there, are refused", async () => {
    const { graph } = withDriver(undefined).test;
    const start = (driver: string): Promise<unknown> =>
      startCreate(graph, { "job-id": "c", options: { driver } });
    await expect(start("maker")).rejects.toThrow("Driver does not support blockdev-create");
    await expect(start("nope")).rejects.toThrow("Block driver 'nope' not found or not supported");
    expect(jobsOf(graph).jobs).toEqual([]);
  });
});
