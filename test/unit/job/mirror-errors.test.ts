// The mirror under errors: each policy on each side, retries, and write-blocking mirrors as the real program has them.
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";
import { type Faults, bench, expectGone, guest } from "./mirror-support.ts";

describe("errors", () => {
  const at = (iotype: string, errno: number, once: boolean): Faults => [
    { event: "none", iotype, errno, sector: 4096, once },
  ];

  test.each([
    ["source", "read", "on-source-error"],
    ["target", "write", "on-target-error"],
  ] as const)("report on the %s ends the job with that error", async (side, operation, argument) => {
    const made = await bench({ [side]: at(operation, 28, false) });
    const job = await made.start({ [argument]: "report" });
    await expect(made.settle(job.done)).rejects.toThrow("No space left on device");
    expect(made.events).toContain(`error ${operation} report`);
    expect(made.events).not.toContain("ready");
    expectGone(made);
  });

  test.each([
    ["source", "read", "on-source-error"],
    ["target", "write", "on-target-error"],
  ] as const)(
    "ignore on the %s: dirty again, and copied once it works",
    async (side, operation, argument) => {
      const made = await bench({ [side]: at(operation, 5, true) });
      const job = await made.start({ [argument]: "ignore" });
      await made.ready(job);
      expect(made.events.filter((event) => event.startsWith("error"))).toEqual([`error ${operation} ignore`]);
      expect([job.ioStatus, job.offset, job.length]).toEqual(["ok", 4 * MiB, 4 * MiB]);
      expect(await made.test.difference("src", "dst")).toBe(-1);
      await job.cancel();
      await made.settle(job.done.catch(() => undefined));
      expectGone(made);
    },
  );

  test.each([
    { side: "source", op: "read", policy: "stop", errno: 5, status: "failed" },
    { side: "target", op: "write", policy: "stop", errno: 28, status: "nospace" },
    { side: "target", op: "write", policy: "enospc", errno: 28, status: "nospace" },
    { side: "target", op: "write", policy: "auto", errno: 28, status: "nospace" },
  ] as const)(
    "on-$side-error=$policy with $errno: paused, $status; resume copies it",
    async ({ side, op, policy, errno, status }) => {
      const made = await bench({ [side]: at(op, errno, true) });
      const job = await made.start({ [`on-${side}-error`]: policy });
      await made.test.host.clock.idle();
      expect([job.status, job.ioStatus, job.userPaused]).toEqual(["paused", status, true]);
      expect(made.events).toContain(`error ${op} stop`);
      job.resume();
      expect(job.ioStatus).toBe("ok");
      await made.ready(job);
      expect(await made.test.difference("src", "dst")).toBe(-1);
      await job.cancel();
      await made.settle(job.done.catch(() => undefined));
      expectGone(made);
    },
  );

  test.each(["ignore", "stop"] as const)(
    "what could not be zeroed at first (%s) is dirty again",
    async (policy) => {
      const made = await bench();
      const { graph, host } = made.test;
      const { driver, node } = await addProbe(graph, { "node-name": "p", size: 4 * MiB });
      node.options = { ...node.options, discard: "unmap" };
      driver.bytes.fill(0xee);
      await made.test.disk("empty", 4 * MiB);
      driver.before = ({ op }) => {
        if (op !== "pwriteZeroes") return;
        driver.before = undefined;
        throw blockError("EIO", op);
      };
      const job = await made.start({ device: "empty", target: "p", "on-target-error": policy });
      await host.clock.idle();
      if (policy === "stop") job.resume();
      await made.ready(job);
      expect(made.events.filter((event) => event.startsWith("error"))).toEqual([`error write ${policy}`]);
      expect(driver.bytes.findIndex((byte) => byte !== 0)).toBe(-1);
      await job.cancel({ force: false });
      await made.settle(job.done);
      expectGone(made);
    },
  );

  test.each([
    ["READY", false],
    ["the end", true],
  ])("a flush that fails before %s, under ignore, is tried less and less often", async (_when, atEnd) => {
    const made = await bench();
    const { clock } = made.test.host;
    const { driver } = await addProbe(made.test.graph, { "node-name": "p", size: 4 * MiB });
    const fail = ({ op }: { op: string }): void => {
      if (op === "flush") throw blockError("EIO", op);
    };
    if (!atEnd) driver.before = fail;
    const job = await made.start({ target: "p", "on-target-error": "ignore" });
    if (atEnd) {
      await made.ready(job);
      driver.before = fail;
      // There must be something to flush.
      await (await guest(made.test)).pwrite(0, new Uint8Array(512));
      await job.complete();
    }
    const errors = (): number => made.events.filter((event) => event === "error write ignore").length;
    const from = clock.nowMs();
    while (clock.nowMs() < from + 3000) await clock.step();
    expect(errors()).toBeGreaterThanOrEqual(5);
    expect(errors()).toBeLessThanOrEqual(20);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
    expectGone(made);
  });

  test("a failed flush of the target follows on-target-error before READY", async () => {
    const made = await bench({ target: [{ event: "none", iotype: "flush", errno: 5, once: true }] });
    const job = await made.start({ "on-target-error": "stop" });
    await made.test.host.clock.idle();
    expect([job.status, job.ioStatus]).toEqual(["paused", "failed"]);
    expect(made.events).toContain("error write stop");
    expect(made.events).not.toContain("ready");
    job.resume();
    await made.ready(job);
    expect(job.isReady).toBe(true);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
  });

  test("an error that stays, under ignore, is tried less and less often and can be cancelled at once", async () => {
    const made = await bench({ target: at("write", 5, false) });
    const { clock } = made.test.host;
    const job = await made.start({ "on-target-error": "ignore" });
    const perSecond: number[] = [];
    for (let second = 1; second <= 6; second++) {
      const before = made.events.length;
      while (clock.nowMs() < second * 1000) await clock.step();
      perSecond.push(made.events.slice(before).filter((event) => event.startsWith("error")).length);
    }
    expect(perSecond[0]).toBeLessThanOrEqual(16);
    expect(perSecond[0]).toBeGreaterThanOrEqual(5);
    for (const count of perSecond.slice(2)) expect(count).toBeLessThanOrEqual(2);
    expect(perSecond.slice(2).some((count) => count > 0)).toBe(true);
    const now = clock.nowMs();
    await job.cancel();
    await clock.idle();
    expect(job.status).toBe("null");
    expect(clock.nowMs()).toBe(now);
    expectGone(made);
  });
});

describe("write-blocking", () => {
  const sector7 = (errno: number): Faults => [
    { event: "none", iotype: "write", errno, sector: 7, once: true },
  ];
  const write = { offset: 0, data: new Uint8Array(64 * KiB).fill(9) };

  test("a guest's write is on both sides when it completes", async () => {
    const made = await bench();
    const backend = await guest(made.test);
    const job = await made.start({ sync: "none", "copy-mode": "write-blocking" });
    await made.ready(job);
    await backend.pwrite(12_345, pattern(50_000, 5));
    expect(same(await made.test.content("dst", 12_345, 50_000), pattern(50_000, 5))).toBe(true);
    await backend.pwriteZeroes(20_000, 1000);
    expect((await made.test.content("dst", 20_000, 1000)).every((byte) => byte === 0)).toBe(true);
    expect([job.offset, job.length]).toEqual([51_000, 51_000]);
    await job.cancel();
    await made.settle(job.done.catch(() => undefined));
    await backend.close();
  });

  test("ignore: the guest succeeds, the range is copied later", async () => {
    const made = await bench({ target: sector7(5) });
    const backend = await guest(made.test);
    const job = await made.start({
      sync: "none",
      "copy-mode": "write-blocking",
      "on-target-error": "ignore",
    });
    await made.ready(job);
    await backend.pwrite(write.offset, write.data);
    await made.test.host.clock.step();
    await made.test.host.clock.step();
    expect(made.events.filter((event) => event.startsWith("error"))).toEqual(["error write ignore"]);
    expect([job.offset, job.length, job.ioStatus, job.status]).toEqual([65536, 65536, "ok", "ready"]);
    expect(same(await made.test.content("dst", 0, 65536), write.data)).toBe(true);
    await job.complete();
    await made.settle(job.done);
    expect(made.events.at(-3)).toBe("COMPLETED 65536/65536");
    await backend.close();
  });

  test("report: the guest succeeds, the job fails", async () => {
    const made = await bench({ target: sector7(5) });
    const backend = await guest(made.test);
    const job = await made.start({
      sync: "none",
      "copy-mode": "write-blocking",
      "on-target-error": "report",
    });
    await made.ready(job);
    await backend.pwrite(write.offset, write.data);
    await expect(made.settle(job.done)).rejects.toThrow("Input/output error");
    expect(made.events.slice(-5)).toEqual([
      "error write report",
      "aborting",
      "COMPLETED 0/65536 Input/output error",
      "concluded",
      "null",
    ]);
    await backend.close();
    expectGone(made);
  });

  test("stop: READY becomes standby, resume copies the range", async () => {
    const made = await bench({ target: sector7(28) });
    const backend = await guest(made.test);
    const job = await made.start({ sync: "none", "copy-mode": "write-blocking", "on-target-error": "stop" });
    await made.ready(job);
    await backend.pwrite(write.offset, write.data);
    await made.test.host.clock.idle();
    expect([job.status, job.ioStatus]).toEqual(["standby", "nospace"]);
    // Active copying goes on while the job is paused.
    await backend.pwrite(MiB, new Uint8Array(4096).fill(3));
    expect((await made.test.content("dst", MiB, 1))[0]).toBe(3);
    job.resume();
    expect([job.status, job.ioStatus]).toEqual(["ready", "ok"]);
    await job.complete();
    await made.settle(job.done);
    expect(same(await made.test.content("dst", 0, 65536), write.data)).toBe(true);
    await backend.close();
    expectGone(made);
  });

  test("under a random guest both sides are the same", async () => {
    const made = await bench({ size: 2 * MiB });
    const backend = await guest(made.test);
    const job = await made.start({ "copy-mode": "write-blocking", granularity: 4096 });
    const { random } = made.test.host;
    const writes = Array.from({ length: 80 }, async (_, i) => {
      for (let turns = random.below(8); turns > 0; turns--) await made.test.host.clock.turn();
      const offset = random.below(2 * MiB - 9000);
      await backend.pwrite(offset, pattern(1 + random.below(9000), i));
    });
    await made.settle(Promise.all(writes));
    await made.ready(job);
    await job.complete();
    await made.settle(job.done);
    expect(await made.test.difference("src", "dst")).toBe(-1);
    await backend.close();
  });
});
