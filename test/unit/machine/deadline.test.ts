// The deadline of a guest's requests, in virtual time: the machine stops at 20 s, not before, and nothing is lost.
import { describe, expect, test } from "vitest";
import { deferred } from "../../../src/base/signals.ts";
import { Deadline } from "../../../src/machine/deadline.ts";
import { addProbe } from "../support/probe.ts";
import { TestMachine } from "../support/guest.ts";
import { VirtualClock } from "../support/virtual-host.ts";

describe("Deadline", () => {
  test("tells of each late request once, at its own time, and arms one timer for all", async () => {
    const clock = new VirtualClock();
    const late: string[] = [];
    const deadline = new Deadline<string>(clock, 100, (what) => late.push(`${what}@${clock.nowMs()}`));
    const [first, second] = [deferred<number>(), deferred<number>()];
    const one = deadline.watch("first", first.promise);
    clock.timer(30, () => void deadline.watch("second", second.promise));
    await clock.step();
    expect(clock.pending).toBe(1);
    await clock.step();
    await clock.step();
    expect(late).toEqual(["first@100", "second@130"]);
    expect(clock.pending).toBe(0);
    first.resolve(7);
    expect(await one).toBe(7);
  });

  test("restart gives the full time again; stop ends it; 0 is none", async () => {
    const clock = new VirtualClock();
    const late: number[] = [];
    const deadline = new Deadline<string>(clock, 100, () => late.push(clock.nowMs()));
    void deadline.watch("x", new Promise(() => undefined));
    await clock.step();
    deadline.restart();
    await clock.step();
    expect(late).toEqual([100, 200]);
    deadline.restart();
    deadline.stop();
    expect(clock.pending).toBe(0);
    void new Deadline<string>(clock, 0, () => late.push(0)).watch("y", new Promise(() => undefined));
    expect(clock.pending).toBe(0);
  });
});

describe("a device with a deadline", () => {
  /** A guest whose disk answers when `answer` is resolved. */
  async function slow(rerror: "stop" | "report") {
    const bench = new TestMachine();
    const { driver } = await addProbe(bench.test.graph, { "node-name": "p", size: 4096 });
    const guest = await bench.guest("d0", { node: "p", rerror, werror: "stop", deadlineMs: 20_000 });
    const answer = deferred();
    driver.before = () => answer.promise;
    return { bench, guest, driver, answer, clock: bench.test.host.clock };
  }

  test.each(["stop", "report"] as const)(
    "stops at 20 s under rerror=%s; the answer comes later",
    async (rerror) => {
      const { bench, guest, answer, clock } = await slow(rerror);
      const request = guest.issue({ op: "read" });
      await clock.idle();
      expect(bench.take()).toEqual([]);
      await clock.step();
      await clock.idle();
      expect(clock.nowMs()).toBe(20_000);
      expect(bench.machine.state).toBe("io-error");
      expect(guest.device.ioStatus).toBe("failed");
      expect(bench.events[0]?.data).toEqual({
        device: "d0",
        "node-name": "p",
        operation: "read",
        action: "stop",
        nospace: false,
        reason: "Connection timed out",
      });
      expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 read stop", "STOP"]);
      expect(request.result).toBe("waits");
      const running = bench.machine.cont();
      await clock.idle();
      expect(bench.take()).toEqual([]);
      answer.resolve();
      expect(await request.done).toBe("ok");
      await running;
      expect(bench.take()).toEqual(["RESUME"]);
      expect(guest.device.ioStatus).toBe("ok");
    },
  );

  test("an answer in time stops nothing, however many requests there are", async () => {
    const { bench, guest, driver, clock } = await slow("stop");
    driver.before = () => new Promise((resolve) => void clock.timer(19_999, resolve));
    for (let i = 0; i < 3; i++) expect(await bench.settle(guest.issue({ op: "read" }).done)).toBe("ok");
    while (await clock.step());
    expect(bench.take()).toEqual([]);
  });

  test("a request that the guest gives up is not tried again", async () => {
    const { bench, guest, driver } = await slow("stop");
    driver.before = () => {
      throw new Error("gone");
    };
    const given = new AbortController();
    const request = guest.device.read(0, new Uint8Array(512), { signal: given.signal });
    await bench.idle();
    expect(bench.take()).toEqual(["BLOCK_IO_ERROR d0 read stop", "STOP"]);
    const reason = new Error("the drive was reset");
    given.abort(reason);
    await expect(request).rejects.toBe(reason);
    driver.calls.length = 0;
    await bench.machine.cont();
    await bench.idle();
    expect(driver.calls).toEqual([]);
  });

  test("the last failure is kept for those who probe", async () => {
    const { bench, guest, driver } = await slow("stop");
    driver.before = () => {
      throw new Error("gone");
    };
    guest.issue({ op: "read", offset: 512, bytes: 1024 });
    await bench.idle();
    expect(guest.device.lastFailure).toEqual({
      operation: "read",
      offset: 512,
      bytes: 1024,
      code: "EIO",
      message: "gone",
    });
  });
});
