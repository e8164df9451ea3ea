// The machine: stop and cont with what is under way, jobs beside it, and errors that stopping itself brings about.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { drainedSection } from "../../../src/block/model/drain.ts";
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { startBackup } from "../../../src/job/backup/backup.ts";
import { startMirror } from "../../../src/job/mirror/mirror.ts";
import { mirrorTop } from "../../../src/job/mirror/top.ts";
import { KiB, MiB } from "../support/graph.ts";
import { TestMachine } from "../support/guest.ts";
import { addProbe } from "../support/probe.ts";

const readFault = [{ event: "none", iotype: "read", errno: 5 }];

describe("an error with the policy stop", () => {
  test("BLOCK_IO_ERROR, STOP; cont: RESUME, then the request again, which may stop it again", async () => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", { rerror: "stop", werror: "stop", faults: readFault });
    const request = guest.issue({ op: "read" });
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 read stop", "STOP"]);
    expect(bench.machine.query()).toEqual({ status: "io-error", running: false, singlestep: false });
    await bench.machine.cont();
    // The answer of cont comes before the error.
    expect(bench.take()).toEqual(["RESUME"]);
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 read stop", "STOP"]);
    expect([request.result, guest.device.ioStatus]).toEqual(["waits", "failed"]);
  });

  test("the io-status is set before the event, the machine stops after it", async () => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0", { rerror: "stop", faults: readFault });
    const seen: unknown[] = [];
    bench.test.graph.events.subscribe(({ event }) =>
      seen.push([event, guest.device.ioStatus, bench.machine.state]),
    );
    guest.issue({ op: "read" });
    await bench.idle();
    expect(seen).toEqual([
      ["BLOCK_IO_ERROR", "failed", "running"],
      ["STOP", "failed", "io-error"],
    ]);
  });

  test("new requests wait until the machine runs again", async () => {
    const bench = new TestMachine();
    const faults = [{ event: "none", iotype: "read", errno: 5, once: true }];
    const guest = await bench.guest("d0", { rerror: "stop", faults });
    const other = await bench.guest("d1");
    guest.issue({ op: "read" });
    await bench.idle();
    const writes = [guest.issue({ op: "write" }), other.issue({ op: "write" })];
    await bench.idle();
    expect(writes.map(({ result }) => result)).toEqual(["waits", "waits"]);
    await bench.machine.cont();
    expect(await Promise.all(writes.map(({ done }) => done))).toEqual(["ok", "ok"]);
  });
});

describe("stop and cont", () => {
  test("each is told once; stopping twice, or running on, tells nothing", async () => {
    const bench = new TestMachine();
    await bench.machine.stop();
    await bench.machine.stop();
    expect(bench.machine.query()).toEqual({ status: "paused", running: false, singlestep: false });
    await bench.machine.cont();
    await bench.machine.cont();
    expect(bench.take()).toEqual(["STOP", "RESUME"]);
  });

  test.each(["prelaunch", "io-error"] as const)("stop leaves the state %s", async (state) => {
    const bench = new TestMachine({ state });
    await bench.machine.stop();
    expect(bench.machine.state).toBe(state);
    expect(bench.take()).toEqual([]);
    await bench.machine.cont();
    expect(bench.take()).toEqual(["RESUME"]);
  });

  test("stop waits for requests under way, and flushes", async () => {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: MiB });
    const guest = await bench.guest("d0", { node: "p" });
    let release = (): void => undefined;
    driver.before = (call) =>
      call.op === "pwrite" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    const write = guest.issue({ op: "write" });
    await bench.idle();
    let stopped = false;
    const stopping = bench.machine.stop().then(() => (stopped = true));
    await bench.idle();
    // STOP is told at once, the answer comes when all is quiet.
    expect([bench.take(), stopped, write.result]).toEqual([["STOP"], false, "waits"]);
    release();
    await stopping;
    expect(write.result).toBe("ok");
    expect(driver.take()).toEqual(["pwrite 0+512", "flush"]);
  });

  test("a flush that fails when the machine stops is reported to the guest's next flush", async () => {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: MiB });
    const guest = await bench.guest("d0", { node: "p", werror: "report" });
    await guest.script([{ op: "write" }]);
    driver.before = () => Promise.reject(blockError("EIO", "flush"));
    await bench.machine.stop();
    await bench.machine.cont();
    expect(await guest.script([{ op: "flush" }])).toEqual(["EIO"]);
  });

  test("cont while a stop is pending: the pair is told, and the machine goes on", async () => {
    const bench = new TestMachine();
    const faults = [{ event: "none", iotype: "read", errno: 5, once: true }];
    const guest = await bench.guest("d0", { rerror: "stop", faults });
    // The client sees the error and answers before the stop is carried out.
    bench.test.graph.events.subscribe(({ event }) => {
      if (event === "BLOCK_IO_ERROR") void bench.machine.cont();
    });
    const request = guest.issue({ op: "read" });
    expect(await bench.settle(request.done)).toBe("ok");
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 read stop", "STOP", "RESUME"]);
    await bench.idle();
    expect([bench.machine.state, bench.take()]).toEqual(["running", []]);
  });

  test("cont during a stop that still drains waits for it", async () => {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: MiB });
    const guest = await bench.guest("d0", { node: "p" });
    let release = (): void => undefined;
    driver.before = () => new Promise<void>((resolve) => (release = resolve));
    const write = guest.issue({ op: "write" });
    await bench.idle();
    const both = Promise.all([bench.machine.stop(), bench.machine.cont()]);
    await bench.idle();
    expect(bench.take()).toEqual(["STOP"]);
    driver.before = undefined;
    release();
    await both;
    expect([bench.take(), write.result]).toEqual([["RESUME"], "ok"]);
  });

  test("a request that came during another drain does not run in the stopped machine", async () => {
    const bench = new TestMachine();
    const guest = await bench.guest("d0");
    const node = bench.test.graph.node("d0-disk");
    const section = await drainedSection(node);
    const write = guest.issue({ op: "write", value: 9 });
    await bench.idle();
    const stopping = bench.machine.stop();
    await bench.idle();
    await section.end();
    await stopping;
    await bench.idle();
    expect(write.result).toBe("waits");
    expect((await bench.test.content("d0-disk", 0, 1))[0]).toBe(0);
    await bench.machine.cont();
    expect(await write.done).toBe("ok");
    expect((await bench.test.content("d0-disk", 0, 1))[0]).toBe(9);
  });
});

describe("errors that come because the machine stops", () => {
  test("every request of every device says so, and all are tried again by cont", async () => {
    const bench = new TestMachine();
    const disks = await Promise.all(
      ["p0", "p1"].map((name) => addProbe(bench.test.graph, { "node-name": name, size: MiB })),
    );
    const guests = [
      await bench.guest("d0", { node: "p0", rerror: "stop", werror: "stop" }),
      await bench.guest("d1", { node: "p1", rerror: "stop", werror: "stop" }),
    ];
    const releases: (() => void)[] = [];
    for (const { driver } of disks) {
      driver.before = async ({ op }) => {
        if (op === "flush") return;
        await new Promise<void>((resolve) => releases.push(resolve));
        throw blockError("ENOSPC", op);
      };
    }
    const requests = guests.flatMap((guest) => [
      guest.issue({ op: "write" }),
      guest.issue({ op: "write", offset: 4096 }),
      guest.issue({ op: "read", offset: 8192 }),
    ]);
    await bench.idle();
    const stopping = bench.machine.stop();
    await bench.idle();
    for (const release of releases.splice(0)) release();
    await stopping;
    const taken = bench.take();
    expect(taken[0]).toBe("STOP");
    expect(taken.slice(1).toSorted()).toEqual([
      "BLOCK_IO_ERROR d0 read stop",
      "BLOCK_IO_ERROR d0 write stop",
      "BLOCK_IO_ERROR d0 write stop",
      "BLOCK_IO_ERROR d1 read stop",
      "BLOCK_IO_ERROR d1 write stop",
      "BLOCK_IO_ERROR d1 write stop",
    ]);
    expect(requests.every(({ result }) => result === "waits")).toBe(true);
    expect(bench.machine.state).toBe("paused");
    expect(guests.map(({ device }) => device.ioStatus)).toEqual(["nospace", "nospace"]);
    for (const { driver } of disks) driver.before = undefined;
    await bench.machine.cont();
    expect(await Promise.all(requests.map(({ done }) => done))).toEqual(Array(6).fill("ok"));
    expect(bench.take()).toEqual(["RESUME"]);
    expect(guests.map(({ device }) => device.ioStatus)).toEqual(["ok", "ok"]);
  });

  test("a job with the policy stop that fails at the same time says so too: neither is lost", async () => {
    const bench = new TestMachine();
    bench.test.graph.register(mirrorTop);
    const { node, driver } = await addProbe(bench.test.graph, { "node-name": "p", size: MiB });
    await bench.test.disk("dst", MiB);
    const guest = await bench.guest("d0", { node: "p", rerror: "stop", werror: "stop" });
    let broken = true;
    const releases: (() => void)[] = [];
    driver.before = async ({ op }) => {
      if (!broken || op === "flush") return;
      await new Promise<void>((resolve) => releases.push(resolve));
      throw blockError("EIO", op);
    };
    const job: BlockJob = await startMirror(bench.test.graph, {
      "job-id": "j",
      device: "p",
      target: "dst",
      sync: "full",
      "on-source-error": "stop",
    });
    const write = guest.issue({ op: "write", offset: 512 * KiB });
    await bench.idle();
    const stopping = bench.machine.stop();
    await bench.idle();
    expect(releases.length).toBeGreaterThan(1);
    for (const release of releases.splice(0)) release();
    await bench.settle(stopping);
    const taken = bench.take();
    expect(taken.filter((event) => event === "BLOCK_IO_ERROR d0 write stop")).toHaveLength(1);
    expect(taken.filter((event) => event === "BLOCK_JOB_ERROR j read stop").length).toBeGreaterThanOrEqual(1);
    expect(job).toMatchObject({ status: "paused", ioStatus: "failed", userPaused: true });
    // cont clears both statuses; the guest goes on, the job stays paused until it is resumed.
    broken = false;
    await bench.machine.cont();
    expect(await bench.settle(write.done)).toBe("ok");
    await bench.idle();
    expect(job).toMatchObject({ status: "paused", ioStatus: "ok", userPaused: true });
    job.resume();
    while (!job.isReady) expect(await bench.test.host.clock.step()).toBe(true);
    await job.cancel();
    await bench.settle(job.done.catch(() => undefined));
    expect(node.parents.size).toBe(1);
  });
});

describe("jobs beside the machine", () => {
  test("a job runs on while the machine is stopped", async () => {
    const bench = new TestMachine();
    await bench.test.disk("src", 4 * MiB);
    await bench.test.disk("dst", 4 * MiB);
    await bench.test.fill("src", 0, 4 * MiB);
    const job = await startBackup(bench.test.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
      speed: MiB,
    });
    await bench.machine.stop();
    expect(bench.take()).toContain("STOP");
    await bench.settle(job.done);
    expect(bench.machine.state).toBe("paused");
    expect(await bench.test.difference("src", "dst")).toBe(-1);
  });

  test("cont resets the io-status of a job that an error stopped, and leaves it paused", async () => {
    const bench = new TestMachine();
    await bench.test.disk("src", MiB, [{ event: "none", iotype: "read", errno: 5, once: true }]);
    await bench.test.disk("dst", MiB);
    await bench.test.fill("src", 0, MiB);
    const job = await startBackup(bench.test.graph, {
      "job-id": "j",
      device: "src",
      target: "dst",
      sync: "full",
      "on-source-error": "stop",
    });
    await bench.idle();
    const view = (): unknown => [job.status, job.ioStatus, job.pauseCount];
    expect(view()).toEqual(["paused", "failed", 1]);
    await bench.machine.stop();
    expect(view()).toEqual(["paused", "failed", 1]);
    await bench.machine.cont();
    expect(view()).toEqual(["paused", "ok", 1]);
    job.resume();
    await bench.settle(job.done);
    expect(await bench.test.difference("src", "dst")).toBe(-1);
  });
});
