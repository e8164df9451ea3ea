// blkverify beside qemu-io: requests on an image and on its plain copy, by name and by options; where the two differ the words are
// those with which qemu-io ends.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { program, runVerb } from "../support/verb-client.ts";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-verify-"));
  for (const format of ["raw", "qcow2"]) img("create", "-q", "-f", format, `a.${format}`, "1M");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function img(...words: string[]): string {
  return execFileSync("qemu-img", words, { cwd: folder, encoding: "utf8" });
}

const said = ({ stdout, stderr }: { stdout: string; stderr: string }): string[] =>
  `${stdout}${stderr}`
    .split("\n")
    .flatMap((line) => (/bytes at offset|^blkverify:/.test(line) ? [line] : []));

function real(...words: string[]): string[] {
  return said(spawnSync("qemu-io", words, { cwd: folder, encoding: "utf8" }));
}

function ours(...words: string[]): string[] {
  return said(runVerb(["io", ...words], { cwd: folder, input: "" }));
}

const NAME = "blkverify:a.raw:a.qcow2";
const commands = ["write -P 5 64k 3k", "discard 0 64k", "read -P 5 64k 1k", "read 0 1M", "flush"];
const options = "driver=raw,file.driver=blkverify,file.raw.filename=a.raw,file.test.file.filename=a.qcow2";

it.each([
  ["-f", "raw", NAME],
  ["--image-opts", `${options},file.test.driver=qcow2`],
])("does the requests on both: %s %s", (...words: string[]) => {
  const all = [...commands.flatMap((command) => ["-c", command]), ...words];
  expect(ours(...all)).toEqual(real(...all));
  // qemu-io 7.2 aborts on zeroes.
  expect(ours("-c", "write -z 65k 1k", "-c", "read -P 0 65k 1k", ...words)).toHaveLength(2);
  expect(img("compare", "-f", "raw", "-F", "qcow2", "a.raw", "a.qcow2")).toContain("identical");
  expect(readFileSync(join(folder, "a.raw")).indexOf(5)).toBe(65_536);
});

it("says where the two differ, and fails the request", () => {
  execFileSync("qemu-io", ["-f", "raw", "-c", "write -P 1 700 512", "a.raw"], { cwd: folder });
  const words = ["-f", "raw", "-c", "read 512 4k", NAME];
  expect(ours(...words).join()).toContain(
    "blkverify: read offset=512 bytes=4096 contents mismatch at offset 700",
  );
  expect(real(...words).join()).toContain(
    "blkverify: read offset=512 bytes=4096 contents mismatch at offset 700",
  );
  // The program goes on, and what is the same can be read.
  expect(ours("-f", "raw", "-c", "read 512 4k", "-c", "read 64k 4k", NAME)).toHaveLength(2);
});

it.each([
  ["blkverify", NAME],
  ["quorum", "quorum"],
])("ends the program as qemu-io does, under its name: %s", (what, name) => {
  execFileSync("qemu-io", ["-f", "raw", "-c", "write -P 1 700 512", "a.raw"], { cwd: folder });
  const copies = "children.0.driver=raw,children.0.file.filename=a.raw,children.1.file.filename=a.qcow2";
  const opened =
    what === "quorum"
      ? ["--image-opts", `driver=quorum,vote-threshold=2,blkverify=on,children.1.driver=qcow2,${copies}`]
      : ["-f", "raw", name];
  const words = ["-c", "read 512 4k", "-c", "read 64k 4k", ...opened];
  const ended = (command: string, ...before: string[]): unknown => {
    const { status, stdout, stderr } = spawnSync(command, [...before, ...words], {
      cwd: folder,
      encoding: "utf8",
    });
    return [status, stdout, stderr];
  };
  const real = ended("qemu-io");
  expect(real).toEqual([1, "", expect.stringContaining(`${what}: `)]);
  expect(ended(process.execPath, program, "--run-as=qemu-io")).toEqual(real);
});

it("says that only one of the two could do the request", () => {
  const broken = `${options},file.test.driver=qcow2`.replace(
    "file.raw.filename",
    "file.raw.driver=blkdebug,file.raw.inject-error.0.event=none,file.raw.inject-error.0.iotype=write,file.raw.image.filename",
  );
  const words = ["--image-opts", "-c", "write 0 4k", broken];
  const expected = ["blkverify: write offset=0 bytes=4096 return value mismatch 0 != -5"];
  expect(real(...words)).toEqual(expected);
  expect(ours(...words).join()).toContain(expected[0]);
});

it.each(["blkverify:a.raw", "blkverify:missing:a.qcow2"])("refuses %s", (name) => {
  const mine = runVerb(["io", "-f", "raw", "-c", "length", name], { cwd: folder, input: "" });
  const theirs = spawnSync("qemu-io", ["-f", "raw", "-c", "length", name], { cwd: folder, encoding: "utf8" });
  expect(mine.stderr.replace(/^blockwright[^:]*/, "qemu-io")).toBe(theirs.stderr);
});
