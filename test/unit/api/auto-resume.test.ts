// Going on after an error by a probe, in virtual time.
import { describe, expect, test } from "vitest";
import { type AutoResumeOptions, autoCont, autoResume } from "../../../src/api/auto-resume.ts";
import { stream } from "../../../src/api/jobs.ts";
import { createImageIn, openNodeIn } from "../../../src/api/open.ts";
import { blockError } from "../../../src/base/errors.ts";
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { loadKernels } from "../../../src/kernels/load.ts";
import { GuestDevice } from "../../../src/machine/device.ts";
import { Engine } from "../../../src/machine/engine.ts";
import { addProbe } from "../support/probe.ts";
import { VirtualHost } from "../support/virtual-host.ts";

const KiB = 1024;
const SIZE = 256 * KiB;

/** An overlay over a source that fails as `source.before` says, and what the engine tells. */
async function bench() {
  const host = new VirtualHost();
  const kernels = loadKernels({ arenaBytes: 16 * 1024 * KiB });
  const engine = new Engine({ host, drivers: portableDrivers, kernels });
  const told: string[] = [];
  engine.graph.events.subscribe(({ event, data }) => {
    if (event !== "JOB_STATUS_CHANGE") return;
    told.push(`${String(data["status"])}@${host.clock.nowMs()}`);
  });
  const { driver: source } = await addProbe(engine.graph, { "node-name": "source", size: SIZE });
  const file = { driver: "memory", "node-name": "file", size: 0 } as const;
  const keeper = await openNodeIn(engine, file);
  await createImageIn(engine, { driver: "qcow2", file: "file", size: SIZE });
  const spec = { driver: "qcow2", "node-name": "disk", file: "file", backing: "source" } as const;
  const disk = await openNodeIn(engine, spec);
  return { host, clock: host.clock, engine, source, disk, keeper, told };
}

/** Fails every read from the source before a time, ms. */
function failUntil(
  { source, clock }: Awaited<ReturnType<typeof bench>>,
  endMs: number,
  code: "EIO" | "ENOSPC",
): void {
  source.before = ({ op }) => {
    if (op === "pread" && clock.nowMs() < endMs) throw blockError(code, "pread");
  };
}

describe("a job", () => {
  test("is resumed when the failed range can be read again, and not before", async () => {
    const all = await bench();
    failUntil(all, 12_000, "EIO");
    const job = await stream(all.disk, { onError: "stop", autoResume: {} });
    await all.clock.settle(job.done);
    expect(all.told.slice(0, 5)).toEqual([
      "created@0",
      "running@0",
      "paused@0",
      "running@15000",
      "waiting@15000",
    ]);
    const half = [SIZE / 2, 64 * KiB, 64 * KiB];
    expect(all.source.calls.filter(({ op }) => op === "pread").map(({ bytes }) => bytes)).toEqual(
      // The try that failed, its halves down to the clusters, the probes at 5, 10 and 15 s, and the job again.
      [SIZE, ...half, ...half, 64 * KiB, 64 * KiB, 64 * KiB, SIZE],
    );
    expect(all.clock.pending).toBe(0);
  });

  test("that pauses again is probed again", async () => {
    const all = await bench();
    let failing = true;
    const made: { job?: BlockJob } = {};
    all.source.before = ({ op }) => {
      if (op !== "pread" || !failing) return;
      // A probe works while the job rests, as with a server that fails under load.
      if (made.job?.status !== "paused") throw blockError("EIO", "pread");
    };
    const job = await stream(all.disk, { onError: "stop", autoResume: { probeMs: 100 } });
    made.job = job;
    all.clock.timer(350, () => (failing = false));
    await all.clock.settle(job.done);
    expect(all.told.filter((line) => /^(running|paused)/.test(line))).toEqual([
      "running@0",
      "paused@0",
      "running@100",
      "paused@100",
      "running@200",
      "paused@200",
      "running@300",
      "paused@300",
      "running@400",
    ]);
  });

  test.each([
    ["hasRoom says so", [false, false, true], "running@3000"],
    ["its own try works, without hasRoom", undefined, "running@1000"],
  ] as const)("without space is resumed when %s", async (_name, answers, expected) => {
    const all = await bench();
    failUntil(all, 500, "ENOSPC");
    const left = [...(answers ?? [])];
    const asked: number[] = [];
    const hasRoom = (bytes: number): Promise<boolean> => {
      asked.push(bytes);
      return Promise.resolve(left.shift() ?? false);
    };
    const options: AutoResumeOptions = { probeMs: 1000, ...(answers ? { hasRoom } : {}) };
    const job = await stream(all.disk, { onError: "enospc", autoResume: options });
    await all.clock.settle(job.done);
    expect(all.told[3]).toBe(expected);
    expect(asked).toEqual(answers ? [SIZE, SIZE, SIZE] : []);
  });

  test("that its user resumed first is left alone", async () => {
    const all = await bench();
    failUntil(all, 3000, "EIO");
    const job = await stream(all.disk, { onError: "stop", autoResume: { probeMs: 10_000 } });
    await all.clock.idle();
    all.clock.timer(4000, () => job.resume());
    await all.clock.settle(job.done);
    expect(all.told).toContain("running@4000");
    while (await all.clock.step());
    expect(all.told.at(-1)).toBe("null@4000");
  });

  test("that its user paused is left alone", async () => {
    const all = await bench();
    const job = await stream(all.disk, { onError: "stop", autoFinalize: false, autoResume: { probeMs: 10 } });
    job.pause();
    while (await all.clock.step());
    expect([job.status, job.ioStatus]).toEqual(["paused", "ok"]);
    expect(all.clock.nowMs()).toBe(0);
    await job.cancel();
  });

  test("that its user paused before an error is left alone", async () => {
    const all = await bench();
    let fail = (): void => undefined;
    all.source.before = ({ op }) => {
      if (op !== "pread") return;
      return new Promise((_, reject) => (fail = () => reject(blockError("EIO", "pread"))));
    };
    const job = await stream(all.disk, { onError: "stop", autoResume: { probeMs: 10 } });
    await all.clock.idle();
    job.pause();
    fail();
    await all.clock.idle();
    expect([job.status, job.ioStatus]).toEqual(["paused", "failed"]);
    expect(all.clock.pending).toBe(0);
    await job.cancel();
  });

  test("is resumed although the machine's cont has cleared its io-status", async () => {
    const all = await bench();
    failUntil(all, 4000, "EIO");
    const job = await stream(all.disk, { onError: "stop", autoResume: { probeMs: 5000 } });
    await all.clock.idle();
    all.clock.timer(2000, () => void all.engine.machine.cont());
    await all.clock.settle(job.done);
    expect(all.told).toContain("running@5000");
  });

  test("is probed again after a probe that threw", async () => {
    const all = await bench();
    failUntil(all, 500, "ENOSPC");
    let asked = 0;
    const hasRoom = (): Promise<boolean> =>
      asked++ === 0 ? Promise.reject(new Error("no answer")) : Promise.resolve(true);
    const job = await stream(all.disk, { onError: "enospc", autoResume: { probeMs: 1000, hasRoom } });
    await all.clock.settle(job.done);
    expect(all.told[3]).toBe("running@2000");
  });

  test("is not probed after the watch's signal, nor after its end", async () => {
    const all = await bench();
    failUntil(all, Infinity, "EIO");
    const ended = new AbortController();
    const job = await stream(all.disk, { onError: "stop", autoResume: { signal: ended.signal } });
    await all.clock.idle();
    expect(all.clock.pending).toBe(1);
    ended.abort();
    await all.clock.idle();
    expect(all.clock.pending).toBe(0);
    autoResume(job);
    await all.clock.idle();
    expect(all.clock.pending).toBe(1);
    await job.cancel();
    await all.clock.idle();
    expect(all.clock.pending).toBe(0);
  });

  test("is not probed at all when the signal had come before", async () => {
    const all = await bench();
    failUntil(all, Infinity, "EIO");
    const job = await stream(all.disk, { onError: "stop", autoResume: { signal: AbortSignal.abort() } });
    await all.clock.idle();
    expect(all.clock.pending).toBe(0);
    await job.cancel();
  });

  test.each([0, -1, Number.NaN])("a probeMs of %d is refused before anything starts", async (probeMs) => {
    const all = await bench();
    await expect(stream(all.disk, { autoResume: { probeMs } })).rejects.toThrow(
      "probeMs expects a positive number",
    );
    expect(all.engine.jobs.jobs).toEqual([]);
    expect(() => autoCont(all.engine, { probeMs })).toThrow("probeMs expects a positive number");
  });
});

describe("a machine", () => {
  /** A guest over the source alone. */
  async function guest(all: Awaited<ReturnType<typeof bench>>, deadlineMs = 0) {
    const { engine } = all;
    await all.disk.close();
    const node =
      engine.graph.findNode("source") ??
      (await addProbe(engine.graph, { "node-name": "s2", size: SIZE })).node;
    const { machine } = engine;
    return GuestDevice.plug({ machine, name: "d0", node, rerror: "stop", werror: "stop", deadlineMs });
  }

  test("goes on when the failed range can be read again", async () => {
    const all = await bench();
    const device = await guest(all);
    failUntil(all, 7000, "EIO");
    const ended = new AbortController();
    autoCont(all.engine, { signal: ended.signal });
    const read = device.read(0, new Uint8Array(512));
    await all.clock.settle(read);
    expect(all.clock.nowMs()).toBe(10_000);
    expect(all.engine.machine.state).toBe("running");
    // A user's stop is not an error.
    await all.engine.machine.stop();
    await all.clock.idle();
    expect(all.clock.pending).toBe(0);
    ended.abort();
  });

  test("waits for a request that missed its deadline", async () => {
    const all = await bench();
    const device = await guest(all, 20_000);
    all.source.before = ({ op }) => {
      return op === "pread" ? new Promise((resolve) => void all.clock.timer(33_000, resolve)) : undefined;
    };
    autoCont(all.engine);
    await all.clock.settle(device.read(0, new Uint8Array(512)));
    await all.clock.idle();
    expect(all.clock.nowMs()).toBe(33_000);
    expect(all.engine.machine.state).toBe("running");
  });

  test("stays stopped when the signal had come before", async () => {
    const all = await bench();
    const device = await guest(all);
    failUntil(all, Infinity, "EIO");
    autoCont(all.engine, { signal: AbortSignal.abort() });
    void Promise.resolve(device.read(0, new Uint8Array(512))).catch(() => undefined);
    await all.clock.idle();
    expect(all.engine.machine.state).toBe("io-error");
    expect(all.clock.pending).toBe(0);
  });

  test("without space tries again by itself", async () => {
    const all = await bench();
    const device = await guest(all);
    all.source.before = ({ op }) => {
      if (op === "pwrite" && all.clock.nowMs() < 2000) throw blockError("ENOSPC", "pwrite");
    };
    autoCont(all.engine, { probeMs: 1500 });
    await all.clock.settle(device.write(0, new Uint8Array(512)));
    expect(all.clock.nowMs()).toBe(3000);
  });
});
