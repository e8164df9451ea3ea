// Power cuts under jobs: the files keep what was flushed and any 512-byte sectors of the rest. At whatever instant, every
// image of the chain checks clean in qemu-img (leaks are allowed), and the disk holds what it held at the start; what a
// job has reported complete is where the header says.
//
// CRASH_SEED: the first seed, CRASH_CUTS: cuts per kind (default 30). CRASH_KEEP: a directory to copy
// the images of a failure to.
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { whenReady } from "../../src/api/jobs.ts";
import type { NodeSpec } from "../../src/block/model/contract.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { Engine } from "../../src/machine/engine.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { must } from "../support/tools.ts";
import { tally } from "../support/tally.ts";
import { DiskModel } from "./support/disk-model.ts";
import { type JobKind, kinds } from "./support/kinds.ts";
import { RecordedFiles } from "./support/recorded-files.ts";
import { startJob } from "./support/start-job.ts";
import { type Outcome, judge } from "./support/stories.ts";
import { makeTemplates } from "./support/templates.ts";

const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const CUTS = Number(process.env["CRASH_CUTS"] ?? 30);

let home: string;
let templates: string;

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-powercut-"));
  templates = join(home, "templates");
  await makeTemplates(templates, { clusterSize: 4096, random: randomness(SEED) });
});

afterAll(() => rm(home, { recursive: true, force: true }));

/** A whole run of a job, recorded; the instants of its milestones. */
interface Run {
  files: RecordedFiles;
  ready: number;
  complete: number;
  completed: number;
}

async function play(kind: JobKind, directory: string, random: (limit: number) => number): Promise<Run> {
  const start = new Map<string, Uint8Array>();
  for (const image of kind.images) start.set(join(directory, image), await readFile(join(templates, image)));
  const files = new RecordedFiles(start, random);
  const host = { ...nodeHost(), files };
  await using engine = new Engine({
    host,
    kernels: loadKernels({ arenaBytes: 2 ** 23 }),
    drivers: [...portableDrivers, file],
  });
  for (const node of kind.nodes(directory)) await engine.graph.add(node as unknown as NodeSpec);
  const run: Run = { files, ready: Infinity, complete: Infinity, completed: Infinity };
  if (!kind.completes) run.complete = 0;
  engine.graph.events.subscribe(({ event }) => {
    if (event === "BLOCK_JOB_READY") run.ready = files.now;
    if (event === "BLOCK_JOB_COMPLETED") run.completed = files.now;
  });
  const job = await startJob(engine, kind.command);
  if (kind.completes) {
    await whenReady(job);
    run.complete = files.now;
    await job.complete();
  }
  await job.done;
  return run;
}

test.each(kinds.map((kind) => [kind.name, kind] as const))("%s", async (_name, kind) => {
  const directory = join(home, kind.name);
  const random = randomness(SEED * 31 + kind.name.length);
  const run = await play(kind, directory, random);
  expect(run.completed).toBeLessThan(Infinity);
  const initial = await flatten(kind);
  const last = run.files.now + 1;
  const milestones = [run.ready, run.completed].filter(Number.isFinite);
  tally({ crashStates: CUTS });
  for (let cut = 0; cut < CUTS; cut++) {
    // A third of the cuts falls around what was just reported.
    const near = milestones[random(milestones.length)]!;
    const at = random(3) === 0 ? Math.max(0, near - 3 + random(8)) : random(last);
    const keep = [0, 50, 90, 100, 20][random(5)]!;
    await mkdir(directory, { recursive: true });
    for (const [path, bytes] of run.files.crash(at, keep)) await writeFile(path, bytes);
    const outcome: Outcome = {
      ready: run.ready < at,
      mayHaveCompleted: run.complete <= at,
      completed: run.completed < at,
      model: new DiskModel(initial),
    };
    const faults = await judge({ kind, directory, templates, initial }, outcome);
    const kept = process.env["CRASH_KEEP"];
    if (faults.length > 0 && kept !== undefined) await cp(home, kept, { recursive: true });
    expect(
      faults,
      `CRASH_SEED=${SEED}: cut at ${at} of ${last}, keeping ${keep} %, ${JSON.stringify(outcome.completed)}`,
    ).toEqual([]);
    await rm(directory, { recursive: true });
  }
});

async function flatten({ before }: JobKind): Promise<Buffer> {
  const flat = join(home, `${before.file}.flat`);
  await must("qemu-img", "convert", "-f", before.format, "-O", "raw", join(templates, before.file), flat);
  return readFile(flat);
}
