/**
 * `npm run sim -- --minutes N [--seed N]`: for so long, side by side, stories of jobs, power cuts under the qcow2 driver and mutated images,
 * from the seed on (default 1). Each kind has processes of its own, as many as there are processors for. Whatever is wrong is told with the
 * command that replays it; every minute, and at the end, how much has been looked at.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { playCuts, wantsQemuImg } from "../crash/support/qcow2-cuts.ts";
import { playMutant } from "../fuzz/support/mutants.ts";
import { makeTemplates } from "../fuzz/support/templates.ts";
import { type Tally, tally, talliedIn, toldTally } from "../support/tally.ts";
import { tool } from "../support/tools.ts";
import { report } from "./report.ts";
import { runStory } from "./run-story.ts";

/** Disks that are made of one story of power cuts. */
const CUTS = 60;

/** Plays a seed: what has been looked at. Throws what is wrong. */
type Play = (seed: number) => Promise<Tally>;

async function storyPlay(): Promise<Play> {
  return async (seed) => {
    const result = await runStory(seed);
    if (result.violations.length > 0) throw new Error(report(result));
    return { stories: 1, requests: result.fileRequests, faults: result.faults };
  };
}

async function cutsPlay(): Promise<Play> {
  const hasQemuImg = (await tool("qemu-img", "--version")).code === 0;
  return async (seed) => {
    if (wantsQemuImg(seed) && !hasQemuImg) return {};
    await playCuts({ seed, quick: seed % 4 === 3, cuts: CUTS });
    return { crashStates: CUTS };
  };
}

async function mutantPlay(): Promise<Play> {
  const templates = await makeTemplates();
  return async (seed) => {
    await playMutant(templates, seed);
    return { mutants: 1 };
  };
}

/** What is played, and how one seed of it is replayed. */
const kinds: Readonly<Record<string, { start: () => Promise<Play>; replay: (seed: number) => string }>> = {
  stories: {
    start: storyPlay,
    replay: (seed) => `BLOCKWRIGHT_SIM_SEED=${seed} npx vitest run --project sim`,
  },
  cuts: {
    start: cutsPlay,
    replay: (seed) =>
      `POWERCUT_SEED=${seed} npx vitest run --project crash test/crash/qcow2-powercut.test.ts`,
  },
  mutants: {
    start: mutantPlay,
    replay: (seed) => `FUZZ_SEED=${seed} npx vitest run --project fuzz test/fuzz/qcow2.test.ts`,
  },
};

const number = (value: string): { type: "string"; default: string } => ({ type: "string", default: value });

/** A process of one kind (`--kind`): plays every `--step`th seed, at least one; resolves with how many were wrong. */
export async function runLane(args: string[]): Promise<number> {
  const options = {
    kind: { type: "string" },
    seed: number("1"),
    step: number("1"),
    minutes: number("1"),
  } as const;
  const { values } = parseArgs({ args, options });
  const { start, replay } = kinds[values.kind!]!;
  const end = performance.now() + Number(values.minutes) * 60_000;
  const play = await start();
  const step = Number(values.step);
  let wrong = 0;
  for (let seed = Number(values.seed), isFirst = true; isFirst || performance.now() < end; seed += step) {
    isFirst = false;
    const told = await playSeed(seed, { play, replay });
    if (told !== undefined) process.stdout.write(told);
    wrong += told === undefined ? 0 : 1;
  }
  return wrong;
}

/** Plays a seed and counts what it looked at; what was wrong, if anything, with how it is replayed. */
export async function playSeed(
  seed: number,
  { play, replay }: { play: Play; replay: (seed: number) => string },
): Promise<string | undefined> {
  try {
    tally(await play(seed));
    return undefined;
  } catch (error) {
    return `${replay(seed)}\n${error instanceof Error ? error.stack : String(error)}\n`;
  }
}

/** Runs all kinds; resolves with the exit status: 1 where anything was wrong. */
export async function campaign(args: string[]): Promise<number> {
  const { values } = parseArgs({ args, options: { seed: number("1"), minutes: number("1") } });
  const [seed, minutes] = [Number(values.seed), Number(values.minutes)];
  if (!Number.isSafeInteger(seed) || seed < 0 || !(minutes > 0))
    throw new Error("--minutes is above 0, --seed a whole number");
  const folder = mkdtempSync(join(tmpdir(), "blockwright-campaign-"));
  const file = join(folder, "tally.jsonl");
  const processes = Math.max(1, Math.round(availableParallelism() / Object.keys(kinds).length));
  const env = { ...process.env, BLOCKWRIGHT_TEST_TALLY: file };
  const lanes = Object.keys(kinds).flatMap((kind) =>
    Array.from({ length: processes }, (_, lane): ChildProcess => {
      const words = ["--kind", kind, "--seed", seed + lane, "--step", processes, "--minutes", minutes].map(
        String,
      );
      return spawn(process.execPath, [process.argv[1]!, ...words], {
        env,
        stdio: ["ignore", "inherit", "inherit"],
      });
    }),
  );
  const progress = setInterval(() => process.stderr.write(`${toldTally(talliedIn(file))}\n`), 60_000);
  const codes = await Promise.all(lanes.map(async (lane) => (await once(lane, "close"))[0] as number | null));
  clearInterval(progress);
  const isWell = codes.every((code) => code === 0);
  process.stdout.write(
    `${minutes} minutes from seed ${seed}: ${toldTally(talliedIn(file))}; ${isWell ? "nothing" : "something"} was wrong\n`,
  );
  rmSync(folder, { recursive: true, force: true });
  return isWell ? 0 : 1;
}
