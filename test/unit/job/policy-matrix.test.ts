// The error policy matrix over memory nodes, in Node and in browsers: each job, each side, each policy, each kind of error.
// The fault happens once. What the real program answers in the same cases is in test/conformance/scenarios/policy.mjs.
import { describe, expect, test } from "vitest";
import type { BlockJob } from "../../../src/job/core/block-job.ts";
import { type BlockErrorAction, type OnError, ioStatusFor } from "../../../src/job/core/error-policy.ts";
import { setup } from "./backup-support.ts";
import { Chain } from "./chain.ts";
import { bench } from "./mirror-support.ts";
import { valuesOf } from "../../../src/wire/qapi/index.ts";

type Code = "EIO" | "ENOSPC";
type Side = "source" | "target";
type Policy = Partial<Record<"on-error" | "on-source-error" | "on-target-error", OnError>>;

/** A job that meets the fault, and how its world is looked at. */
interface Bed {
  start: (policy: Policy) => Promise<BlockJob>;
  /** Lets everything happen that needs no user. */
  idle: () => Promise<void>;
  /** The job's end: undefined, or its error. Completes a mirror. */
  end: (job: BlockJob) => Promise<unknown>;
  /** The actions of the BLOCK_JOB_ERROR events, as `operation action`. */
  errors: () => string[];
  /** Whether the target holds all that it shall. */
  complete: () => Promise<boolean>;
}

const numbers: Readonly<Record<Code, number>> = { EIO: 5, ENOSPC: 28 };
/** A memory node that fails the first request over 256 KiB. */
const faultOn = (side: Side, code: Code): Record<string, unknown>[] => [
  {
    event: "none",
    iotype: side === "source" ? "read" : "write",
    errno: numbers[code],
    sector: 512,
    once: true,
  },
];

async function mirrorBed(side: Side, code: Code): Promise<Bed> {
  const made = await bench({ [side]: faultOn(side, code) });
  return {
    start: (policy) => made.start(policy),
    idle: () => made.test.host.clock.idle(),
    end: async (job) => {
      await made.ready(job as Awaited<ReturnType<typeof made.start>>);
      if (!job.isCompleted) await job.complete();
      return made.settle(
        job.done.then(
          () => undefined,
          (error: unknown) => error,
        ),
      );
    },
    errors: () => made.events.filter((event) => event.startsWith("error ")).map((event) => event.slice(6)),
    complete: async () => (await made.test.difference("src", "dst")) === -1,
  };
}

async function backupBed(side: Side, code: Code): Promise<Bed> {
  const made = await setup({ faults: { [side]: faultOn(side, code) } });
  return {
    start: (policy) => made.start(policy),
    idle: () => made.test.host.clock.idle(),
    end: (job) =>
      made.settle(
        job.done.then(
          () => undefined,
          (error: unknown) => error,
        ),
      ),
    errors: () => made.events.filter((event) => event.startsWith("error ")).map((event) => event.slice(6)),
    complete: async () => (await made.test.difference("src", "dst")) === -1,
  };
}

/** Stream reads from base into top, commit from mid into base. */
async function chainBed(kind: "stream" | "commit", side: Side, code: Code): Promise<Bed> {
  const chain = await new Chain().open();
  const errors: string[] = [];
  chain.test.graph.events.subscribe(({ event, data }) => {
    if (event === "BLOCK_JOB_ERROR") errors.push(`${String(data["operation"])} ${String(data["action"])}`);
  });
  const image = {
    stream: { source: chain.base, target: chain.top },
    commit: { source: chain.mid, target: chain.base },
  };
  image[kind][side].faults.push({ op: side === "source" ? "read" : "write", code, once: true });
  return {
    start: (policy) => chain[kind](policy),
    idle: () => chain.idle(),
    end: async (job) => {
      const ended = await chain.run(job);
      return ended instanceof Error ? ended : undefined;
    },
    errors: () => errors,
    complete: async () => (await chain.firstDifference()) === -1,
  };
}

const beds = {
  mirror: mirrorBed,
  backup: backupBed,
  stream: (side: Side, code: Code) => chainBed("stream", side, code),
  commit: (side: Side, code: Code) => chainBed("commit", side, code),
};
type Kind = keyof typeof beds;

/** Written out, so that it does not come from the code that it judges. */
const actions: Readonly<Record<OnError, Record<Code, BlockErrorAction>>> = {
  report: { EIO: "report", ENOSPC: "report" },
  ignore: { EIO: "ignore", ENOSPC: "ignore" },
  stop: { EIO: "stop", ENOSPC: "stop" },
  enospc: { EIO: "report", ENOSPC: "stop" },
  auto: { EIO: "report", ENOSPC: "stop" },
};

interface Case {
  kind: Kind;
  side: Side;
  policy: OnError;
  code: Code;
}

const cases: Case[] = [];
for (const kind of ["mirror", "backup", "stream", "commit"] as const)
  for (const side of ["source", "target"] as const)
    for (const policy of valuesOf("BlockdevOnError"))
      for (const code of ["EIO", "ENOSPC"] as const) cases.push({ kind, side, policy, code });

function argumentsOf({ kind, side, policy }: Case): Policy {
  return kind === "stream" || kind === "commit" ? { "on-error": policy } : { [`on-${side}-error`]: policy };
}

test("the matrix is whole", () => {
  expect(cases).toHaveLength(80);
});

describe.each(["mirror", "backup", "stream", "commit"] as const)("%s", (kind) => {
  test.each(cases.filter((one) => one.kind === kind))("$side, $policy, $code", async (one) => {
    const { side, policy, code } = one;
    const bed = await beds[kind](side, code);
    const action = actions[policy][code];
    // A stream writes by reading with copy on read, so it reports a failed write as a read, as QEMU does.
    const operation = side === "source" || kind === "stream" ? "read" : "write";
    const job = await bed.start(argumentsOf(one));
    await bed.idle();
    if (action === "stop") {
      expect([job.status, job.ioStatus, job.userPaused]).toEqual(["paused", ioStatusFor(code), true]);
      job.resume();
      expect(job.ioStatus).toBe("ok");
    }
    const error = await bed.end(job);
    await bed.idle();
    expect(bed.errors()).toEqual([`${operation} ${action}`]);
    expect(job.status).toBe("null");
    const fails = action === "report" || (action === "ignore" && kind === "stream");
    expect(error === undefined).toBe(!fails);
    if (fails) expect(error).toMatchObject({ code });
    else expect(await bed.complete()).toBe(true);
  });
});
