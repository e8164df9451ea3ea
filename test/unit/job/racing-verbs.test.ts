// Verbs that come while a state changes: from a listener, from another monitor, or while a transaction is being prepared.
import { expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { JobTransaction } from "../../../src/job/core/job-core.ts";
import type { Job } from "../../../src/job/core/job.ts";
import { Engine } from "./fake-job.ts";

/** Calls `verb` within the change to that state. */
function at(engine: Engine, status: string, verb: () => void): void {
  engine.events.subscribe(({ event, data }) => {
    if (event === "JOB_STATUS_CHANGE" && data.status === status) verb();
  });
}

const ended = [
  "j:created",
  "j:running",
  "j:waiting",
  "j:pending",
  "BLOCK_JOB_COMPLETED",
  "j:concluded",
  "j:null",
];

test.each(["concluded", "pending"])(
  "a listener at '%s' does what the job would do itself",
  async (status) => {
    const engine = new Engine();
    const job = engine.job("j").end();
    const done: Promise<void>[] = [];
    at(engine, status, () => done.push(status === "pending" ? job.finalize() : job.dismiss()));
    job.start();
    await engine.clock.idle();
    await Promise.all(done);
    await job.done;
    expect(engine.log).toEqual(ended);
    expect(job.calls).toEqual(["prepare", "commit", "clean", "release"]);
  },
);

test.each(["waiting", "pending"])("a listener cancels a job at '%s'", async (status) => {
  const engine = new Engine();
  const transaction = new JobTransaction();
  const [first, second] = [engine.job("j", { transaction }), engine.job("k", { transaction })];
  at(engine, status, () => void first.cancel());
  for (const job of [second, first]) job.end().start();
  await engine.clock.idle();
  await expect(first.done).rejects.toThrow("Operation canceled");
  await expect(second.done).rejects.toThrow("Operation canceled");
  expect(engine.registry.jobs).toEqual([]);
});

test("a job that is cancelled while it is set up ends when it is started", async () => {
  const engine = new Engine();
  const job = engine.job("j").end();
  await job.cancel();
  expect(job.status).toBe("created");
  job.start();
  await engine.clock.idle();
  await expect(job.done).rejects.toThrow("Operation canceled");
  expect(engine.take().slice(0, 4)).toEqual(["j:created", "j:running", "j:aborting", "BLOCK_JOB_CANCELLED"]);
});

test("a member ends while the others' end waits for a job that is being started", async () => {
  const engine = new Engine();
  const transaction = new JobTransaction();
  const failing = engine.job("failing", { transaction });
  const other = engine.job("other", { transaction });
  for (const job of [failing, other]) job.start();
  let start = (): void => undefined;
  const starting = engine.registry.exclusively(() => new Promise<void>((resolve) => (start = resolve)));
  failing.step(() => {
    throw blockError("EIO", "pread");
  });
  await engine.clock.idle();
  other.end();
  await engine.clock.idle();
  expect([failing.status, other.status]).toEqual(["aborting", "waiting"]);
  start();
  await starting;
  await engine.clock.idle();
  const outcome = (job: Job): Promise<string> =>
    job.done.then(
      () => "well",
      (error: Error) => error.name,
    );
  expect([await outcome(failing), await outcome(other)]).toEqual(["BlockError", "JobCancelledError"]);
});

test("an engine that ends gives up a job that nobody starts", async () => {
  const engine = new Engine();
  const job = engine.job("j");
  await engine.registry.cancelAll();
  expect(job.status).toBe("null");
});
