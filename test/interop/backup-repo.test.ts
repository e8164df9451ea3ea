// Backups that are kept, in chunks and as a chain of images: what QEMU wrote between them is what is restored, QEMU reads what
// we make of it, and what goes wrong is told and leaves nothing half-done.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { folderOfEachTest } from "./support/backup-folder.ts";
import { cli } from "./support/running-machine.ts";

const { at, blockwright, must, qemu } = folderOfEachTest("blockwright-backups-");

function write(image: string, ...commands: string[]): void {
  qemu("io", ...commands.flatMap((command) => ["-c", command]), image);
}

interface Listed {
  id: string;
  name: string;
  kind: string;
  size: number;
  "read-bytes": number;
}

const list = (repo: string): Listed[] => JSON.parse(must(`backup list --repo ${repo} --json`)) as Listed[];
const bitmapsOf = (image: string): { name: string; flags: string[] }[] => {
  const info = JSON.parse(qemu("img", "info", "--output=json", image)) as {
    "format-specific": { data: { bitmaps?: { name: string; flags: string[] }[] } };
  };
  return (info["format-specific"].data.bitmaps ?? []).toSorted((a, b) => (a.name < b.name ? -1 : 1));
};

function makeDisk(name = "disk.qcow2"): void {
  qemu("img", "create", "-q", "-f", "qcow2", name, "200M");
  write(name, "write -P 1 0 20M", "write -P 2 100M 300k", "write -P 3 199M 1M");
}

/** What is written before each of the turns. */
const turns = [
  ["write -P 4 1M 100k", "write -P 5 150M 64k"],
  ["write -z 100M 256k", "discard 0 1M", "write -P 6 123456 8"],
  [],
  ["write -P 7 199M 1M"],
];

describe.each([
  ["a directory of chunks", "repo"],
  ["a chain of images", "chain:repo"],
])("%s", (_what, repo) => {
  it("keeps every version of a disk that QEMU writes to, and reads only what changed", () => {
    makeDisk();
    const made: string[] = [];
    for (const [turn, commands] of [[], ...turns].entries()) {
      if (commands.length > 0) write("disk.qcow2", ...commands);
      qemu("img", "convert", "-O", "raw", "disk.qcow2", `at-${turn}.raw`);
      const told = JSON.parse(
        must(`backup create --repo ${repo} disk.qcow2 --bitmap nightly --name vm --json`),
      ) as Listed;
      made.push(told.id);
      expect(told).toMatchObject({ name: "vm", kind: turn === 0 ? "full" : "incremental", size: 200 << 20 });
      if (turn > 0) expect(told["read-bytes"]).toBeLessThanOrEqual(1 << 20);
      if (turn === 3) expect(told["read-bytes"]).toBe(0);
      qemu("img", "check", "-q", "disk.qcow2");
      expect(bitmapsOf("disk.qcow2")).toMatchObject([
        { name: `blockwright:nightly:${told.id}`, flags: [] },
        { name: "nightly", flags: ["auto"] },
      ]);
    }
    expect(list(repo).map(({ id }) => id)).toEqual(made);
    for (const [turn, id] of made.entries()) {
      must(`backup restore --repo ${repo} ${id} out-${turn}.raw`);
      expect(qemu("img", "compare", "-f", "raw", "-F", "raw", `at-${turn}.raw`, `out-${turn}.raw`)).toBe(
        "Images are identical.\n",
      );
    }
    expect(must(`backup verify --repo ${repo}`)).toMatch(/^5 backups, .*: all whole\n$/);
    must(`backup prune --repo ${repo} --keep-last 2`);
    expect(list(repo).map(({ id }) => id)).toEqual(made.slice(-2));
    for (const turn of [3, 4]) {
      must(`backup restore --repo ${repo} ${made[turn]} kept-${turn}.qcow2 -O qcow2`);
      qemu("img", "compare", "-f", "raw", "-F", "qcow2", `at-${turn}.raw`, `kept-${turn}.qcow2`);
    }
    expect(must(`backup verify --repo ${repo} latest`)).toMatch(/^1 backups, .*: all whole\n$/);
  });

  it("knows a disk that was shorter in between for changed there", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --bitmap nightly`);
    must("resize --shrink disk.qcow2 150M");
    must("resize disk.qcow2 200M");
    qemu("img", "convert", "-O", "raw", "disk.qcow2", "now.raw");
    must(`backup create --repo ${repo} disk.qcow2 --bitmap nightly`);
    expect(list(repo).map(({ kind }) => kind)).toEqual(["full", "incremental"]);
    must(`backup restore --repo ${repo} latest out.raw`);
    expect(qemu("img", "compare", "-f", "raw", "-F", "raw", "now.raw", "out.raw")).toBe(
      "Images are identical.\n",
    );
  });

  it("prints a range of a disk", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2`);
    const words = [cli, "backup", "cat", "--repo", repo, "latest", "102400k", "400k"];
    const bytes = execFileSync(process.execPath, words, { cwd: at(), maxBuffer: 2 ** 21 });
    expect(bytes.equals(Buffer.concat([Buffer.alloc(307_200, 2), Buffer.alloc(102_400)]))).toBe(true);
    expect(blockwright(`backup cat --repo ${repo} latest 0 200M`).stdout.length).toBe(200 << 20);
    expect(blockwright(`backup cat --repo ${repo} latest 1 200M`)).toMatchObject({
      status: 1,
      stderr: expect.stringContaining("The range ends at 209715201, and the disk of backup") as string,
    });
  });

  it("tells a bitmap that counts from somewhere else from one that counts from its own backup", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    write("disk.qcow2", "write -P 9 50M 64k");
    const other = blockwright(
      `backup create --repo ${repo.replace("repo", "other")} disk.qcow2 --bitmap b --name vm`,
    );
    expect(other.status).toBe(0);
    write("disk.qcow2", "write -P 8 60M 64k");
    const third = blockwright(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    expect(third.status).toBe(0);
    expect(third.stderr).toMatch(
      /warning: bitmap 'b' counts from backup \S+, which is not here: this is a full backup/,
    );
    must(`backup restore --repo ${repo} vm@latest out.qcow2 -O qcow2`);
    qemu("img", "compare", "disk.qcow2", "out.qcow2");
  });

  it("reads all of a disk whose bitmap was lost or is inconsistent, and says so", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    qemu("img", "bitmap", "--remove", "disk.qcow2", "b");
    write("disk.qcow2", "write -P 9 50M 64k");
    const lost = blockwright(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    expect(lost).toMatchObject({
      status: 0,
      stderr: expect.stringContaining("there is no bitmap 'b' yet: this is a full backup") as string,
    });
    // A program that dies with the image open leaves its bitmaps in use.
    spawnSync("qemu-io", ["-c", "write -P 5 70M 64k", "-c", "sigraise 9", "disk.qcow2"], { cwd: at() });
    const broken = blockwright(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    expect(broken).toMatchObject({
      status: 0,
      stderr: expect.stringContaining("bitmap 'b' is inconsistent") as string,
    });
    must(`backup restore --repo ${repo} latest out.qcow2 -O qcow2`);
    qemu("img", "compare", "disk.qcow2", "out.qcow2");
    expect(blockwright(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`).stderr).toBe("");
    expect(list(repo).map(({ kind }) => kind)).toEqual(["full", "full", "full", "incremental"]);
  });

  it("follows a disk that grows and shrinks", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --bitmap b`);
    for (const [turn, size] of ["200704k", "+60M"].entries()) {
      qemu("img", "resize", "-q", "--shrink", "disk.qcow2", size);
      write("disk.qcow2", `write -P ${turn + 5} 190M 512k`);
      must(`backup create --repo ${repo} disk.qcow2 --bitmap b`);
      must(`backup restore --repo ${repo} latest out-${turn}.qcow2 -O qcow2`);
      qemu("img", "compare", "-s", "-f", "qcow2", "disk.qcow2", "disk.qcow2");
      expect(qemu("img", "compare", "disk.qcow2", `out-${turn}.qcow2`)).toBe("Images are identical.\n");
    }
  });

  it("loses no bitmap and shows no half backup when it is killed", async () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    write("disk.qcow2", "write -P 9 0 100M");
    for (const delay of [80, 160, 240, 320, 400]) {
      const words = [cli, "backup", "create", "--repo", repo, "disk.qcow2", "--bitmap", "b", "--name", "vm"];
      const child = spawn(process.execPath, words, { cwd: at(), stdio: "ignore" });
      const timer = setTimeout(() => child.kill("SIGKILL"), delay);
      await once(child, "exit");
      clearTimeout(timer);
    }
    must(`backup create --repo ${repo} disk.qcow2 --bitmap b --name vm`);
    must(`backup restore --repo ${repo} latest out.qcow2 -O qcow2`);
    qemu("img", "compare", "disk.qcow2", "out.qcow2");
    expect(must(`backup verify --repo ${repo}`)).toContain(": all whole");
    must(`backup prune --repo ${repo} --keep-last 1`);
    expect(must(`backup verify --repo ${repo}`)).toMatch(/^1 backups, .*: all whole\n$/);
    expect(readdirSync(at("repo", "holders"))).toEqual([]);
  });

  it("makes no file of a backup that is damaged, and replaces none unasked", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2`);
    writeFileSync(at("there.raw"), "something");
    expect(blockwright(`backup restore --repo ${repo} latest there.raw`)).toMatchObject({
      status: 1,
      stderr: "blockwright: 'there.raw' exists; --force replaces it\n",
    });
    expect(readFileSync(at("there.raw"), "utf8")).toBe("something");
    const inRepo = at("repo");
    const [data] =
      repo === "repo"
        ? readdirSync(join(inRepo, "packs")).map((name) => `packs/${name}`)
        : readdirSync(inRepo).filter((name) => name.endsWith(".qcow2"));
    truncateSync(join(inRepo, data!), statSync(join(inRepo, data!)).size - 100_000 > 0 ? 70_000 : 100);
    const before = readdirSync(at());
    expect(blockwright(`backup restore --repo ${repo} latest there.raw --force`).status).toBe(1);
    expect(readFileSync(at("there.raw"), "utf8")).toBe("something");
    expect(readdirSync(at())).toEqual(before);
    const verdict = blockwright(`backup verify --repo ${repo} --json`);
    expect(verdict.status).toBe(2);
    expect(JSON.parse(verdict.stdout)).toMatchObject({ ok: false, broken: [{ id: list(repo)[0]!.id }] });
  });

  it.each([
    ["backup list", "--repo is required: a directory, s3://BUCKET/KEY, or chain:DIRECTORY"],
    ["backup list --repo REPO", "Could not open repository 'repo': "],
    ["backup restore --repo REPO latest out.raw", "Could not open repository 'repo': "],
    ["backup create --repo REPO missing.qcow2", "Could not open 'missing.qcow2': "],
    [
      "backup create --repo REPO plain.raw -f raw --bitmap b",
      "'plain.raw' can't keep a dirty bitmap: its format is raw",
    ],
  ])("refuses '%s'", (line, words) => {
    writeFileSync(at("plain.raw"), new Uint8Array(4096).fill(1));
    const { status, stderr } = blockwright(line.replace("REPO", repo));
    expect(stderr).toContain(words);
    expect(status).toBe(1);
  });

  it("finds a backup by what is unmistakable", () => {
    makeDisk();
    must(`backup create --repo ${repo} disk.qcow2 --name a`);
    must(`backup create --repo ${repo} disk.qcow2 --name b`);
    const [{ id }] = list(repo) as [Listed];
    must(`backup restore --repo ${repo} a@latest a.raw`);
    must(`backup restore --repo ${repo} ${id} whole.raw`);
    for (const [word, words] of [
      ["20", "'20' is the beginning of 2 backups"],
      ["c@latest", "there is no backup 'c@latest'"],
      ["x", "there is no backup 'x'"],
      ["a", "there is no backup 'a': 'a@latest' is the newest of the disk 'a'"],
    ])
      expect(blockwright(`backup restore --repo ${repo} ${word} no.raw`).stderr).toContain(words);
    expect(existsSync(at("no.raw"))).toBe(false);
  });
});

it("a directory that holds something else does not become a repository", () => {
  makeDisk();
  mkdirSync(at("home"));
  writeFileSync(at("home", "letter.txt"), "dear");
  const { status, stderr } = blockwright("backup create --repo home disk.qcow2");
  expect(status).toBe(1);
  expect(stderr).toContain("Could not open repository 'home': there is no repository of backups here");
  expect(readdirSync(at("home"))).toEqual(["letter.txt"]);
});

it("a chain is read by QEMU as it stands", () => {
  makeDisk();
  must("backup create --repo chain:repo disk.qcow2 --bitmap b");
  write("disk.qcow2", "write -P 9 50M 64k");
  must("backup create --repo chain:repo disk.qcow2 --bitmap b");
  const [, second] = list("chain:repo");
  const image = join("repo", `${second!.id}.qcow2`);
  expect(qemu("img", "compare", "disk.qcow2", image)).toBe("Images are identical.\n");
  qemu("img", "check", "-q", image);
});

it("equal disks share their chunks, and a second look at one adds nothing", () => {
  makeDisk();
  qemu("img", "convert", "-O", "raw", "disk.qcow2", "disk.raw");
  must("backup create --repo repo disk.qcow2");
  const told = must("backup create --repo repo disk.raw -f raw --json");
  expect(JSON.parse(told)).toMatchObject({ kind: "full", "new-bytes": 0, "stored-bytes": 0 });
});

it("a seed's part of a disk is not read from the repository, and a seed of no use does no harm", () => {
  makeDisk();
  must("backup create --repo repo disk.qcow2");
  qemu("img", "convert", "-O", "raw", "disk.qcow2", "old.raw");
  write("disk.qcow2", "write -P 7 50M 1M", "write -P 8 199M 64k");
  must("backup create --repo repo disk.qcow2");
  const seeded = JSON.parse(must("backup restore --repo repo latest a.raw --seed old.raw --json")) as object;
  expect(seeded).toMatchObject({ restored: "a.raw", "seed-bytes": 20 * 2 ** 20 + 5 * 65536 + 15 * 65536 });
  const lies = "backup restore --repo repo latest b.qcow2 -O qcow2 --seed empty.raw --seed old.raw";
  writeFileSync(at("empty.raw"), "no disk of ours");
  must(lies);
  qemu("img", "compare", "-q", "-F", "raw", "disk.qcow2", "a.raw");
  qemu("img", "compare", "-q", "disk.qcow2", "b.qcow2");
  expect(blockwright("backup restore --repo repo latest c.raw --seed none.raw").stderr).toContain(
    "Could not open 'none.raw'",
  );
  expect(
    blockwright("backup restore --repo repo latest c.raw --seed old.raw --live unix:s").stderr,
  ).toContain("--seed does not go with --live");
  must("backup create --repo chain:images disk.qcow2");
  expect(blockwright("backup restore --repo chain:images latest c.raw --seed old.raw").stderr).toContain(
    "--seed goes with a repository of chunks",
  );
  expect(readdirSync(at()).filter((name) => /^c\.|new$/.test(name))).toEqual([]);
});
