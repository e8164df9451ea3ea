// Verbs whose file system fills up: they say so as qemu-img does and exit with 1, a file that the run made is gone, and an
// image that was there before shows what it showed.
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { type SmallDisk, mountSmallDisk, whyNoSmallDisk } from "../support/small-disk.ts";

const MiB = 2 ** 20;
const program = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`img-full-disk.test.ts is skipped: ${reason}`);

let directory: string;
let disk: SmallDisk;
let source: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-full-verbs-"));
  source = join(directory, "source.raw");
  const random = randomness(11);
  const words = Uint32Array.from({ length: (8 * MiB) / 4 }, () => 1 + random(2 ** 32 - 1));
  writeFileSync(source, new Uint8Array(words.buffer));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

beforeEach(() => {
  if (reason === undefined) disk = mountSmallDisk(6 * MiB);
});

afterEach(() => {
  if (reason === undefined) disk.unmount();
});

function real(...line: string[]): string {
  return execFileSync("qemu-img", line, { encoding: "utf8" });
}

function run(command: string, words: readonly string[]): { status: number | null; stderr: string } {
  const { status, stderr } = spawnSync(command, words, { encoding: "utf8", input: "" });
  return { status, stderr: stderr.replaceAll(/^qemu-img: /gm, "blockwright: ").trim() };
}

const blockwright = (...words: string[]): ReturnType<typeof run> =>
  run(process.execPath, [program, ...words]);

/** Where a write failed follows from how a program cuts its work. */
const withoutPlace = (text: string): string => text.replace(/at byte \d+/, "at byte N");

describe.skipIf(reason !== undefined)("a full disk", () => {
  it.each([
    ["convert", "-f", "raw", "-O", "raw", "SOURCE", "OUT"],
    ["convert", "-f", "raw", "-O", "qcow2", "-t", "none", "SOURCE", "OUT"],
    ["convert", "-f", "raw", "-O", "qcow2", "-c", "SOURCE", "OUT"],
    ["convert", "-f", "raw", "-S", "0", "-m", "2", "SOURCE", "SOURCE", "OUT"],
    ["dd", "-f", "raw", "bs=64k", "if=SOURCE", "of=OUT"],
    ["dd", "-f", "raw", "-O", "qcow2", "if=SOURCE", "of=OUT"],
    ["create", "-q", "-f", "raw", "-o", "preallocation=full", "OUT", "8M"],
    ["create", "-q", "-f", "qcow2", "-o", "preallocation=full", "OUT", "8M"],
  ])("leaves no new file: %s %s %s %s %s", (...line) => {
    const words = line.map((word) => word.replace("SOURCE", source).replace("OUT", disk.path("out")));
    const ours = blockwright(...words);
    expect(readdirSync(disk.path("."))).toEqual([]);
    const theirs = run("qemu-img", words);
    expect(ours.status).toBe(1);
    expect(ours.stderr).toContain("No space left on device");
    expect(withoutPlace(ours.stderr)).toBe(withoutPlace(theirs.stderr));
  });

  it("keeps a target that was there before", () => {
    const target = disk.path("out");
    real("create", "-q", "-f", "qcow2", target, "8M");
    const ours = blockwright("convert", "-n", "-f", "raw", "-O", "qcow2", source, target);
    expect(ours.status).toBe(1);
    expect(existsSync(target)).toBe(true);
    expect(run("qemu-img", ["check", "-q", target]).status).not.toBe(2);
  });

  it.each([
    ["create", "-f", "qcow2", "FILE", "4M"],
    ["create", "-f", "qcow2", "-o", "preallocation=full", "FILE", "16M"],
    ["create", "-f", "raw", "-o", "preallocation=falloc", "FILE", "16M"],
    ["create", "-f", "raw", "-o", "preallocation=full", "FILE", "16M"],
    ["convert", "-f", "raw", "-O", "qcow2", "-o", "preallocation=falloc", "SOURCE", "FILE"],
  ])("keeps what was there where %s %s %s … has no room", (...words) => {
    const file = disk.path("there.raw");
    writeFileSync(file, "what was there");
    disk.fill(6 * MiB - 3 * 4096);
    const { status, stderr } = blockwright(
      ...words.map((word) => ({ FILE: file, SOURCE: source })[word] ?? word),
    );
    expect(stderr).toContain("No space left on device");
    expect(status).toBe(1);
    expect(readFileSync(file, "utf8")).toBe("what was there");
  });

  it("takes the room that the file gives back which is there", () => {
    const file = disk.path("there.raw");
    writeFileSync(file, new Uint8Array(4 * MiB).fill(7));
    disk.fill(1 * MiB);
    const preallocated = ["create", "-q", "-f", "raw", "-o", "preallocation=full", file, "4M"];
    expect(blockwright(...preallocated)).toEqual({ status: 0, stderr: "" });
    expect(blockwright("create", "-q", "-f", "qcow2", file, "1T")).toEqual({ status: 0, stderr: "" });
  });

  it.each([
    ["convert", "-f", "raw", "-O", "qcow2", "SOURCE", "FILE"],
    ["convert", "-f", "raw", "-O", "raw", "SOURCE", "FILE"],
    ["dd", "-f", "raw", "bs=64k", "if=SOURCE", "of=FILE"],
  ])("copies into a file that has to go first, where that makes room, and else keeps it: %s", (...words) => {
    const file = disk.path("there.raw");
    const copy = (from: string): ReturnType<typeof run> =>
      blockwright(...words.map((word) => word.replace("SOURCE", from).replace("FILE", file)));
    const half = join(directory, "half.raw");
    writeFileSync(half, readFileSync(source).subarray(0, 4 * MiB));
    const old = Buffer.alloc(4 * MiB, 7);
    writeFileSync(file, old);
    expect(copy(half)).toEqual({ status: 0, stderr: "" });
    expect(real("compare", "-f", "raw", half, file)).toContain("identical");
    expect(readdirSync(disk.path("."))).toEqual(["there.raw"]);
    writeFileSync(file, old);
    const { status, stderr } = copy(source);
    expect([status, stderr]).toEqual([1, expect.stringContaining("No space left on device")]);
    expect(readFileSync(file).equals(old)).toBe(true);
  });

  it("keeps what an image shows that can't be rebased", () => {
    const image = disk.path("top.qcow2");
    real("create", "-q", "-f", "qcow2", "-b", source, "-F", "raw", image);
    const words = ["rebase", "-b", "", image];
    const ours = blockwright(...words);
    expect(ours).toMatchObject({ status: 1 });
    expect(ours.stderr).toContain("No space left on device");
    expect(real("compare", "-F", "raw", image, source)).toContain("identical");
    expect(run("qemu-img", ["check", "-q", image]).status).not.toBe(2);
  });

  it("does not empty an image that can't be committed", () => {
    const base = disk.path("base.qcow2");
    const top = join(directory, "top.qcow2");
    real("create", "-q", "-f", "qcow2", base, "8M");
    real("convert", "-O", "qcow2", "-f", "raw", source, top);
    real("rebase", "-u", "-b", base, "-F", "qcow2", top);
    const ours = blockwright("commit", top);
    expect(ours.status).toBe(1);
    expect(ours.stderr).toContain("No space left on device");
    expect(real("compare", "-F", "raw", top, source)).toContain("identical");
    expect(run("qemu-img", ["check", "-q", top]).status).toBe(0);
    expect(run("qemu-img", ["check", "-q", base]).status).not.toBe(2);
  });

  it.each([
    ["resize", "IMAGE", "4T"],
    ["snapshot", "-c", "s", "IMAGE"],
    ["bitmap", "--add", "IMAGE", "b"],
  ])("names what failed first, not that the closing failed too: %s", (...line) => {
    const image = disk.path("image.qcow2");
    real("create", "-q", "-f", "qcow2", image, "4M");
    real("bitmap", "--add", image, "old");
    disk.fill(6 * MiB - 4096 - 512 * 1024);
    // What is left is taken in small pieces, until no cluster fits any more.
    for (let piece = 0; ; piece++) {
      try {
        writeFileSync(disk.path(`hog${piece}`), new Uint8Array(4096).fill(1));
      } catch {
        break;
      }
    }
    const ours = blockwright(...line.map((word) => word.replace("IMAGE", image)));
    expect(ours.status).toBe(1);
    expect(ours.stderr).toMatch(/^blockwright: .*No space left on device\)?$/);
    expect(run("qemu-img", ["check", "-q", image]).status).not.toBe(2);
  });

  it.each([
    ["raw", "full"],
    ["qcow2", "full"],
    ["qcow2", "falloc"],
  ])("keeps the length of an image that can't grow: %s, %s", (format, mode) => {
    const image = disk.path("out");
    real("create", "-q", "-f", format, image, "1M");
    const words = ["resize", "-f", format, `--preallocation=${mode}`, image, "20M"];
    const ours = blockwright(...words);
    expect(JSON.parse(real("info", "--output=json", image))).toMatchObject({ "virtual-size": MiB });
    if (format === "qcow2") expect(run("qemu-img", ["check", "-q", image]).status).not.toBe(2);
    rmSync(image);
    real("create", "-q", "-f", format, image, "1M");
    expect(ours).toEqual(run("qemu-img", words));
    expect(ours.status).toBe(1);
  });
});
