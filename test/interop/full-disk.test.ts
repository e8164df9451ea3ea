// The target's file system fills up under a mirror or a backup: the policy decides, the guest goes on, and once there is
// room the job completes; the copy is equal and clean in qemu-img. FULL_DISK_PROGRAM: another storage daemon.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fileGate } from "../../src/block/model/gate.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { startMirror } from "../../src/job/mirror/mirror.ts";
import { whenReady } from "../../src/api/jobs.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { GuestDevice } from "../../src/machine/device.ts";
import { Engine } from "../../src/machine/engine.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { type Daemon, ours, withDaemon } from "../support/daemon.ts";
import { randomness } from "../support/random.ts";
import { type SmallDisk, mountSmallDisk, whyNoSmallDisk } from "../support/small-disk.ts";
import { checkFaults, must } from "../support/tools.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
const DISK = 8 * MiB;
const ROOM = 12 * MiB;
const program = process.env["FULL_DISK_PROGRAM"]?.split(" ") ?? ours;

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`full-disk.test.ts is skipped: ${reason}`);

let directory: string;
let disk: SmallDisk;
let source: string;

beforeEach(() => {
  if (reason !== undefined) return;
  directory = mkdtempSync(join(tmpdir(), "blockwright-full-"));
  disk = mountSmallDisk(ROOM);
  source = join(directory, "source.raw");
  const random = randomness(7);
  const words = Uint32Array.from({ length: DISK / 4 }, () => 1 + random(2 ** 32 - 1));
  writeFileSync(source, new Uint8Array(words.buffer));
});

afterEach(() => {
  if (reason !== undefined) return;
  disk.unmount();
  rmSync(directory, { recursive: true, force: true });
});

type Format = "raw" | "qcow2";

async function makeTarget(format: Format): Promise<string> {
  const target = disk.path(`target.${format}`);
  await must("qemu-img", "create", "-q", "-f", format, target, String(DISK));
  disk.fill(8 * MiB);
  return target;
}

function specs(format: Format, target: string): Record<string, unknown>[] {
  const spec = (name: string, driver: Format, filename: string): Record<string, unknown> => ({
    driver,
    "node-name": name,
    file: { driver: "file", filename },
  });
  return [spec("disk", "raw", source), spec("target", format, target)];
}

async function startJob(daemon: Daemon, { job, policy }: { job: string; policy: string }): Promise<void> {
  await daemon.execute(`blockdev-${job}`, {
    "job-id": "job",
    device: "disk",
    target: "target",
    sync: "full",
    "on-target-error": policy,
  });
}

async function jobInfo(daemon: Daemon): Promise<Record<string, unknown> | undefined> {
  const jobs = (await daemon.execute("query-block-jobs")) as Record<string, unknown>[];
  return jobs.find(({ device }) => device === "job");
}

async function expectEqual(format: Format, target: string): Promise<void> {
  await must("qemu-img", "compare", "-s", "-f", "raw", "-F", format, source, target).catch(async () => {
    // Strict mode minds what is allocated, which may differ; contents may not.
    await must("qemu-img", "compare", "-f", "raw", "-F", format, source, target);
  });
  if (format === "qcow2") expect(await checkFaults(target, "refused")).toBeUndefined();
}

describe.skipIf(reason !== undefined).each(["mirror", "backup"])("%s", (job) => {
  describe.each<Format>(["raw", "qcow2"])("to %s", (format) => {
    test.each(["enospc", "stop", "auto"])("%s pauses, and goes on when there is room", async (policy) => {
      const target = await makeTarget(format);
      await withDaemon({ program }, async (daemon) => {
        for (const spec of specs(format, target)) await daemon.execute("blockdev-add", spec);
        await startJob(daemon, { job, policy });
        const { data } = await daemon.event("BLOCK_JOB_ERROR");
        expect(data).toEqual({ device: "job", operation: "write", action: "stop" });
        await daemon.event("JOB_STATUS_CHANGE", { id: "job", status: "paused" });
        const halted = await waitFor(daemon, ({ paused, busy }) => paused === true && busy === false);
        expect(halted).toMatchObject({ status: "paused", "io-status": "nospace" });
        expect(halted["offset"]).toBeLessThan(DISK);
        disk.free();
        await daemon.execute("job-resume", { id: "job" });
        if (job === "mirror") {
          await daemon.event("BLOCK_JOB_READY");
          expect(await jobInfo(daemon)).toMatchObject({ "io-status": "ok", offset: DISK, len: DISK });
          await daemon.execute("job-complete", { id: "job" });
        }
        const completed = await daemon.event("BLOCK_JOB_COMPLETED");
        expect(completed.data).toMatchObject({ offset: DISK, len: DISK });
        expect(completed.data).not.toHaveProperty("error");
      });
      await expectEqual(format, target);
    });

    test("report ends the job, and the daemon lives on", async () => {
      const target = await makeTarget(format);
      await withDaemon({ program }, async (daemon) => {
        for (const spec of specs(format, target)) await daemon.execute("blockdev-add", spec);
        await startJob(daemon, { job, policy: "report" });
        expect((await daemon.event("BLOCK_JOB_ERROR")).data).toMatchObject({ action: "report" });
        const { data } = await daemon.event("BLOCK_JOB_COMPLETED");
        expect(data).toMatchObject({ device: "job", error: "No space left on device" });
        await daemon.event("JOB_STATUS_CHANGE", { id: "job", status: "null" });
        expect(await jobInfo(daemon)).toBeUndefined();
        // Nothing holds the nodes any more.
        expect(await daemon.refusal("blockdev-del", { "node-name": "target" })).toBeUndefined();
        expect(await daemon.refusal("blockdev-del", { "node-name": "disk" })).toBeUndefined();
        expect(await daemon.execute("query-named-block-nodes")).toEqual([]);
        disk.free();
        // The same again, now that there is room.
        for (const spec of specs(format, target)) await daemon.execute("blockdev-add", spec);
        await startJob(daemon, { job, policy: "report" });
        if (job === "mirror") {
          await daemon.event("BLOCK_JOB_READY");
          await daemon.execute("job-complete", { id: "job" });
        }
        expect((await daemon.event("BLOCK_JOB_COMPLETED")).data).not.toHaveProperty("error");
        expect(daemon.errors).toBe("");
      });
      await expectEqual(format, target);
    });

    test("what a failed job leaves is no broken image", async () => {
      const target = await makeTarget(format);
      const daemonEnd = withDaemon({ program }, async (daemon) => {
        for (const spec of specs(format, target)) await daemon.execute("blockdev-add", spec);
        await startJob(daemon, { job, policy: "report" });
        await daemon.event("BLOCK_JOB_COMPLETED", { error: "No space left on device" });
      });
      await daemonEnd;
      if (format === "qcow2") expect(await checkFaults(target, "refused")).toBeUndefined();
    });
  });
});

/** Asks for the job until it is in some state. */
async function waitFor(
  daemon: Daemon,
  holds: (info: Record<string, unknown>) => boolean,
): Promise<Record<string, unknown>> {
  let info: Record<string, unknown> | undefined;
  await until("the job at rest", async () => {
    info = await jobInfo(daemon);
    return info !== undefined && holds(info);
  });
  return info!;
}

test.skipIf(reason !== undefined).each<Format>(["raw", "qcow2"])(
  "the guest reads and writes while a mirror to %s waits for room, and the copy has its writes",
  async (format) => {
    const target = await makeTarget(format);
    const host = nodeHost();
    const drivers = [...portableDrivers, file];
    await using engine = new Engine({ host, kernels: loadKernels(), drivers, gate: fileGate("local", host) });
    for (const spec of specs(format, target)) await engine.graph.add(spec as { driver: string });
    const node = engine.graph.node("disk");
    const guest = await GuestDevice.plug({ machine: engine.machine, name: "guest", node });
    const before = new Uint8Array(MiB);
    await guest.read(MiB, before);
    const job = await startMirror(engine.graph, {
      "job-id": "job",
      device: "disk",
      target: "target",
      sync: "full",
      "on-target-error": "enospc",
    });
    await new Promise<void>((resolve) => {
      job.addEventListener("BLOCK_JOB_ERROR", () => resolve(), { once: true });
    });
    const again = new Uint8Array(MiB);
    await guest.read(MiB, again);
    expect(Buffer.compare(before, again)).toBe(0);
    await guest.write(3 * MiB + 512, new Uint8Array(MiB).fill(0xc7));
    await guest.write(0, new Uint8Array(4096).fill(0xc8));
    await guest.flush();
    expect(engine.machine.state).toBe("running");
    expect(job.ioStatus).toBe("nospace");
    disk.free();
    const ready = whenReady(job);
    while (job.status !== "paused") await new Promise((resolve) => setTimeout(resolve, 1));
    job.resume();
    await ready;
    expect(job.ioStatus).toBe("ok");
    await job.complete();
    await job.done;
    await engine.close();
    await expectEqual(format, target);
  },
);
