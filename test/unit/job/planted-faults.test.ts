// Faults that are planted in jobs: each trips an assert, which names what does not hold.
import { expect } from "vitest";
import { ActiveWrites } from "../../../src/job/mirror/top.ts";
import { BackupAction } from "../../../src/job/backup/action.ts";
import type { BackupJob } from "../../../src/job/backup/job.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { JobProgress, RateLimit } from "../../../src/job/core/pace.ts";
import { JobTransaction } from "../../../src/job/core/job-core.ts";
import { MiB, TestGraph } from "../support/graph.ts";
import { type SyncBitmap, settleSyncBitmap } from "../../../src/job/mirror/by-bitmap.ts";
import { Engine, type FakeJob } from "./fake-job.ts";
import { bench } from "./mirror-support.ts";
import { type PlantedFaults, testPlantedFaults } from "../support/planted-faults.ts";

/** The job of a new engine, which runs `step` and waits. */
function running(step: (job: FakeJob) => Promise<void> | void = (job) => job.yielding()): FakeJob {
  const job = new Engine().job("j").step(step);
  job.start();
  return job;
}

async function syncBitmap(): Promise<SyncBitmap> {
  const { graph } = new TestGraph();
  const node = await graph.add({ driver: "memory", "node-name": "n", size: MiB });
  return { bitmap: createDirtyBitmap(node, { name: "b" }), mode: "always" };
}

class Action extends BackupAction {
  protected override create(): Promise<BackupJob> {
    return Promise.resolve({} as BackupJob);
  }
}

const faults: PlantedFaults = {
  "a pause that nobody asked for ends": ["resume without pause", () => running().drainResume()],
  "a job starts twice": ["started twice", () => running().start()],
  "a job leaves out a state": ["goes from 'running' to 'concluded'", () => running().transition("concluded")],
  "a job pauses at two places": [
    "a job waits in one place",
    () =>
      new Promise((_resolve, reject) => {
        running(async (job) => {
          job.drainPause();
          void job.pausing();
          await job.pausing().catch(reject);
        });
      }),
  ],
  "a job that does not run waits": ["a job that is not busy waits", () => new Engine().job("j").sleeping(1)],
  "a job that was never set up fails early, running": [
    "earlyFail after the start",
    () => running().earlyFail("x"),
  ],
  "a running job is prepared for its end": [
    "only pending jobs are prepared",
    () => running().prepareResult(),
  ],
  "a running job ends": ["a job ends when its code is over", () => running().finalizeSingle()],
  "a job is listed twice": [
    "a job was made twice",
    () => {
      const engine = new Engine();
      engine.registry.add(engine.job("j"));
    },
  ],
  "a job goes twice": [
    "a job goes once",
    () => {
      const engine = new Engine();
      const job = engine.job("j");
      engine.registry.remove(job);
      engine.registry.remove(job);
    },
  ],
  "a job completes in another's transaction": [
    "who completes is a member",
    () => new JobTransaction().completed(new Engine().job("j")),
  ],
  "a job joins its transaction again": [
    "in its transaction twice",
    () => {
      const job = new Engine().job("j");
      job.transaction.add(job);
    },
  ],
  "work is undone": ["a job has undone work", () => new JobProgress().done(-1)],
  "less than nothing is left": ["less than nothing is left", () => new JobProgress().setRemaining(-1)],
  "a limit is paid back": [
    "less than nothing is charged",
    () => new RateLimit(new Engine().clock).delayMs(-1),
  ],
  "a bitmap is settled that nobody used": [
    "a bitmap is settled once",
    async () => {
      const sync = await syncBitmap();
      settleSyncBitmap(sync, { succeeded: true, different: sync.bitmap.bitmap, unsafe: undefined });
    },
  ],
  "a backup is asked for before it is prepared": [
    "not prepared",
    () => new Action(new TestGraph().graph).job,
  ],
  "a backup is prepared twice": [
    "prepared once",
    async () => {
      const action = new Action(new TestGraph().graph);
      await action.prepare();
      await action.prepare();
    },
  ],
  "a job takes a node when it runs": [
    "nodes are taken before the start",
    async () => {
      const { start, test: made } = await bench();
      const job = await start();
      await job.addNode(made.graph.node("dst"), "late", { perm: 0, shared: 0 });
    },
  ],
  "a job lets go of what it has not": [
    "the job does not hold this edge",
    async () => {
      const { start, test: made } = await bench();
      const job = await start();
      await job.removeNode(await made.edge("dst", 0));
    },
  ],
  "an active write ends that did not begin": [
    "more active bytes ended than began",
    async () => {
      const { start } = await bench();
      const { active } = await start();
      expect(active).toBeInstanceOf(ActiveWrites);
      active.bytes = -4096;
      await active.writeToTarget({ kind: "zeroes", offset: 0, bytes: 2048, flags: 0 });
    },
  ],
};

testPlantedFaults(faults);
