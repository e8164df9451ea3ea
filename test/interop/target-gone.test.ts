// Targets that go away while a job with a checkpoint writes them: a word of it, the checkpoint stays, another file in the target's place is not
// mixed with what was copied, and once the target is back the job goes on to a whole one.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { whyNoSmallDisk } from "../support/small-disk.ts";
import { until } from "../support/until.ts";
import { folderOfEachTest } from "./support/backup-folder.ts";
import type { Done } from "./support/running-machine.ts";
import { stoppedRun } from "./support/stopped-run.ts";

const MiB = 2 ** 20;
const SIZE = 32 * MiB;
const { at, blockwright, qemu } = folderOfEachTest("blockwright-target-gone-");

interface Kind {
  readonly words: string;
  readonly rate: string;
  /** In the directory `to`, which goes; with its format, and what is to be in it. */
  readonly target: string;
  readonly format: "raw" | "qcow2";
  readonly wanted: string;
  /** What is said of a file of zeroes in its place. */
  readonly refusal: string;
}

const NO_QCOW2 = "Image is not in qcow2 format";
const CHANGED = "the target was changed at offset 0 since the checkpoint";
const copied = { target: "image", wanted: "source", rate: "--speed" };
const kinds: Readonly<Record<string, Kind>> = {
  mirror: { ...copied, words: "mirror -f raw -O qcow2 source to/image", format: "qcow2", refusal: NO_QCOW2 },
  backup: { ...copied, words: "backup -f raw -O raw source to/image", format: "raw", refusal: CHANGED },
  convert: {
    ...{ ...copied, rate: "-r", words: "convert -f raw -O qcow2 source to/image" },
    ...{ format: "qcow2", refusal: NO_QCOW2 },
  },
  stream: { ...copied, words: "stream to/image", format: "qcow2", refusal: "is of other work: it reads" },
  commit: { ...copied, words: "commit top", target: "base", format: "raw", refusal: CHANGED },
};

beforeEach(() => {
  const random = randomness(5);
  writeFileSync(
    at("source"),
    Uint32Array.from({ length: SIZE / 4 }, () => random(2 ** 32)),
  );
  mkdirSync(at("to"));
});

/** What the job begins with. */
function prepare(name: string): void {
  const over = (base: string, image: string): string =>
    qemu("img", "create", "-q", "-f", "qcow2", "-b", at(base), "-F", "raw", image);
  if (name === "stream") over("source", "to/image");
  if (name !== "commit") return;
  writeFileSync(at("to", "base"), new Uint8Array(SIZE));
  over("to/base", "top");
  qemu("img", "convert", "-n", "-f", "raw", "-O", "qcow2", "source", "top");
}

/** It has told of what it copied. */
const isUnderWay = (): boolean =>
  existsSync(at("ckpt")) && readFileSync(at("ckpt")).includes('"stage":"copying"');

/** Runs the job until it has a checkpoint, and again where it was done before; lets `meanwhile` happen then. */
async function caught(name: string, begin: () => void, meanwhile: () => void): Promise<Done> {
  const { words, rate } = kinds[name]!;
  for (;;) {
    begin();
    const line = `${words} ${rate} 8M --checkpoint ckpt`;
    const done = await stoppedRun({ cwd: at(), line, isThere: isUnderWay, meanwhile });
    if (done) return done;
    for (const path of ["to", "top"]) rmSync(at(path), { recursive: true, force: true });
    mkdirSync(at("to"));
  }
}

const resume = (name: string): Done => blockwright(`job resume ckpt ${kinds[name]!.rate} 1G`);

function expectResumed(name: string): void {
  const { target, format, wanted } = kinds[name]!;
  const { status, stderr } = resume(name);
  expect([status, stderr]).toEqual([0, ""]);
  const words = ["compare", "-f", "raw", "-F", format, wanted, `to/${target}`];
  expect(qemu("img", ...words)).toBe("Images are identical.\n");
  expect(existsSync(at("ckpt"))).toBe(false);
}

describe.each(Object.keys(kinds))("%s", (name) => {
  const { target, refusal } = kinds[name]!;
  const goneWords = `${target}' has gone while it was written: `;

  it("says that its target's directory went, and goes on once it is back", async () => {
    const told = await caught(
      name,
      () => prepare(name),
      () => renameSync(at("to"), at("away")),
    );
    expect([told.status, told.stderr]).toEqual([
      1,
      expect.stringContaining(`${goneWords}No such file or directory`) as string,
    ]);
    const early = resume(name);
    expect([early.status, early.stderr]).toEqual([
      1,
      expect.stringMatching(/Could not open .*No such file/) as string,
    ]);
    expect(isUnderWay()).toBe(true);
    expect(existsSync(at("to"))).toBe(false);
    renameSync(at("away"), at("to"));
    expectResumed(name);
  });

  it("mixes nothing with another file in its target's place", async () => {
    const other = Buffer.alloc(SIZE);
    const told = await caught(
      name,
      () => prepare(name),
      () => {
        renameSync(at("to", target), at("away"));
        writeFileSync(at("to", target), other);
      },
    );
    expect([told.status, told.stderr]).toEqual([
      1,
      expect.stringContaining(`${goneWords}another file has its name`) as string,
    ]);
    const refused = resume(name);
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining(refusal) as string]);
    expect(readFileSync(at("to", target)).equals(other)).toBe(true);
    renameSync(at("away"), at("to", target));
    expectResumed(name);
  });
});

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`a part of target-gone.test.ts is skipped: ${reason}`);

describe.skipIf(reason !== undefined)("a target's file system", () => {
  const mount = (...words: string[]): void => void execFileSync("mount", words, { stdio: "pipe" });
  const unmount = (): void => void execFileSync("umount", ["-l", at("to")], { stdio: "pipe" });

  const begin = (): void => {
    rmSync(at("real"), { recursive: true, force: true });
    mkdirSync(at("real"));
    mount("--bind", at("real"), at("to"));
  };

  afterEach(() => {
    try {
      unmount();
    } catch {
      // It is gone already.
    }
  });

  it.each(["mirror", "convert"])("that is unmounted, and read-only for a while, ends a %s", async (name) => {
    const told = await caught(name, begin, unmount);
    expect([told.status, told.stderr]).toEqual([
      1,
      expect.stringContaining("'to/image' has gone while it was written: No such file") as string,
    ]);
    mount("--bind", at("real"), at("to"));
    mount("-o", "remount,bind,ro", at("to"));
    const refused = resume(name);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/Could not open 'to\/image': Read-only file system\n$/) as string,
    ]);
    mount("-o", "remount,bind,rw", at("to"));
    expectResumed(name);
  });
});

describe("a server of a target", () => {
  let server: ChildProcess | undefined;
  const serve = async (): Promise<void> => {
    rmSync(at("socket"), { force: true });
    server = spawn("qemu-nbd", ["-t", "-k", at("socket"), "-f", "raw", at("to", "image")], {
      stdio: "inherit",
    });
    await until("it serves", () => existsSync(at("socket")));
  };

  afterEach(() => void server?.kill("SIGKILL"));

  it.each([
    ["mirror", "mirror -f raw -O raw --force"],
    ["backup", "backup -f raw -O raw --force"],
    ["convert", "convert -n -f raw -O raw"],
  ])("that is killed ends a %s, which goes on with the next one", async (name, words) => {
    const { rate } = kinds[name]!;
    const line = `${words} source nbd+unix:///?socket=${at("socket")} ${rate} 8M --checkpoint ckpt`;
    let told: Done | undefined;
    while (!told) {
      writeFileSync(at("to", "image"), new Uint8Array(SIZE));
      await serve();
      told = await stoppedRun({
        cwd: at(),
        line,
        isThere: isUnderWay,
        meanwhile: () => void server!.kill("SIGKILL"),
      });
      server!.kill("SIGKILL");
    }
    expect([told.status, told.stderr]).toEqual([1, expect.stringMatching(/Input\/output error/) as string]);
    expect(isUnderWay()).toBe(true);
    rmSync(at("socket"), { force: true });
    const early = resume(name);
    expect([early.status, early.stderr]).toEqual([
      1,
      expect.stringContaining(`Failed to connect to '${at("socket")}': No such file or directory`) as string,
    ]);
    await serve();
    const { status, stderr } = resume(name);
    expect([status, stderr]).toEqual([0, ""]);
    server!.kill("SIGTERM");
    expect(readFileSync(at("to", "image")).equals(readFileSync(at("source")))).toBe(true);
    expect(existsSync(at("ckpt"))).toBe(false);
  });
});
