/** Runs: the same bytes from a seed on both clocks and both kinds of kernels, latencies that are told as they are, failures that are told. */
import { describe, expect, it } from "vitest";
import { portableDrivers } from "../../../src/drivers/index.ts";
import {
  type ResultDocument,
  type RunOptions,
  type WorkloadJson,
  parseWorkload,
  report,
  reportFormats,
  runWorkload,
} from "../../../src/workload.ts";
import { giveBackKernels, takeKernels } from "../../../src/workload/run/idle-kernels.ts";
import { VirtualHost } from "../support/virtual-host.ts";

const mixed: WorkloadJson = {
  name: "mixed",
  seed: 7,
  size: "4M",
  workers: [
    {
      name: "db",
      mix: { read: 60, write: 30, zero: 4, discard: 4, flush: 2 },
      sizes: [
        { size: "4k", weight: 80 },
        { size: "64k", weight: 20 },
      ],
      locality: { zipf: 1.1 },
      depth: 8,
      fua: 10,
      requests: 600,
      region: { size: "2M" },
      data: { compress: 50, duplicates: 20, zeroes: 10 },
    },
    {
      name: "log",
      mix: "write",
      region: { offset: "2M", size: "1M" },
      flushEvery: 8,
      rate: { poisson: 4000 },
    },
  ],
};

const run = (workload: WorkloadJson, options: RunOptions = {}): Promise<ResultDocument> =>
  runWorkload(workload, options);

/** Beside the time that passes in tests, a host whose clock goes on by itself. */
function realPlatform(): NonNullable<RunOptions["platform"]> {
  const clock = {
    nowMs: () => performance.now(),
    wallMicroseconds: () => 0,
    timer: (delayMs: number, callback: () => void) => {
      const timer = setTimeout(callback, delayMs);
      return () => clearTimeout(timer);
    },
    turn: () => new Promise<void>((resolve) => setTimeout(resolve, 0)),
  };
  const { files, codecs, random } = new VirtualHost();
  return { host: { clock, files, codecs, random }, drivers: portableDrivers };
}

describe("the same bytes", () => {
  it("a result is the same to the last digit, by WebAssembly or without", async () => {
    const text = report(await run(mixed), "json");
    expect(report(await run(mixed), "json")).toBe(text);
    expect(report(await run(mixed, { kernels: "twin" }), "json")).toBe(text);
  });

  it("digests do not change from release to release", async () => {
    const { digest, elapsedNs } = await run(mixed);
    expect({ ...digest, elapsedNs }).toEqual({
      requests: "462e4b80351a4760",
      data: "bfd1f1cbd52e195e",
      disk: "e57a514297547715",
      elapsedNs: 62_896_894,
    });
  });

  it("the digests are the same on every clock, device and disk", async () => {
    const { digest } = await run(mixed);
    expect((await run(mixed, { device: "cloud" })).digest).toEqual(digest);
    expect((await run(mixed, { clock: "real", platform: realPlatform() })).digest).toEqual(digest);
    const overRaw = { driver: "raw", file: { driver: "memory" }, discard: "unmap" };
    expect((await run(mixed, { target: overRaw })).digest).toEqual(digest);
  });

  it("another seed is another stream", async () => {
    const [one, other] = [await run(mixed), await run(mixed, { seed: 8 })];
    expect(one.digest.requests).not.toBe(other.digest.requests);
    expect(one.digest.data).not.toBe(other.digest.data);
    expect(one.digest.disk).not.toBe(other.digest.disk);
  });

  it("runs in turn have one memory, those beside each other have their own", () => {
    const wish = { kernels: "auto", equals: undefined } as const;
    const [one, other] = [takeKernels(wish), takeKernels(wish)];
    expect(other.area.buffer).not.toBe(one.area.buffer);
    giveBackKernels(wish, one);
    expect(takeKernels({ ...wish, kernels: "twin" })).not.toBe(one);
    expect(takeKernels(wish)).toBe(one);
    expect(takeKernels(wish)).not.toBe(one);
  });

  it("nothing is left of a run in the next one", async () => {
    const alone = report(await run(mixed), "json");
    await run({ ...mixed, seed: 9 }, { device: "cloud" });
    expect((await run(mixed, { target: { driver: "none" } })).status).toBe("failed");
    expect(report(await run(mixed), "json")).toBe(alone);
  });

  it("a pace moves no request", async () => {
    const paced = {
      ...mixed,
      workers: [{ ...mixed.workers![0]!, rate: 900, think: "1ms" }, mixed.workers![1]!],
    };
    expect((await run(paced)).digest.requests).toBe((await run(mixed)).digest.requests);
  });
});

describe("numbers", () => {
  const steady = { mix: "read", rate: 1000, depth: 2000, duration: "20s" } as const;

  it("a stall is told as those who wait see it", async () => {
    const device = {
      channels: 4096,
      latency: { read: "1ms" },
      faults: [{ kind: "stall", at: "5s", every: "5s", for: "500ms" }],
    };
    const result = await run({ workers: [steady] }, { device });
    const { response } = result.totals.read!;
    // 3 stalls of 500 requests in 20 000: those meant for its start take 501 ms, the next 500, … the last 2.
    expect(response.count).toBe(20_000);
    expect(response.percentilesNs["p50"]).toBe(1e6);
    expect(response.percentilesNs["p90"]).toBe(1e6);
    expect(response.percentilesNs["p95"]).toBe(168e6);
    expect(response.percentilesNs["p99"]).toBe(435e6);
    expect(response.percentilesNs["p99.9"]).toBe(495e6);
    expect(response.maxNs).toBe(501e6);
  });

  it("a device that is too slow shows in the response, not in the service", async () => {
    const result = await run(
      { workers: [{ ...steady, depth: 1 }] },
      { device: { latency: { read: "2ms" } } },
    );
    const { response, service } = result.totals.read!;
    expect(service.maxNs).toBe(2e6);
    // By half the time it has fallen 5 s behind.
    expect(response.percentilesNs["p50"]).toBeGreaterThan(4.9e9);
    expect(response.percentilesNs["p50"]).toBeLessThan(5.1e9);
    expect(result.elapsedNs).toBeGreaterThan(19.9e9);
  });

  it("depth bounds what is under way", async () => {
    const workload = { workers: [{ depth: 4, requests: 100, locality: "random" as const }] };
    const result = await run(workload, { device: { channels: 64, latency: { read: "1ms" } } });
    expect(result.elapsedNs).toBe(25e6);
    expect(result.totals.read!.requestsPerSecond).toBe(4000);
  });

  it("phases follow each other, delays and think times pass", async () => {
    const worker = { requests: 10, think: "9ms", startDelay: "50ms" };
    const workload = { phases: [{ workers: [worker, worker] }, { workers: [worker] }] };
    const result = await run(workload, { device: { channels: 8, latency: { read: "1ms" } } });
    expect(result.workers.map(({ beginNs, endNs }) => [beginNs, endNs])).toEqual([
      [50e6, 150e6],
      [50e6, 150e6],
      [200e6, 300e6],
    ]);
  });

  it("a warm-up is left out of the numbers, not of the digests", async () => {
    const workload = { workers: [{ requests: 100, warmup: "50ms" }] };
    const result = await run(workload, { device: { latency: { read: "1ms" } } });
    const { requests, requestsPerSecond } = result.totals.read!;
    // 50 ms are measured.
    expect({ requests, requestsPerSecond }).toEqual({ requests: 51, requestsPerSecond: 1020 });
    expect(result.workers[0]).toMatchObject({
      requests: 100,
      operations: { read: { requestsPerSecond: 1020 } },
    });
  });

  it("a steady run is steady", async () => {
    const result = await run(
      { workers: [{ ...steady, duration: "2s" }] },
      { device: { latency: { read: "100us" } } },
    );
    expect(result.steadyState).toMatchObject({ snia: { met: true, round: 5 }, fioSlope: { met: true } });
    expect(result.timeline!.requests.reduce((sum, count) => sum + count, 0)).toBe(2000);
  });

  it("what came to the device is counted", async () => {
    const workload = { workers: [{ mix: "write" as const, requests: 100, flushEvery: 10 }] };
    const [device] = (await run(workload)).devices;
    expect(device).toMatchObject({ requests: { read: 0, write: 91, flush: 9 }, bytes: { write: 91 * 4096 } });
  });
});

describe("failures", () => {
  const broken = { latency: { read: "1ms" }, faults: [{ kind: "error", nth: 50 }] };

  it("end the run, and are told", async () => {
    const result = await run({ workers: [{ name: "w", requests: 100 }] }, { device: broken });
    expect(result).toMatchObject({
      status: "failed",
      errors: [{ code: "EIO", worker: "w", operation: "read", offset: 49 * 4096, bytes: 4096 }],
      totals: { read: { requests: 50, errors: 1 } },
    });
    expect(result.digest.disk).toMatch(/^[0-9a-f]{16}$/);
  });

  it("are counted where the run goes on, or expects them", async () => {
    for (const policy of [{ onError: "continue" as const }, { expect: ["EIO"] }]) {
      const result = await run({ workers: [{ requests: 100, ...policy }] }, { device: broken });
      expect(result).toMatchObject({ status: "done", totals: { read: { requests: 100, errors: 1 } } });
      expect(result.errors).toHaveLength(1);
    }
  });

  it.each<[WorkloadJson, RunOptions, string]>([
    [mixed, { device: "floppy" }, "no device model is called 'floppy'"],
    [mixed, { target: { driver: "nothing" } }, "nothing"],
    [mixed, { seed: -1 }, "the seed -1 is out of range"],
    [{ workers: [{ sizes: "8M" }], size: "4M" }, {}, "do not fit into its 4194304 bytes"],
  ])("%#: give a document that says why", async (workload, options, message) => {
    const result = await run(workload, options);
    expect(result.status).toBe("failed");
    expect(result.errors[0]?.message).toContain(message);
    for (const format of reportFormats) expect(report(result, format)).not.toBe("");
    expect(JSON.parse(report(result, "json"))).toEqual(result);
  });

  it("a signal ends it, and what was measured is told", async () => {
    const abort = new AbortController();
    const clock = { ...realPlatform() };
    setTimeout(() => abort.abort(new Error("enough")), 30);
    const result = await run(
      { workers: [{ duration: "60s", rate: 1000 }] },
      { clock: "real", platform: clock, signal: abort.signal },
    );
    expect(result).toMatchObject({ status: "cancelled", errors: [{ message: "enough" }] });
    expect(result.digest.requests).toMatch(/^[0-9a-f]{16}$/);
  });

  it("a disk that holds data is not written to unless that is allowed", async () => {
    const buffer = new Uint8Array(65_536);
    buffer[40_000] = 1;
    const target = { driver: "memory", buffer };
    const workload: WorkloadJson = { workers: [{ mix: "write", requests: 4 }] };
    const refused = await run(workload, { target });
    expect(refused).toMatchObject({ status: "failed", errors: [{ code: "INPUT" }] });
    expect(refused.errors[0]!.message).toContain("holds data");
    expect(buffer.filter((byte) => byte !== 0)).toHaveLength(1);
    expect((await run(workload, { target, overwrite: true })).status).toBe("done");
    expect((await run({ workers: [{ requests: 4 }] }, { target })).status).toBe("done");
  });
});

describe("our own files", () => {
  it.each<[unknown, string]>([
    [{}, "neither 'workers' nor 'phases'"],
    [{ workers: [] }, "workers: must not be empty"],
    [{ workers: [{ depth: 0 }] }, "workers[0].depth: must be at least 1"],
    [{ workers: [{ mix: "erase" }] }, "workers[0].mix: must be one of"],
    [{ workers: [{ mix: { read: 0 } }] }, "no operation has any weight"],
    [{ workers: [{ sizes: "big" }] }, "workers[0].sizes: 'big' is not understood"],
    [{ workers: [{ sizes: { min: "8k", max: "4k" } }] }, "the range is empty"],
    [{ workers: [{ data: { duplicates: 60, zeroes: 60 } }] }, "more than all"],
    [{ workers: [{ expect: ["EWHAT"] }] }, "'EWHAT' is no errno"],
    [{ seed: 1.5, workers: [{}] }, "seed: must be an integer"],
    [[], "must be an object, not array"],
    [{ format: "blockwright-workload-result", workers: [{}] }, "it is the result of a run, and no workload"],
  ])("%j is refused", async (value, message) => {
    await expect(parseWorkload(value as WorkloadJson)).rejects.toThrow(message);
  });

  it("members that are not known are named", async () => {
    const plan = await parseWorkload({ workers: [{ iodepth: 4 } as object], colour: 1 } as WorkloadJson);
    expect(plan.ignored.map(({ name, where }) => `${name} ${where}`)).toEqual([
      "iodepth workers[0]",
      "colour top level",
    ]);
  });

  it("what begins with a brace is ours, anything else fio's", async () => {
    expect(await parseWorkload('  {"workers":[{}]}')).toMatchObject({ format: "blockwright" });
    expect(await parseWorkload("[a]\nsize=1m\n")).toMatchObject({ format: "fio" });
    await expect(parseWorkload('{"workers":')).rejects.toThrow("no JSON");
  });
});
