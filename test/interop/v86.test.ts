// Real v86 with a guest that reads and writes over a node: two builds, error policies, the deadline, saved states.
import { beforeAll, describe, expect, test } from "vitest";
import { type Engine, createEngine, openNode } from "../../src/node.ts";
import { type V86DiskOptions, toV86Disk } from "../../src/api/v86.ts";
import { Node } from "../../src/api/node.ts";
import { blockError } from "../../src/base/errors.ts";
import { deferred } from "../../src/base/signals.ts";
import { guestPattern, isAnswer } from "../support/v86/monitor-guest.ts";
import { type Build, boot, builds, monitorSector } from "../support/v86/node.ts";
import { type ProbeDriver, addProbe } from "../unit/support/probe.ts";

const MiB = 1024 * 1024;
let sector: Uint8Array;

beforeAll(() => {
  sector = monitorSector();
});

/** A guest over a disk in memory that the test can make fail or wait. */
async function start(build: Build, options: V86DiskOptions = {}) {
  const engine = createEngine();
  const { node, driver } = await addProbe(engine.graph, { "node-name": "disk", size: MiB });
  driver.bytes.set(sector);
  const disk = await toV86Disk(await Node.attach(engine, node), options);
  const machine = boot(build, disk);
  await machine.guest.booted;
  return {
    ...machine,
    engine,
    driver,
    disk,
    events: listen(engine),
    async [Symbol.asyncDispose]() {
      await machine[Symbol.asyncDispose]();
      await engine.close();
    },
  };
}

/** The names of the events from now on. */
function listen(engine: Engine): string[] {
  const names: string[] = [];
  engine.graph.events.subscribe(({ event, data }) => {
    names.push(
      event === "BLOCK_IO_ERROR" ? `${event} ${String(data["operation"])} ${String(data["action"])}` : event,
    );
  });
  return names;
}

function fail(driver: ProbeDriver, op: "pread" | "pwrite", code: "EIO" | "ENOSPC"): void {
  driver.before = (call) => {
    if (call.op === op) throw blockError(code, op);
  };
}

describe.each(builds)("%s", (build) => {
  test("boots from a node, reads and writes", async () => {
    await using machine = await start(build);
    const { guest, driver, disk } = machine;
    driver.bytes.set(guestPattern(99, 8 * 512), 64 * 512);
    expect(isAnswer(await guest.read(64, 8), guestPattern(99, 8 * 512))).toBe(true);
    const answers = await Promise.all([guest.write(100, 7, 16), guest.read(100, 16), guest.write(101, 8)]);
    expect(isAnswer(answers[1], guestPattern(7, 16 * 512))).toBe(true);
    expect(answers.map(({ status }) => status)).toEqual([0, 0, 0]);
    await disk.sync();
    expect(driver.bytes.subarray(100 * 512, 101 * 512)).toEqual(guestPattern(7, 512));
    expect(driver.bytes.subarray(101 * 512, 102 * 512)).toEqual(guestPattern(8, 512));
    expect(disk.canReportErrors).toBe(true);
  });

  test("goes on with 50 ms for each request", async () => {
    await using engine = createEngine();
    const size = MiB;
    await using memory = await openNode({ driver: "memory", "node-name": "memory", size }, { engine });
    await memory.write(0, sector);
    await engine.objects.add({ "qom-type": "throttle-group", id: "slow", limits: { "iops-total": 20 } });
    const spec = { driver: "throttle", "throttle-group": "slow", file: "memory" } as const;
    await using node = await openNode(spec, { engine });
    await using machine = boot(build, await toV86Disk(node));
    await machine.guest.booted;
    await machine.guest.write(8, 3, 8);
    expect(isAnswer(await machine.guest.read(8, 8), guestPattern(3, 8 * 512))).toBe(true);
  });

  test.each(["pread", "pwrite"] as const)("report: a failed %s reaches the guest as an error", async (op) => {
    await using machine = await start(build, { rerror: "report", werror: "report" });
    const { guest, driver, events, emulator } = machine;
    fail(driver, op, "EIO");
    const answer = await (op === "pread" ? guest.read(8) : guest.write(8, 1));
    expect(answer.status).not.toBe(0);
    expect(new Set(events)).toEqual(new Set([`BLOCK_IO_ERROR ${op === "pread" ? "read" : "write"} report`]));
    expect(emulator.is_running()).toBe(true);
    driver.before = undefined;
    expect((await guest.write(8, 1)).status).toBe(0);
    expect(isAnswer(await guest.read(8), guestPattern(1, 512))).toBe(true);
  });

  test.each(["pread", "pwrite"] as const)(
    "stop: a failed %s stops the guest, who never learns of it",
    async (op) => {
      await using machine = await start(build);
      const { guest, driver, events, emulator, engine } = machine;
      fail(driver, op, "ENOSPC");
      const answer = op === "pread" ? guest.read(8) : guest.write(8, 1);
      const stopped = new Promise((resolve) => {
        emulator.add_listener("emulator-stopped", () => resolve(undefined));
      });
      await stopped;
      expect(events).toEqual([`BLOCK_IO_ERROR ${op === "pread" ? "read" : "write"} stop`, "STOP"]);
      expect(engine.machine.query().status).toBe("io-error");
      expect(emulator.is_running()).toBe(false);
      driver.before = undefined;
      await engine.machine.cont();
      expect((await answer).status).toBe(0);
      await guest.tick(2);
      expect(events.at(-1)).toBe("RESUME");
    },
  );

  test("the deadline stops the guest while its read hangs; it goes on with the late answer", async () => {
    await using machine = await start(build, { deadlineMs: 200 });
    const { guest, driver, events, emulator, engine } = machine;
    const gate = deferred();
    driver.before = () => gate.promise;
    const answer = guest.read(8);
    await new Promise((resolve) => {
      emulator.add_listener("emulator-stopped", () => resolve(undefined));
    });
    expect(events).toEqual(["BLOCK_IO_ERROR read stop", "STOP"]);
    driver.bytes.set(guestPattern(5, 512), 8 * 512);
    gate.resolve();
    await engine.machine.cont();
    expect(isAnswer(await answer, guestPattern(5, 512))).toBe(true);
    await guest.tick(2);
    expect(guest.errors).toBe(0);
  });

  test("a saved state goes with its content only", async () => {
    await using machine = await start(build);
    const { guest, disk, emulator } = machine;
    await guest.write(8, 1);
    await emulator.stop();
    await disk.sync();
    const state = await emulator.save_state();
    await emulator.restore_state(state);
    await emulator.run();
    await guest.tick(2);
    expect(isAnswer(await guest.read(8), guestPattern(1, 512))).toBe(true);
    await guest.write(8, 2);
    await emulator.stop();
    await expect(emulator.restore_state(state)).rejects.toThrow("was written to since the state was saved");
  });
});
