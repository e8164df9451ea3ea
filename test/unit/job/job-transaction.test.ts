// Jobs that end together.
import { expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { JobTransaction } from "../../../src/job/core/job-core.ts";
import { Engine, type FakeJob } from "./fake-job.ts";

function pair(options: { manual?: boolean } = {}): { engine: Engine; older: FakeJob; newer: FakeJob } {
  const engine = new Engine();
  const transaction = new JobTransaction();
  const older = engine.job("older", { transaction, autoFinalize: !options.manual });
  const newer = engine.job("newer", { transaction });
  older.start();
  newer.start();
  engine.take();
  return { engine, older, newer };
}

test("all wait for the last, and are finalized newest first", async () => {
  const { engine, older, newer } = pair();
  newer.end();
  await engine.clock.idle();
  expect(engine.take()).toEqual(["newer:waiting"]);
  older.end();
  await engine.clock.idle();
  expect(engine.take()).toEqual([
    "older:waiting",
    "newer:pending",
    "older:pending",
    "BLOCK_JOB_COMPLETED",
    "newer:concluded",
    "newer:null",
    "BLOCK_JOB_COMPLETED",
    "older:concluded",
    "older:null",
  ]);
});

test("one manual member keeps all pending; any member finalizes all; only the manual one says PENDING", async () => {
  const { engine, older, newer } = pair({ manual: true });
  newer.end();
  older.end();
  await engine.clock.idle();
  expect(engine.log.filter((line) => line === "BLOCK_JOB_PENDING")).toHaveLength(1);
  expect([older.status, newer.status]).toEqual(["pending", "pending"]);
  engine.take();
  await newer.finalize();
  expect(engine.take().filter((line) => line.endsWith(":null"))).toEqual(["newer:null", "older:null"]);
});

test("a failure cancels the others, even those that are done", async () => {
  const { engine, older, newer } = pair();
  newer.end();
  await engine.clock.idle();
  engine.take();
  older.step(() => {
    throw blockError("EIO", "pread");
  });
  await engine.clock.idle();
  expect(engine.take()).toEqual([
    "older:aborting",
    "newer:aborting",
    "BLOCK_JOB_CANCELLED",
    "newer:concluded",
    "newer:null",
    "BLOCK_JOB_COMPLETED",
    "older:concluded",
    "older:null",
  ]);
  await expect(newer.done).rejects.toThrow("Operation canceled");
  await expect(older.done).rejects.toThrow("Input/output error");
});

test("a failure stops those that still run, paused ones too", async () => {
  const { engine, older, newer } = pair();
  newer.step((self) => self.yielding()).end();
  await engine.clock.idle();
  newer.pause();
  older.step(() => {
    throw blockError("EIO", "pread");
  });
  await engine.clock.idle();
  expect(engine.registry.jobs).toEqual([]);
  expect(newer.calls).toContain("abort");
});

test("a failed prepare aborts all", async () => {
  const { engine, older, newer } = pair();
  older.prepareError = blockError("EPERM", "backup");
  newer.end();
  older.end();
  await engine.clock.idle();
  expect(newer.calls).toEqual(["prepare", "abort", "clean", "release"]);
  expect(older.calls).toEqual(["prepare", "abort", "clean", "release"]);
  await expect(newer.done).rejects.toThrow("Operation canceled");
});

test("no verb is accepted while the ends are carried out, and settled() waits for them", async () => {
  const engine = new Engine();
  const job = engine.job("j", { autoFinalize: false }).end();
  job.start();
  await engine.clock.idle();
  const finalizing = job.finalize();
  expect(() => job.applyVerb("cancel")).toThrow(
    "Job 'j' in state 'pending' cannot accept command verb 'cancel'",
  );
  await job.cancel(); // Waits for the end that is being carried out.
  expect(job.status).toBe("null");
  await engine.registry.settled();
  expect(engine.registry.jobs).toEqual([]);
  await finalizing;
});

test("members that never started end with a cancelled one", async () => {
  const engine = new Engine();
  const transaction = new JobTransaction();
  const first = engine.job("first", { transaction });
  const second = engine.job("second", { transaction });
  await first.abandon();
  expect([first.status, second.status]).toEqual(["null", "null"]);
  expect(engine.log.some((line) => line.startsWith("BLOCK_JOB"))).toBe(false);
});
