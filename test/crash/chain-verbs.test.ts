// rebase and commit, killed at random changes of their files: the top of the chain shows what it showed before, for the real
// tools, and its images check clean (leaks are allowed). So an overlay is never emptied before the image below has its
// content, and a header never names another backing file before the image holds what that lacks.
//
// CRASH_VERB_KILLS: kills of each kind (default 14). CRASH_SEED: the first seed. A failure names its seed.
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildProgram } from "../support/program.ts";
import { randomness } from "../support/random.ts";
import { checkFaults, must, tool } from "../support/tools.ts";
import type { ChainStory } from "./chain-verb.ts";
import { clusterSizes, makeTemplates } from "./support/templates.ts";

const KILLS = Number(process.env["CRASH_VERB_KILLS"] ?? 14);
const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const IMAGES = ["base.qcow2", "mid.qcow2", "top.qcow2", "target.qcow2"];

let home: string;
let program: string;

function templates(clusterSize: number): string {
  return join(home, `templates-${clusterSize}`);
}

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-chain-verbs-"));
  program = await buildProgram("test/crash/chain-verb.ts");
  for (const clusterSize of clusterSizes) {
    const directory = templates(clusterSize);
    await makeTemplates(directory, { clusterSize, random: randomness(clusterSize) });
    const path = (name: string): string => join(directory, name);
    await must("qemu-img", "convert", "-O", "raw", path("top.qcow2"), path("top.flat"));
    // Another backing file: half of it like the chain's, shorter, and with content of its own.
    await must("qemu-img", "convert", "-O", "qcow2", path("mid.qcow2"), path("target.qcow2"));
    const own = ["write -q -P 77 1M 1M", "write -q -z 3M 500k", "write -q -P 78 4M 100k"];
    await must("qemu-io", ...own.flatMap((command) => ["-c", command]), path("target.qcow2"));
    await must("qemu-img", "resize", "-q", "--shrink", path("target.qcow2"), "5M");
  }
});

afterAll(() => rm(home, { recursive: true, force: true }));

/** Runs a story to its end or its death; the number of changes where it ended by itself. */
async function run(story: ChainStory): Promise<number | undefined> {
  const file = join(story.directory, "story.json");
  await writeFile(file, JSON.stringify(story));
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [program, file], (error, stdout, stderr) => {
      if (!error) resolve(Number(stdout));
      else if (error.signal === "SIGKILL") resolve(undefined);
      else reject(new Error(`${error.message}\n${stderr}`));
    });
  });
}

/** What is wrong with the chain that a process left. */
async function faults(directory: string, clusterSize: number): Promise<string[]> {
  const found: string[] = [];
  const path = (name: string): string => join(directory, name);
  for (const name of IMAGES) {
    const fault = await checkFaults(path(name), "allowed");
    if (fault !== undefined) found.push(fault);
  }
  const flat = join(templates(clusterSize), "top.flat");
  const { code, output } = await tool("qemu-img", "compare", "-F", "raw", path("top.qcow2"), flat);
  if (code !== 0) found.push(output);
  return found;
}

test.each(["commit", "commit-base", "rebase", "flatten"] as const)("%s", async (verb) => {
  const most = new Map<number, number>();
  let killed = 0;
  for (let seed = SEED; seed < SEED + KILLS; seed++) {
    const random = randomness(seed * 7919);
    const clusterSize = clusterSizes[seed % clusterSizes.length]!;
    const directory = join(home, `${verb}-${seed}`);
    await mkdir(directory);
    for (const name of IMAGES) await copyFile(join(templates(clusterSize), name), join(directory, name));
    const known = most.get(clusterSize);
    const before = await readFile(join(directory, "top.qcow2"));
    // The first of each size tells how many changes there are.
    const death = known === undefined ? {} : { death: { at: 1 + random(known), issued: random(2) === 0 } };
    const changes = await run({ directory, verb, ...death });
    if (changes === undefined) killed += 1;
    else most.set(clusterSize, Math.max(known ?? 0, changes));
    const found = await faults(directory, clusterSize);
    expect(found.map((fault) => `seed ${seed} ${JSON.stringify(death)}: ${fault}`)).toEqual([]);
    if (known === undefined) await expectDone(verb, directory, before);
    await rm(directory, { recursive: true });
  }
  // All but the first of each size.
  expect(killed).toBeGreaterThan((KILLS - clusterSizes.length) / 2);
});

/** What a run that nobody killed has made of the top. */
async function expectDone(verb: ChainStory["verb"], directory: string, before: Buffer): Promise<void> {
  const top = join(directory, "top.qcow2");
  const info = JSON.parse(await must("qemu-img", "info", "--output=json", top)) as Record<string, unknown>;
  const map = JSON.parse(await must("qemu-img", "map", "--output=json", top)) as {
    depth: number;
    present: boolean;
  }[];
  const holds = map.some(({ depth, present }) => depth === 0 && present);
  expect(holds).toBe(verb !== "commit");
  const backing = {
    commit: "mid.qcow2",
    "commit-base": "mid.qcow2",
    rebase: "target.qcow2",
    flatten: undefined,
  };
  expect(info["backing-filename"]).toBe(backing[verb]);
  if (verb === "commit-base") expect((await readFile(top)).equals(before)).toBe(true);
}
