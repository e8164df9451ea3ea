// SIGKILL at 200 and more moments before, during and right after each kind of job, in the storage daemon and under a
// guest that writes: every image checks clean (leaks are allowed), and the guest finds what it had flushed.
//
// CRASH_KILLS: kills per kind and place (default 100, so 200 of each kind). CRASH_SEED: the first seed. CRASH_PROGRAM:
// another storage daemon (the real one loses a completed stream here). CRASH_KEEP: keeps the images of failures. A
// failure prints how to run it again; the moment is drawn from the seed, but the machine's own timing plays along.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ours } from "../support/daemon.ts";
import { buildProgram } from "../support/program.ts";
import { inShard } from "../support/shard.ts";
import { randomness } from "../support/random.ts";
import { must } from "../support/tools.ts";
import { readFile } from "node:fs/promises";
import { type JobKind, kinds } from "./support/kinds.ts";
import {
  type Moment,
  type Outcome,
  type StoryInit,
  daemonStory,
  guestStory,
  judge,
  stage,
} from "./support/stories.ts";
import { clusterSizes, makeTemplates } from "./support/templates.ts";

const KILLS = Number(process.env["CRASH_KILLS"] ?? 100);
const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const PROGRAM = process.env["CRASH_PROGRAM"]?.split(" ") ?? ours;
const KEEP = process.env["CRASH_KEEP"] !== undefined;
/** Stories at once. */
const WORKERS = 2;

let home: string;
let guest: string;
/** Content of a kind's disk, by templates and image. */
const contents = new Map<string, Buffer>();

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-crash-"));
  guest = await buildProgram("test/crash/guest.ts");
  for (const clusterSize of clusterSizes) {
    const directory = join(home, `templates-${clusterSize}`);
    await makeTemplates(directory, { clusterSize, random: randomness(clusterSize) });
    for (const name of ["base.qcow2", "top.qcow2"]) {
      const flat = join(directory, `${name}.flat`);
      await must("qemu-img", "convert", "-O", "raw", join(directory, name), flat);
      contents.set(join(directory, name), await readFile(flat));
    }
    contents.set(join(directory, "disk.raw"), await readFile(join(directory, "disk.raw")));
  }
});

afterAll(async () => {
  if (!KEEP) await rm(home, { recursive: true, force: true });
});

function prepare(kind: JobKind, seed: number, place: string): StoryInit {
  const templates = join(home, `templates-${clusterSizes[seed % clusterSizes.length]}`);
  const initial = contents.get(join(templates, kind.before.file))!;
  return { kind, templates, initial, directory: join(home, `${kind.name}-${place}-${seed}`) };
}

/** Plays stories, a few at once, until all are played; throws all faults with the command that plays them again. */
async function playAll(
  kind: JobKind,
  place: string,
  play: (init: StoryInit, seed: number) => Promise<Outcome>,
): Promise<{ completed: number; cut: number }> {
  const faults: string[] = [];
  const tally = { completed: 0, cut: 0 };
  let next = SEED;
  const worker = async (): Promise<void> => {
    while (next < SEED + KILLS) {
      const seed = next++;
      const init = prepare(kind, seed, place);
      await stage(init);
      let found: string[];
      try {
        const outcome = await play(init, seed);
        tally[outcome.completed ? "completed" : "cut"] += 1;
        found = await judge(init, outcome);
        if (found.length > 0) found.unshift(describeOutcome(outcome));
      } catch (error) {
        found = [(error as Error).stack ?? String(error)];
      }
      if (found.length > 0)
        faults.push(`seed ${seed}: ${found.join("\n  ")}\n  again: ${replay(kind, place, seed)}`);
      if (found.length === 0 || !KEEP) await rm(init.directory, { recursive: true, force: true });
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, worker));
  if (faults.length > 0)
    throw new Error(`${faults.length} of ${KILLS} kills went wrong\n${faults.join("\n")}`);
  return tally;
}

function describeOutcome({ ready, mayHaveCompleted, completed }: Outcome): string {
  if (completed) return "killed after BLOCK_JOB_COMPLETED";
  if (ready) return mayHaveCompleted ? "killed while completing" : "killed when ready";
  return "killed before the end";
}

function replay(kind: JobKind, place: string, seed: number): string {
  const variables = `CRASH_SEED=${seed} CRASH_KILLS=1`;
  return `${variables} npx vitest run --project crash test/crash/sigkill.test.ts -t '^${kind.name} ${place}$'`;
}

describe.each(inShard(kinds).map((kind) => [kind.name, kind] as const))("%s", (_name, kind) => {
  test("daemon", async () => {
    let longest = 40;
    const tally = await playAll(kind, "daemon", async (init, seed) => {
      const random = randomness(seed * 7919);
      // The last of a run ends by itself, half of the others at a message, the rest at any moment.
      const places: Moment["on"][] = kind.completes
        ? ["start", "start", "ready", "completing", "completed"]
        : ["start", "start", "completed"];
      const on = places[seed % places.length]!;
      const delayMs = on === "start" ? random(Math.ceil(longest * 1.2)) : random(2) * random(4);
      const outcome = await daemonStory(init, { program: PROGRAM, moment: { on, delayMs } });
      longest = Math.max(longest, outcome.tookMs ?? 0);
      return outcome;
    });
    if (KILLS >= 10) expect(tally.completed, "some kills come after the end").toBeGreaterThan(0);
  });

  test("guest", async () => {
    // Changes of files that one run makes; learnt from the runs that reach the end.
    let changes = 0;
    const tally = await playAll(kind, "guest", async (init, seed) => {
      const random = randomness(seed * 104729);
      const command = structuredClone(kind.command);
      if (command.execute === "blockdev-mirror" && seed % 2)
        command.arguments["copy-mode"] = "write-blocking";
      const free = changes === 0 || random(6) === 0;
      const story = {
        seed,
        nodes: kind.nodes(init.directory),
        command,
        completes: kind.completes,
        lanes: 1 + random(3),
        afterMs: random(30),
      };
      const death = { at: 1 + random(Math.ceil(changes * 1.1)), issued: random(2) === 0 };
      const outcome = await guestStory(init, {
        program: guest,
        story: free ? story : { ...story, death },
        ...(random(4) === 0 && !free ? { killAfterMs: random(150) } : {}),
      });
      changes = Math.max(changes, outcome.changes ?? 0);
      return outcome;
    });
    if (KILLS >= 10) expect(tally.completed, "some kills come after the end").toBeGreaterThan(0);
  });
});
