// Backups that somebody damages or gives no room: a clear word of what and where, nothing half-done to be seen, and a way on.
import { spawnSync } from "node:child_process";
import { copyFileSync, readFileSync, readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { mountSmallDisk, type SmallDisk, whyNoSmallDisk } from "../support/small-disk.ts";
import { folderOfEachTest } from "./support/backup-folder.ts";
import { cli, type Made } from "./support/running-machine.ts";

const MiB = 2 ** 20;
const { at, blockwright, must, qemu } = folderOfEachTest("blockwright-damage-");

/** Three backups of a disk that changes in between. */
function threeTurns(repo: string): string[] {
  qemu("img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64M");
  return [1, 2, 3].map((turn) => {
    qemu("io", "-c", `write -P ${turn} ${turn}M 3M`, "disk.qcow2");
    return (JSON.parse(must(`${create(repo)} --json`)) as Made).id;
  });
}

const create = (repo: string): string => `backup create --repo ${repo} disk.qcow2 --bitmap n --name vm`;

it.each(["missing", "torn"])("over an image of a chain that is %s the next one is a full one", (how) => {
  const [, second, third] = threeTurns("chain:repo");
  const file = at("repo", `${second}.qcow2`);
  if (how === "missing") rmSync(file);
  else truncateSync(file, 100_000);
  const told = blockwright(create("chain:repo"));
  const what = how === "missing" ? "is missing" : "has 100000 bytes, and not ";
  expect(told.stderr).toContain(`warning: 'repo/${second}.qcow2', which backup ${third} needs, ${what}`);
  expect(told).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("vm, full, 5 MiB read") as string,
  });
  must("backup restore --repo chain:repo latest out.qcow2 -O qcow2");
  expect(qemu("img", "compare", "disk.qcow2", "out.qcow2")).toBe("Images are identical.\n");
  expect(blockwright(`backup restore --repo chain:repo ${third} third.raw`)).toMatchObject({
    status: 1,
    stderr: expect.stringMatching(
      new RegExp(`^blockwright: Could not restore 'third.raw': backup ${third}: 'repo/${second}.qcow2' `),
    ) as string,
  });
  expect(readdirSync(at()).toSorted()).toEqual(["disk.qcow2", "out.qcow2", "repo"]);
  must("backup prune --repo chain:repo --keep-last 1");
  expect(must("backup verify --repo chain:repo")).toMatch(/^1 backups, .*: all whole\n$/);
});

it("a description that is torn, or another repository's, is told, and a prune says how to go on", () => {
  const [first, second, third] = threeTurns("repo");
  const torn = at("repo", "backups", `${third}.json`);
  copyFileSync(torn, at("whole.json"));
  truncateSync(torn, 50);
  const word = `'backups/${third}.json' is damaged: it is not what was written`;
  expect(blockwright("backup restore --repo repo latest old.raw")).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("old.raw: vm as of") as string,
    stderr: `blockwright: warning: ${word}\n`,
  });
  const refused =
    "what is needed can't be told, and no chunk was removed. 'backup verify' tells what is damaged; to give it up, remove its object";
  const prune = blockwright("backup prune --repo repo --keep-last 1");
  expect([prune.status, prune.stderr]).toEqual([1, expect.stringContaining(`${word}: ${refused}`) as string]);
  copyFileSync(at("whole.json"), torn);
  expect((JSON.parse(must("backup list --repo repo --json")) as Made[]).map(({ id }) => id)).toEqual([
    first,
    second,
    third,
  ]);
  qemu("io", "-c", "write -P 9 40M 1M", "disk.qcow2");
  const other = (JSON.parse(must("backup create --repo other disk.qcow2 --json")) as Made).id;
  const foreign = `backups/${other}.json`;
  copyFileSync(at("other", foreign), at("repo", foreign));
  const verdict = blockwright("backup verify --repo repo");
  expect(verdict.stdout).toMatch(
    new RegExp(`^backup ${other} can't be restored whole: .*chunk \\S+ is missing\n`),
  );
  expect(verdict.status).toBe(2);
  expect(blockwright("backup prune --repo repo --keep-last 2").stderr).toContain(refused);
  rmSync(at("repo", foreign));
  must("backup prune --repo repo --keep-last 2");
  expect(must("backup verify --repo repo")).toMatch(/: all whole\n$/);
});

it("a live restore says which chunk can't be read", () => {
  const random = randomness(8);
  writeFileSync(
    at("disk.raw"),
    Uint32Array.from({ length: MiB / 4 }, () => random(2 ** 32)),
  );
  must("backup create --repo repo -f raw disk.raw");
  const [pack] = readdirSync(at("repo", "packs"));
  const bytes = readFileSync(at("repo", "packs", pack!));
  // Two chunks change places.
  const [one, other] = [Buffer.from(bytes.subarray(8, 65544)), Buffer.from(bytes.subarray(65544, 131080))];
  bytes.set(other, 8);
  bytes.set(one, 65544);
  writeFileSync(at("repo", "packs", pack!), bytes);
  const { status, stderr } = blockwright("backup restore --repo repo latest out.raw --live unix:s");
  expect(stderr).toMatch(
    /warning: backup \S+: chunk [0-9a-f]{64} in '\S+' can't be read: its bytes are not what was written\n/,
  );
  expect(stderr).toContain("blockwright: Could not restore 'out.raw': ");
  expect([status, readdirSync(at()).includes("out.raw")]).toEqual([1, false]);
  expect(blockwright("backup create --repo repo -f raw disk.raw --name=").stderr).toContain(
    "--name needs a name",
  );
});

it("a checkpoint of other work beside a target that is not there is told for what it is", () => {
  writeFileSync(at("a.raw"), new Uint8Array(MiB).fill(1));
  const words = ["convert", "-O", "raw", "--checkpoint", "cp", "a.raw"];
  const { status } = spawnSync(process.execPath, [cli, ...words, "nowhere/out.raw"], { cwd: at() });
  expect(status).toBe(1);
  // A run that ended before its disks were open leaves nothing; this one is killed by its target's file system.
  const limited = ["-c", 'ulimit -f 64; exec "$@"', "sh", process.execPath, cli, ...words, "one.raw"];
  expect(spawnSync("sh", limited, { cwd: at() }).status).not.toBe(0);
  expect(readdirSync(at())).toContain("cp");
  rmSync(at("one.raw"), { force: true });
  const told = blockwright("convert -O raw --checkpoint cp a.raw two.raw");
  expect(told.stderr).toContain("the checkpoint 'cp' is of other work: ");
  expect(told.status).toBe(1);
  expect(readdirSync(at())).not.toContain("two.raw");
});

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`a part of backup-damage.test.ts is skipped: ${reason}`);

describe.skipIf(reason !== undefined)("no room", () => {
  let disk: SmallDisk;

  beforeEach(() => {
    disk = mountSmallDisk(4 * MiB);
    const random = randomness(3);
    writeFileSync(
      at("disk.raw"),
      Uint32Array.from({ length: (8 * MiB) / 4 }, () => random(2 ** 32)),
    );
  });

  afterEach(() => disk.unmount());

  it.each(["raw", "qcow2"])("for what is restored as %s: nothing is there", (format) => {
    must("backup create --repo repo -f raw disk.raw");
    const { status, stderr } = blockwright(
      `backup restore --repo repo latest ${disk.path("out")} -O ${format}`,
    );
    expect(stderr).toBe(`blockwright: Could not restore '${disk.path("out")}': No space left on device\n`);
    expect([status, readdirSync(disk.path("."))]).toEqual([1, []]);
  });

  it.each([
    ["", "'packs/"],
    ["chain:", "Could not write '"],
  ])("for what is backed up in %srepo: it is not listed, and the next one succeeds", (kind, words) => {
    const repo = `${kind}${disk.path("repo")}`;
    const failed = blockwright(`backup create --repo ${repo} -f raw disk.raw`);
    expect(failed.stderr).toMatch(new RegExp(`^blockwright: ${words}.*': No space left on device\n$`));
    expect(failed.status).toBe(1);
    truncateSync(at("disk.raw"), MiB);
    must(`backup create --repo ${repo} -f raw disk.raw`);
    expect(must(`backup verify --repo ${repo}`)).toMatch(/^1 backups, .*: all whole\n$/);
  });
});
