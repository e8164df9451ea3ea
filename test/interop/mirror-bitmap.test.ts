// The mirror by a bitmap, by the verb and by the daemon: there only with --compat blockwright; a copy that real qemu-img has made is brought up to date by
// the bitmap that the image keeps, and the schema of QEMU 7.2 knows nothing of it.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Daemon, theirs, withDaemon } from "../support/daemon.ts";
import { type Outcome, runVerb } from "../support/verb-client.ts";

let directory = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-mirror-bitmap-"));
  const run = (program: string, ...args: string[]) => execFileSync(program, args, { cwd: directory });
  run("qemu-img", "create", "-q", "-f", "qcow2", "src.qcow2", "64M");
  run("qemu-io", "-c", "write -P 1 0 8M", "src.qcow2");
  run("qemu-img", "bitmap", "--add", "src.qcow2", "b0");
  run("qemu-img", "convert", "-O", "raw", "src.qcow2", "dst.raw");
  run("qemu-io", "-c", "write -P 2 1M 64k", "-c", "write -P 3 40M 5k", "src.qcow2");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const nodes = [
  "--blockdev",
  "qcow2,node-name=src,file.driver=file,file.filename=src.qcow2",
  "--blockdev",
  "file,node-name=dst,filename=dst.raw",
];

const mirror = { "job-id": "m", device: "src", target: "dst", sync: "bitmap" };
const byBitmap = { ...mirror, bitmap: "b0", "bitmap-mode": "on-success" };

async function mirrorArguments(daemon: Daemon): Promise<string[]> {
  interface Entry {
    name: string;
    "arg-type"?: string;
    members?: { name: string }[];
  }
  const schema = (await daemon.execute("query-qmp-schema")) as Entry[];
  const command = schema.find(({ name }) => name === "blockdev-mirror");
  const type = schema.find(({ name }) => name === command?.["arg-type"]);
  return type!.members!.map(({ name }) => name);
}

test("a copy is brought up to date by the image's bitmap, which is clean then", async () => {
  const args = ["--compat", "blockwright", ...nodes];
  await withDaemon({ args, cwd: directory }, async (daemon) => {
    expect(await mirrorArguments(daemon)).toEqual(expect.arrayContaining(["bitmap", "bitmap-mode"]));
    await daemon.execute("blockdev-mirror", byBitmap);
    const { data } = await daemon.event("BLOCK_JOB_READY");
    expect(data).toMatchObject({ offset: 2 * 65_536, len: 2 * 65_536 });
    await daemon.execute("block-job-cancel", { device: "m" });
    await daemon.event("BLOCK_JOB_COMPLETED");
  });
  execFileSync("qemu-img", ["compare", "-f", "qcow2", "-F", "raw", "src.qcow2", "dst.raw"], {
    cwd: directory,
  });
  execFileSync("qemu-img", ["check", "-q", "src.qcow2"], { cwd: directory });
  // What the real program reads of the bitmap: a backup by it copies nothing.
  await withDaemon({ program: theirs, args: nodes, cwd: directory }, async (daemon) => {
    await daemon.execute("blockdev-backup", { ...byBitmap, "job-id": "b" });
    expect((await daemon.event("BLOCK_JOB_COMPLETED")).data).toMatchObject({ len: 0 });
  });
});

test("a daemon that behaves as QEMU 7.2 has no such arguments", async () => {
  for (const compat of [[], ["--compat", "7.2"]]) {
    await withDaemon({ args: [...compat, ...nodes], cwd: directory }, async (daemon) => {
      expect(await mirrorArguments(daemon)).not.toContain("bitmap");
      expect(await daemon.refusal("blockdev-mirror", byBitmap)).toBe("Parameter 'bitmap' is unexpected");
      expect(await daemon.refusal("blockdev-mirror", mirror)).toBe("Sync mode 'bitmap' not supported");
    });
  }
});

test("a level that there is not is refused", async () => {
  const starts = withDaemon({ args: ["--compat", "6.0"], cwd: directory }, () => Promise.resolve());
  await expect(starts).rejects.toThrow("--compat 6.0: one of 7.2, 10.1, blockwright is expected");
});

describe("the verb", () => {
  const verb = (...words: string[]): Outcome =>
    runVerb(["mirror", "--json", ...words, "src.qcow2", "dst.raw"], { cwd: directory });

  /** Bytes that the job found to copy. */
  function copied({ stdout, stderr, status }: Outcome): number {
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    const ready = stdout.split("\n").find((line) => line.includes("BLOCK_JOB_READY"))!;
    return (JSON.parse(ready) as { data: { len: number } }).data.len;
  }

  test.each([
    { modes: [], next: 0 },
    { modes: ["--bitmap-mode", "always"], next: 0 },
    { modes: ["--bitmap-mode", "never"], next: 2 * 65_536 },
  ])("brings a copy up to date; the next run copies $next bytes after $modes", ({ modes, next }) => {
    expect(copied(verb("-O", "raw", "--bitmap", "b0", ...modes))).toBe(2 * 65_536);
    const compare = ["compare", "-f", "qcow2", "-F", "raw", "src.qcow2", "dst.raw"];
    execFileSync("qemu-img", compare, { cwd: directory });
    execFileSync("qemu-img", ["check", "-q", "src.qcow2"], { cwd: directory });
    expect(copied(verb("-O", "raw", "--bitmap", "b0"))).toBe(next);
  });

  test("refuses what can't be, and leaves the bitmap and the copy as they are", () => {
    const before = readFileSync(join(directory, "dst.raw"));
    const refused: [string[], string][] = [
      [["--bitmap", "b1"], "Bitmap 'b1' could not be found"],
      [["--bitmap", "b0", "--force"], "option '--bitmap <name>' cannot be used with option '--force'"],
      [
        ["--bitmap", "b0", "--sync", "top"],
        "option '--bitmap <name>' cannot be used with option '--sync <mode>'",
      ],
      [["--bitmap-mode", "never", "--force"], "option '--bitmap-mode <mode>' needs option '--bitmap <name>'"],
    ];
    for (const [words, message] of refused) {
      const { stderr, status } = verb("-O", "raw", ...words);
      expect(stderr).toContain(message);
      expect(status).not.toBe(0);
    }
    expect(readFileSync(join(directory, "dst.raw")).equals(before)).toBe(true);
    unlinkSync(join(directory, "dst.raw"));
    expect(verb("-O", "raw", "--bitmap", "b0").stderr).toContain("Could not open 'dst.raw'");
    expect(existsSync(join(directory, "dst.raw"))).toBe(false);
  });
});
