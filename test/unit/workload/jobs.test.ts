/** Jobs as workers of a workload: beside a guest that writes, with their policies, resumed when an error has stopped them. */
import { describe, expect, it } from "vitest";
import {
  type DeviceJson,
  type JobJson,
  type ResultDocument,
  type WorkerJson,
  type WorkloadJson,
  runWorkload,
} from "../../../src/workload.ts";

const filler: WorkerJson = { mix: "write", sizes: "64k", depth: 4, name: "filler" };
const guest: WorkerJson = {
  name: "guest",
  mix: { read: 1, write: 2, zero: 1 },
  locality: "random",
  rate: 2000,
  requests: 150,
};

function workload(job: JobJson, more: WorkerJson = {}): WorkloadJson {
  return {
    size: "2M",
    phases: [{ workers: [filler] }, { workers: [guest, { name: "copier", job, ...more }] }],
  };
}

function jobOf({ workers }: ResultDocument): unknown {
  return workers.find(({ name }) => name === "copier")!.job;
}

const run = (job: JobJson, options: object = {}, more: WorkerJson = {}): Promise<ResultDocument> =>
  runWorkload(workload(job, more), { device: "ssd", verify: true, ...options });

describe("beside a guest", () => {
  it.each<[string, JobJson]>([
    ["a mirror takes the disk's place, in which all is as it was written", { type: "mirror", speed: "64M" }],
    ["a mirror that copies as the guest writes", { type: "mirror", copyMode: "write-blocking" }],
    ["a backup", { type: "backup" }],
  ])("%s", async (_name, job) => {
    const result = await run(job);
    expect(result).toMatchObject({ status: "done", errors: [], verified: { corrupt: 0 } });
    const { length } = jobOf(result) as { length: number };
    expect(length).toBeGreaterThanOrEqual(2 ** 21);
    expect(jobOf(result)).toEqual({
      type: job.type,
      status: "completed",
      offset: length,
      length,
      ioStatus: "ok",
      errors: 0,
    });
    // The disk and the copy are devices of their own.
    expect(result.devices.length).toBe(2);
    expect(await run(job)).toEqual(result);
  });

  it("a mirror that is cancelled when it is ready leaves the disk where it is", async () => {
    const result = await run({ type: "mirror", whenReady: "cancel" });
    expect(jobOf(result)).toMatchObject({ status: "completed" });
    expect(result.verified!.corrupt).toBe(0);
  });
});

describe("policies", () => {
  /** Half of the reads fail. */
  const failing: DeviceJson = {
    channels: 8,
    latency: { read: "100us", write: "100us", flush: "100us" },
    zones: [{ errorRate: 0.5, errno: "EIO", operations: ["read"] }],
  };
  const idle = { ...guest, mix: "flush" as const };
  const withJob = (job: JobJson, more: WorkerJson = {}): Promise<ResultDocument> =>
    runWorkload(
      { size: "4M", phases: [{ workers: [filler] }, { workers: [idle, { name: "copier", job, ...more }] }] },
      { device: failing },
    );

  it("report: the job fails, and so does the run", async () => {
    const result = await withJob({ type: "backup" });
    expect(result).toMatchObject({ status: "failed", errors: [{ worker: "copier", code: "EIO" }] });
    expect(jobOf(result)).toMatchObject({ status: "failed", errors: 1 });
  });

  it("a job that fails as expected is no failure of the run", async () => {
    const result = await withJob({ type: "backup" }, { onError: "continue" });
    expect(result.status).toBe("done");
    expect(jobOf(result)).toMatchObject({ status: "failed" });
  });

  it("stop: the user comes after a while, and the job goes on", async () => {
    const result = await withJob({ type: "backup", onError: "stop", resumeAfter: "2ms" });
    expect(result.status).toBe("done");
    const { errors } = jobOf(result) as { errors: number };
    expect(errors).toBeGreaterThan(1);
    expect(jobOf(result)).toMatchObject({ status: "completed", ioStatus: "ok" });
    expect(result.elapsedNs).toBeGreaterThan(errors * 1e6);
  });

  it("stop, and the user gives up", async () => {
    const result = await withJob({ type: "backup", onError: "stop", resumes: 0 });
    expect(result.status).toBe("failed");
    expect(jobOf(result)).toMatchObject({ status: "cancelled", errors: 1 });
  });

  it("what is no job is refused", async () => {
    const bad = { workers: [{ job: { type: "copy" } }] } as unknown as WorkloadJson;
    await expect(runWorkload(bad)).rejects.toThrow("workers[0].job.type: must be one of mirror, backup");
  });
});
