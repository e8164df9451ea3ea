// rebase and commit, killed at random changes of their files, and with the power cut (files keep what was flushed and any
// sectors of the rest): the top of the chain shows what it showed before, for the real tools, and its images check clean
// (leaks are allowed). So an overlay is never emptied before the image below durably has its content, and a header never
// names another backing file before the image durably holds what that lacks.
//
// CRASH_VERB_KILLS: kills of each kind (default 14), CRASH_VERB_CUTS: power cuts of each kind (default 20). CRASH_SEED: the
// first seed. A failure names its seed.
import { execFile } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildProgram } from "../support/program.ts";
import { randomness } from "../support/random.ts";
import { checkFaults, must, tool } from "../support/tools.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { chainImages, type ChainStory, carryOut, chainVerbs } from "./support/chain-story.ts";
import type { Death } from "./support/killing-host.ts";
import { RecordedFiles } from "./support/recorded-files.ts";
import { clusterSizes, makeTemplates } from "./support/templates.ts";

const KILLS = Number(process.env["CRASH_VERB_KILLS"] ?? 14);
const CUTS = Number(process.env["CRASH_VERB_CUTS"] ?? 20);
const SEED = Number(process.env["CRASH_SEED"] ?? 1);

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
async function run(story: ChainStory & { death?: Death }): Promise<number | undefined> {
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
  for (const name of chainImages) {
    const fault = await checkFaults(path(name), "allowed");
    if (fault !== undefined) found.push(fault);
  }
  const flat = join(templates(clusterSize), "top.flat");
  const { code, output } = await tool("qemu-img", "compare", "-F", "raw", path("top.qcow2"), flat);
  if (code !== 0) found.push(output);
  return found;
}

test.each(chainVerbs)("%s, killed", async (verb) => {
  const most = new Map<number, number>();
  let killed = 0;
  for (let seed = SEED; seed < SEED + KILLS; seed++) {
    const random = randomness(seed * 7919);
    const clusterSize = clusterSizes[seed % clusterSizes.length]!;
    const directory = join(home, `${verb}-${seed}`);
    await mkdir(directory);
    for (const name of chainImages) await copyFile(join(templates(clusterSize), name), join(directory, name));
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

const powerCuts = chainVerbs.flatMap((verb) => [false, true].map((inTurn) => ({ verb, inTurn })));

test.each(powerCuts)("$verb, with the power cut, written at once: $inTurn", async ({ verb, inTurn }) => {
  const [clusterSize] = clusterSizes;
  const random = randomness(SEED * 31 + verb.length + (inTurn ? 1000 : 0));
  const directory = join(home, `${verb}-power`);
  const start = new Map<string, Uint8Array>();
  for (const name of chainImages)
    start.set(join(directory, name), await readFile(join(templates(clusterSize), name)));
  const files = new RecordedFiles(start, random, { inTurn });
  await carryOut({ directory, verb }, { ...nodeHost(), files });
  expect(files.atOnce > 0).toBe(inTurn);
  const last = files.now + 1;
  for (let cut = 0; cut < CUTS; cut++) {
    const at = cut === 0 ? last : random(last);
    const keep = [0, 50, 90, 100, 20][random(5)]!;
    await mkdir(directory, { recursive: true });
    for (const [path, bytes] of files.crash(at, keep)) await writeFile(path, bytes);
    const found = await faults(directory, clusterSize);
    expect(found, `CRASH_SEED=${SEED}: cut at ${at} of ${last}, keeping ${keep} %`).toEqual([]);
    await rm(directory, { recursive: true });
  }
});
