// Places that go away while a backup is made, restored, looked at or pruned: a word of it, nothing half-done to be seen, no change forgotten,
// and the next run goes on once the place is back. And places that are not what their name says, or can only be read.
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { whyNoSmallDisk } from "../support/small-disk.ts";
import { folderOfEachTest } from "./support/backup-folder.ts";
import type { Done, Made } from "./support/running-machine.ts";
import { stoppedRun } from "./support/stopped-run.ts";

const MiB = 2 ** 20;
const { at, blockwright, must, qemu } = folderOfEachTest("blockwright-gone-");

const create = (repo: string): string => `backup create --repo ${repo} disk.qcow2 --bitmap n --name vm`;
const listed = (repo: string): Made[] => JSON.parse(must(`backup list --repo ${repo} --json`)) as Made[];

/** Writes 8 MiB of noise into the disk, which nobody has seen yet. */
function write(seed: number): void {
  const random = randomness(seed);
  writeFileSync(
    at("noise"),
    Uint32Array.from({ length: (8 * MiB) / 4 }, () => random(2 ** 32)),
  );
  qemu("io", "-c", `write -s ${at("noise")} 0 8M`, "disk.qcow2");
}

beforeEach(() => {
  qemu("img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M");
  write(1);
});

const stopped = (line: string, isThere: () => boolean, meanwhile: () => void): Promise<Done | undefined> =>
  stoppedRun({ cwd: at(), line, isThere, meanwhile });

/** The same, again where it was done before. */
async function caught(line: string, isThere: () => boolean, meanwhile: () => void): Promise<Done> {
  for (;;) {
    const done = await stopped(line, isThere, meanwhile);
    if (done) return done;
  }
}

const isHeld = (): boolean =>
  existsSync(at("repo", "holders")) && readdirSync(at("repo", "holders")).length > 0;
const GONE = "or its file system, has gone";

describe.each([
  ["chunks", "repo"],
  ["a chain", "chain:repo"],
])("of %s", (_what, repo) => {
  it("a directory that is taken away while a backup is made", async () => {
    must(create(repo));
    const before = listed(repo);
    write(2);
    const told = await caught(create(repo), isHeld, () => renameSync(at("repo"), at("away")));
    expect(told.stderr).toMatch(/^blockwright: .*(has gone|No such file or directory)/);
    expect(told.status).toBe(1);
    // Nothing is made in its place.
    expect(existsSync(at("repo"))).toBe(false);
    renameSync(at("away"), at("repo"));
    expect(listed(repo)).toEqual(before);
    expect(JSON.parse(must(`${create(repo)} --json`))).toMatchObject({ kind: "incremental" });
    must(`backup restore --repo ${repo} latest out.qcow2 -O qcow2`);
    expect(qemu("img", "compare", "disk.qcow2", "out.qcow2")).toBe("Images are identical.\n");
    expect(must(`backup verify --repo ${repo}`)).toMatch(/: all whole\n$/);
  });
});

it("a directory that goes while a disk is restored, of the backups or of the disk", async () => {
  must(create("repo"));
  mkdirSync(at("to"));
  const isMade = (): boolean => readdirSync(at("to")).length > 0;
  const line = "backup restore --repo repo latest to/out.raw";
  const away = await stopped(line, isMade, () => renameSync(at("repo"), at("away")));
  if (away) {
    expect([away.status, away.stderr]).toEqual([1, expect.stringContaining(GONE) as string]);
    expect(readdirSync(at("to"))).toEqual([]);
    renameSync(at("away"), at("repo"));
  }
  rmSync(at("to"), { recursive: true });
  mkdirSync(at("to"));
  const gone = await stopped(line, isMade, () => rmSync(at("to"), { recursive: true }));
  const words = /^blockwright: Could not restore 'to\/out.raw': .*No such file or directory/;
  if (gone) expect([gone.status, gone.stderr]).toEqual([1, expect.stringMatching(words) as string]);
});

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`a part of backup-gone.test.ts is skipped: ${reason}`);

describe.skipIf(reason !== undefined)("a file system", () => {
  const mount = (...words: string[]): void => void execFileSync("mount", words, { stdio: "pipe" });
  const unmount = (): void => void execFileSync("umount", ["-l", at("repo")], { stdio: "pipe" });

  beforeEach(() => {
    must(create("real"));
    mkdirSync(at("repo"));
    mount("--bind", at("real"), at("repo"));
  });

  afterEach(() => {
    try {
      unmount();
    } catch {
      // It is gone already.
    }
  });

  it("that is unmounted in the middle: nothing is written where it was", async () => {
    const before = listed("repo");
    write(3);
    for (const line of [
      "backup verify --repo repo",
      "backup prune --repo repo --keep-last 1",
      create("repo"),
    ]) {
      // Who was here last could not take its place away.
      for (const name of readdirSync(at("real", "holders"))) rmSync(at("real", "holders", name));
      const told = await stopped(line, isHeld, unmount);
      // It may have stood still when all was done but the end of its holding.
      const wasDone = !told || (told.status === 0 && told.stderr === "");
      if (!wasDone)
        expect([line, told.status, told.stderr]).toEqual([line, 1, expect.stringContaining(GONE) as string]);
      if (!told) unmount();
      expect(readdirSync(at("repo"))).toEqual([]);
      mount("--bind", at("real"), at("repo"));
      const isMore = wasDone && line === create("repo");
      if (isMore) expect(listed("repo")).toHaveLength(before.length + 1);
      else expect(listed("repo")).toEqual(before);
    }
    expect(must("backup verify --repo repo")).toMatch(/: all whole\n$/);
  });

  it("that can only be read gives what it has, and takes nothing", () => {
    mount("-o", "remount,bind,ro", at("repo"));
    must("backup restore --repo repo latest out.qcow2 -O qcow2");
    expect(qemu("img", "compare", "disk.qcow2", "out.qcow2")).toBe("Images are identical.\n");
    expect(must("backup verify --repo repo")).toMatch(/: all whole\n$/);
    expect(blockwright("backup cat --repo repo latest 0 512").stdout.length).toBeGreaterThan(0);
    for (const line of [create("repo"), "backup prune --repo repo --keep-last 1"]) {
      const { status, stderr } = blockwright(line);
      expect([status, stderr]).toEqual([
        1,
        expect.stringMatching(/'holders\/\S+': Read-only file system\n$/) as string,
      ]);
    }
  });
});

it("a repository of one kind is not taken for one of the other, nor made where something else is", () => {
  for (const repo of ["repo", "chain:images"]) must(create(repo).replace(" --bitmap n", ""));
  const told = (repo: string): string => blockwright(create(repo)).stderr;
  expect(told("chain:repo")).toContain("Could not open repository 'repo': it is one of chunks, and no chain");
  expect(told("images")).toContain("it is a chain of images: --repo chain:images");
  rmSync(at("repo", "repository.json"));
  expect(told("repo")).toContain("its 'repository.json' is missing");
  // One that was killed as it began, in a file system that was just made.
  for (const name of ["new", "new/tmp", "new/lost+found"]) mkdirSync(at(name));
  writeFileSync(at("new/tmp/0123456789ab-12-345-0123456789abcdef"), "{");
  expect(blockwright(create("new"))).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("vm, full") as string,
  });
});

it("an image of a chain that is gone or cut off is told where a part is read, too", () => {
  must(create("chain:repo"));
  qemu("io", "-c", "write -P 3 20M 1M", "disk.qcow2");
  must(create("chain:repo"));
  const [{ id: first }, { id: second }] = listed("chain:repo") as [Made, Made];
  const image = at("repo", `${first}.qcow2`);
  cpSync(image, at("whole"));
  chmodSync(image, 0o600);
  for (const [how, words] of [
    [() => truncateSync(image, 2 * MiB), `has ${2 * MiB} bytes, and not `],
    [() => rmSync(image), "is missing"],
  ] as const) {
    how();
    const problem = `'repo/${first}.qcow2', which backup ${second} needs, ${words}`;
    for (const line of [
      "cat --repo chain:repo latest 1M 16",
      "restore --repo chain:repo latest out.raw --live unix:s",
    ]) {
      const { status, stdout, stderr } = blockwright(`backup ${line}`);
      expect([status, stdout, stderr]).toEqual([1, "", expect.stringContaining(problem) as string]);
    }
  }
  cpSync(at("whole"), image);
  expect(must("backup cat --repo chain:repo latest 20M 4")).toBe("\x03\x03\x03\x03");
  expect(readdirSync(at()).filter((name) => name.includes("out.raw"))).toEqual([]);
});

it("an image that somebody writes to is not replaced by a restored one", async () => {
  must(create("repo"));
  const guest = spawn("qemu-io", ["disk.qcow2"], { cwd: at(), stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(guest, "close");
  guest.stdin.write("length\n");
  await once(guest.stdout, "data");
  const inode = readdirSync(at());
  for (const more of ["", " --live unix:s"]) {
    const { status, stderr } = blockwright(
      `backup restore --repo repo latest disk.qcow2 -O qcow2 --force${more}`,
    );
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining("Is another process using the image") as string,
    ]);
  }
  expect(readdirSync(at())).toEqual(inode);
  guest.stdin.end();
  await gone;
  must("backup restore --repo repo latest disk.qcow2 -O qcow2 --force");
});

it("an image that somebody else reads is not written by a backup whose bitmap can't turn", async () => {
  must(create("repo"));
  write(2);
  const before = readFileSync(at("disk.qcow2"));
  const reader = spawn("qemu-io", ["-r", "disk.qcow2"], { cwd: at(), stdio: ["pipe", "pipe", "inherit"] });
  const gone = once(reader, "close");
  reader.stdin.write("length\n");
  await once(reader.stdout, "data");
  const { status, stderr } = blockwright(create("repo"));
  expect([status, stderr]).toEqual([1, expect.stringContaining('Failed to get "write" lock') as string]);
  expect(readFileSync(at("disk.qcow2")).equals(before)).toBe(true);
  reader.stdin.end();
  await gone;
  expect(JSON.parse(must(`${create("repo")} --json`))).toMatchObject({ kind: "incremental" });
  expect(qemu("img", "check", "disk.qcow2")).toContain("No errors were found");
});
