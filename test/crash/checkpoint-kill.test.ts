// SIGKILL at random moments of each verb that keeps a checkpoint, then `job resume`: byte-equal, and no more than 1.1 times the data
// is written in all, by the system's own count.
//
// CRASH_KILLS: kills per verb (default 2). CRASH_SEED: the first seed. A failure names its seed; the machine's own timing plays along.
import { copyFile, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { randomness } from "../support/random.ts";
import { inShard } from "../support/shard.ts";
import { must } from "../support/tools.ts";
import { type CountedRun, runCounted } from "./support/counted.ts";

const KILLS = Number(process.env["CRASH_KILLS"] ?? 2);
const SEED = Number(process.env["CRASH_SEED"] ?? 1);
const MiB = 2 ** 20;
const SIZE = 128 * MiB;

let home: string;
const at = (name: string): string => join(home, name);

interface Verb {
  readonly name: string;
  /** Its words, without those of the checkpoint and the speed. */
  readonly words: readonly string[];
  readonly rate: string;
  /** The image that is written, with its format, and what is to be in it. */
  readonly written: readonly [file: string, format: string];
  readonly wanted: string;
  /** Bytes that are to be copied. */
  readonly bytes: number;
}

const chained = ["top.qcow2", "qcow2"] as const;
const verbs: readonly Verb[] = [
  {
    name: "mirror",
    words: ["mirror", "-f", "raw", "-O", "qcow2", "source.raw", "target"],
    rate: "--speed",
    written: ["target", "qcow2"],
    wanted: "source.raw",
    bytes: SIZE,
  },
  {
    name: "backup",
    words: ["backup", "-f", "raw", "source.raw", "target"],
    rate: "--speed",
    written: ["target", "raw"],
    wanted: "source.raw",
    bytes: SIZE,
  },
  {
    name: "convert",
    words: ["convert", "-f", "raw", "-O", "qcow2", "source.raw", "target"],
    rate: "-r",
    written: ["target", "qcow2"],
    wanted: "source.raw",
    bytes: SIZE,
  },
  {
    name: "stream",
    words: ["stream", "top.qcow2"],
    rate: "--speed",
    written: chained,
    wanted: "top.flat",
    bytes: SIZE,
  },
  {
    name: "commit",
    words: ["commit", "top.qcow2"],
    rate: "--speed",
    written: ["base.raw", "raw"],
    wanted: "full.flat",
    bytes: SIZE,
  },
];

beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), "blockwright-checkpoint-kill-"));
  const random = randomness(4711);
  const bytes = Buffer.alloc(SIZE);
  for (let from = 0; from < SIZE; from += 4) bytes.writeUInt32LE(random(2 ** 32), from);
  await writeFile(at("source.raw"), bytes);
  const other = Buffer.from(bytes);
  await writeFile(at("full.flat"), other.reverse());
});

afterAll(async () => {
  await rm(home, { recursive: true, force: true });
});

/** The images as they are before. */
async function stage({ name }: Verb): Promise<void> {
  for (const file of ["target", "top.qcow2", "base.raw", "ckpt"]) await rm(at(file), { force: true });
  if (name !== "stream" && name !== "commit") return;
  await copyFile(at("source.raw"), at("base.raw"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-b", at("base.raw"), "-F", "raw", at("top.qcow2"));
  if (name === "commit")
    await must("qemu-img", "convert", "-n", "-f", "raw", "-O", "qcow2", at("full.flat"), at("top.qcow2"));
  else await copyFile(at("source.raw"), at("top.flat"));
}

const run = (words: readonly string[]): Promise<CountedRun> => runCounted(words, home);

/** The verb was begun, and said so. */
async function isBegun(): Promise<boolean> {
  const info = await stat(at("ckpt")).catch(() => undefined);
  return (info?.size ?? 0) > 4096 + 512;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function killAndResume(verb: Verb, seed: number): Promise<"killed" | "done"> {
  await stage(verb);
  const { rate, words } = verb;
  const first = await run([...words, rate, "64M", "--checkpoint", "ckpt"]);
  await expect.poll(async () => !isAlive(first.pid) || (await isBegun())).toBe(true);
  await sleep(randomness(seed * 7919)(1600));
  if (isAlive(first.pid)) process.kill(first.pid, "SIGKILL");
  const { written, said } = await first.ended;
  if (!(await isBegun())) {
    expect(said.replace("Image committed.\n", ""), "it was done before").toBe("");
    return "done";
  }
  const second = await run(["job", "resume", "ckpt", rate, "1G"]);
  const resumed = await second.ended;
  expect(resumed.said.replace("Image committed.\n", "")).toBe("");
  expect(resumed.code).toBe(0);
  const [file, format] = verb.written;
  await must("qemu-img", "compare", "-f", "raw", "-F", format, at(verb.wanted), at(file));
  expect(written + resumed.written, `seed ${seed}`).toBeLessThanOrEqual(1.1 * verb.bytes);
  expect(await isBegun(), "the checkpoint goes").toBe(false);
  return "killed";
}

describe.each(inShard(verbs).map((verb) => [verb.name, verb] as const))("%s", (_name, verb) => {
  test("goes on after each kill, and copies little twice", async () => {
    // Compiled once, the program's code is kept, which is written, too.
    await stage(verb);
    for (let i = 0; i < 2; i++) await (await run([...verb.words.slice(0, 1), "--help"])).ended;
    const warm = await run([...verb.words, verb.rate, "1G", "--checkpoint", "ckpt"]);
    expect((await warm.ended).code).toBe(0);
    let kills = 0;
    for (let seed = SEED; seed < SEED + KILLS; seed++)
      if ((await killAndResume(verb, seed)) === "killed") kills += 1;
    // On a machine that stands still now and then a run may have ended before.
    expect(kills + 1).toBeGreaterThan(KILLS / 2);
  });
});
