// Bad input to the storage daemon, beside the real one: the same words where QEMU has words. Afterwards nothing has changed
// on the disk, no node is left, the daemon is alive, has nothing to say on its standard error and is no larger.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Daemon, ours, theirs } from "../support/daemon.ts";
import { type BadImage, badImages, contentOf } from "./support/bad-images.ts";

/** Most resident memory of our daemon after all of it, MiB. */
const MOST_MEMORY_MIB = 300;

let directory: string;
let mine: Daemon;
let qemu: Daemon;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-bad-"));
  [mine, qemu] = await Promise.all([Daemon.start({ program: ours }), Daemon.start({ program: theirs })]);
});

afterAll(async () => {
  await Promise.all([mine.kill(), qemu.kill()]);
  rmSync(directory, { recursive: true, force: true });
});

/** Both programs' answers to opening an image. */
async function open(path: string, { options, qemuHangs }: BadImage): Promise<[string, string]> {
  const answers: string[] = [];
  for (const daemon of qemuHangs ? [mine] : [mine, qemu]) {
    const file = { driver: "file", filename: path, locking: "off" };
    const spec = { driver: "qcow2", "node-name": "bad", file, ...options };
    answers.push((await daemon.refusal("blockdev-add", spec)) ?? "opened");
    await daemon.ask("blockdev-del", { "node-name": "bad" });
  }
  return [answers[0]!, answers[1] ?? "no answer"];
}

function residentMiB(pid: number): number {
  const match = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(match?.[1]) / 1024;
}

async function expectUnharmed(): Promise<void> {
  expect(mine.alive).toBe(true);
  expect(mine.errors).toBe("");
  expect(await mine.execute("query-named-block-nodes")).toEqual([]);
  expect(await mine.execute("query-jobs")).toEqual([]);
}

describe("opening", () => {
  test.each(badImages.map((image) => [image.name, image] as const))("%s", async (name, image) => {
    const home = join(directory, name.replaceAll(/\W/g, "-"));
    mkdirSync(home);
    const path = (file: string): string => join(home, file);
    await image.make(path);
    const before = readdirSync(home).map((file) => [file, contentOf(path(file))]);
    const [answer, wanted] = await open(path("image"), image);
    const short = (words: string): string => words.replaceAll(home, "DIR");
    if (image.differs) expect(short(answer)).toMatch(image.differs.words);
    else expect(short(answer)).toBe(short(wanted));
    if (!image.opens) expect(answer).not.toBe("opened");
    const after = readdirSync(home).map((file) => [file, contentOf(path(file))]);
    expect(after.map(([file]) => file)).toEqual(before.map(([file]) => file));
    for (const [index, [file, content]] of after.entries())
      expect(content === before[index]![1], `${file} is as it was`).toBe(true);
    await expectUnharmed();
  });

  test("memory stays bounded", () => {
    if (process.platform !== "linux") return;
    expect(residentMiB(mine.pid)).toBeLessThan(MOST_MEMORY_MIB);
  });
});
