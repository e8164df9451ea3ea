// A broken invariant below a copy is no I/O error: no policy is asked, nothing is tried again, and the job ends with it.
import { describe, expect, test } from "vitest";
import { AssertionError } from "../../../src/base/assert.ts";
import { errnoOf } from "../../../src/base/errors.ts";
import { CopyError } from "../../../src/block/copy/range-copy.ts";
import { startBackup } from "../../../src/job/backup/backup.ts";
import type { Job } from "../../../src/job/core/job.ts";
import { MiB } from "../support/graph.ts";
import { addProbe } from "../support/probe.ts";
import { Chain } from "./chain.ts";
import { type Bench, bench, expectGone } from "./mirror-support.ts";

test("has no errno, and can't be wrapped into an error of a side", () => {
  const broken = new AssertionError("the books don't balance");
  expect(() => errnoOf(broken)).toThrow(broken);
  expect(() => new CopyError("write", broken)).toThrow(broken);
});

/** A source and a probe `p` whose writes, or reads, meet a broken invariant; how often is counted. */
async function world(op: "pread" | "pwrite"): Promise<Bench & { met: () => number }> {
  const made = await bench();
  const { driver } = await addProbe(made.test.graph, { "node-name": "p", size: 4 * MiB });
  let met = 0;
  driver.before = (call) => {
    if (call.op !== op) return;
    met += 1;
    throw new AssertionError("the books don't balance");
  };
  return { ...made, met: () => met };
}

async function expectBroken(made: Bench, job: Job, met: () => number): Promise<void> {
  await expect(made.settle(job.done)).rejects.toBeInstanceOf(AssertionError);
  expect(made.events.filter((event) => event.startsWith("error"))).toEqual([]);
  expect(met()).toBeLessThanOrEqual(8);
  expectGone(made);
}

describe.each(["pread", "pwrite"] as const)("%s under ignore", (op) => {
  const side = op === "pread" ? { device: "p", target: "dst" } : { device: "src", target: "p" };
  const ignore = { "on-source-error": "ignore", "on-target-error": "ignore" } as const;

  test("mirror", async () => {
    const made = await world(op);
    await expectBroken(made, await made.start({ ...side, ...ignore }), made.met);
  });

  test("backup", async () => {
    const made = await world(op);
    const job = await startBackup(made.test.graph, { "job-id": "j", sync: "full", ...side, ...ignore });
    await expectBroken(made, job, made.met);
  });
});

test.each(["stream", "commit"] as const)("%s under ignore", async (kind) => {
  const chain = await new Chain().open();
  let met = 0;
  chain.node("base").driver.pread = () => {
    met += 1;
    throw new AssertionError("the books don't balance");
  };
  chain.node("mid").driver.pread = chain.node("base").driver.pread;
  const job = await chain[kind]({ "on-error": "ignore" });
  expect(await chain.run(job)).toBeInstanceOf(AssertionError);
  expect(chain.log).not.toContain("BLOCK_JOB_ERROR");
  expect(met).toBeLessThanOrEqual(16);
  expect(chain.test.graph.arena.inUse).toBe(0);
});
