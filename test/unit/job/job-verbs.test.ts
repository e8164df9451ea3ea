// Every state with every other state, and every verb in every state, against lists written out by hand.
import { describe, expect, test } from "vitest";
import { CommandError } from "../../../src/base/errors.ts";
import {
  type JobStatus,
  type JobVerb,
  acceptsVerb,
  canTransition,
  isCompleted,
  isReady,
  jobVerbs,
} from "../../../src/job/core/verbs.ts";
import { Engine, type FakeJob } from "./fake-job.ts";
import { typeTable } from "../../../src/wire/qapi/index.ts";

/** In the order of a job's life. */
const jobStatuses = typeTable.JobStatus.values;

const legal = new Set([
  "undefined created",
  "created running",
  "created aborting",
  "created null",
  "running paused",
  "running ready",
  "running waiting",
  "running aborting",
  "paused running",
  "ready standby",
  "ready waiting",
  "ready aborting",
  "standby ready",
  "waiting pending",
  "waiting aborting",
  "pending concluded",
  "pending aborting",
  "aborting aborting",
  "aborting concluded",
  "concluded null",
]);

test.each(jobStatuses.flatMap((from) => jobStatuses.map((to) => ({ from, to }))))(
  "from $from to $to",
  ({ from, to }) => {
    expect(canTransition({ from, to })).toBe(legal.has(`${from} ${to}`));
  },
);

// A column per status: undefined created running paused ready standby waiting pending aborting concluded null.
const accepted: Record<JobVerb, string> = {
  cancel: "01111111000",
  pause: "01111100000",
  resume: "01111100000",
  "set-speed": "01111100000",
  complete: "00001100000",
  finalize: "00000001000",
  dismiss: "00000000010",
  change: "01111100000",
};

test.each(jobVerbs.flatMap((verb) => jobStatuses.map((status, column) => ({ verb, status, column }))))(
  "$verb in $status",
  ({ verb, status, column }) => {
    expect(acceptsVerb(status, verb)).toBe(accepted[verb][column] === "1");
  },
);

test("completed and ready states", () => {
  expect(jobStatuses.filter(isCompleted)).toEqual(["waiting", "pending", "aborting", "concluded", "null"]);
  expect(jobStatuses.filter(isReady)).toEqual(["ready", "standby"]);
});

describe("a job in each state refuses what it must", () => {
  const states: Partial<Record<JobStatus, (engine: Engine) => Promise<FakeJob>>> = {
    created: (engine) => Promise.resolve(engine.job("j")),
    running: (engine) => Promise.resolve(started(engine)),
    paused: (engine) => {
      const job = started(engine, (self) => self.yielding());
      job.pause();
      return Promise.resolve(job);
    },
    ready: (engine) => {
      const job = started(engine, (self) => self.ready());
      return Promise.resolve(job);
    },
    standby: async (engine) => {
      const job = started(engine, async (self) => {
        self.ready();
        await self.yielding();
      });
      await engine.clock.idle();
      job.pause();
      return job;
    },
    pending: async (engine) => {
      const job = started(engine, () => undefined, { autoFinalize: false }).end();
      await engine.clock.idle();
      return job;
    },
    concluded: async (engine) => {
      const job = started(engine, () => undefined, { autoDismiss: false }).end();
      await engine.clock.idle();
      return job;
    },
  };

  function started(
    engine: Engine,
    step: (job: FakeJob) => Promise<void> | void = () => undefined,
    options = {},
  ): FakeJob {
    const job = engine.job("j", options).step(step);
    job.start();
    return job;
  }

  const cases = Object.entries(states).flatMap(([status, make]) =>
    jobVerbs.map((verb) => ({ status: status as JobStatus, make, verb })),
  );

  test.each(cases)("$verb in $status", async ({ status, make, verb }) => {
    const job = await make(new Engine());
    await Promise.resolve();
    expect(job.status).toBe(status);
    const column = jobStatuses.indexOf(status);
    const refused = `Job 'j' in state '${status}' cannot accept command verb '${verb}'`;
    if (accepted[verb][column] === "1") expect(() => job.applyVerb(verb)).not.toThrow();
    else expect(() => job.applyVerb(verb)).toThrow(new CommandError(refused, { code: "EBUSY" }));
  });
});
