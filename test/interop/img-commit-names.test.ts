// The images of a chain by other names: absolute, from the image's folder, through symbolic links; beside qemu-img commit, and
// with stream and commit --top, which find images in the same way.
import { copyFileSync, mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const names = ["base", "mid", "top"];
let twins: Twins;
let root: string;

/** base <- mid <- top in `dir`, which `link` leads to, with data in each; `other` holds another file named base. */
function fill(): void {
  const run = (tool: string, ...words: string[]): unknown => execFileSync(tool, words, { cwd: root });
  mkdirSync(join(root, "dir"));
  mkdirSync(join(root, "other"));
  symlinkSync("dir", join(root, "link"));
  names.forEach((name, index) => {
    const below = index === 0 ? [] : ["-b", names[index - 1]!, "-F", "qcow2"];
    run("qemu-img", "create", "-q", "-f", "qcow2", ...below, `dir/${name}`, ...(index === 0 ? ["1M"] : []));
    run("qemu-io", "-c", `write -q -P ${index + 1} ${index * 64}k 128k`, `dir/${name}`);
  });
  copyFileSync(join(root, "dir/base"), join(root, "other/base"));
}

/** The chain as it was, under the same absolute name. */
function anew(): void {
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root);
  fill();
}

/** What the images of the chain hold by themselves and name as their backing files. */
function state(): string[] {
  const say = (...words: string[]): string =>
    execFileSync("qemu-img", words, { cwd: join(root, "dir"), encoding: "utf8" });
  return names.flatMap((name) => {
    const { "full-backing-filename": backing = "" } = JSON.parse(
      say("info", "--output=json", name),
    ) as Record<string, string>;
    const map = say("map", "--output=json", name).replaceAll(/, "offset": \d+/g, "");
    return [backing, map];
  });
}

beforeEach(() => {
  twins = new Twins();
  root = twins.theirs;
  anew();
});

afterEach(() => twins.remove());

/** Lets both programs work in this folder of the root: absolute names are the same for both. */
function workIn(directory: string): void {
  twins.theirs = join(root, directory);
  twins.share();
}

const inRoot = (line: string): string[] => line.replaceAll("ROOT", root).split(" ");

it.each([
  [".", "ROOT/dir/base", "ROOT/dir/top", 0],
  [".", "ROOT/dir/mid", "dir/top", 0],
  [".", "base", "dir/top", 0],
  [".", "./mid", "dir/top", 0],
  [".", "dir/mid", "dir/top", 1],
  ["dir", "ROOT/dir/base", "top", 0],
  ["dir", "../dir/base", "top", 0],
  ["dir", "../link/base", "top", 0],
  [".", "ROOT/link/base", "dir/top", 0],
  [".", "ROOT/dir/base", "link/top", 0],
  [".", "ROOT/other/base", "dir/top", 1],
  [".", "../other/base", "dir/top", 1],
  [".", "dir/top", "dir/top", 1],
  [".", "file:base", "dir/top", 1],
] as const)("commit, in %s: -b %s %s", (directory, base, image, status) => {
  const line = inRoot(`commit -b ${base} ${image}`);
  workIn(directory);
  const theirs = twins.qemuImg(...line);
  const wanted = state();
  anew();
  const ours = twins.blockwright(...line);
  expect(theirs.status).toBe(status);
  expect(ours).toEqual(theirs);
  expect(state()).toEqual(wanted);
});

it.each([
  ["stream -b ROOT/dir/base top", 0],
  ["stream -b ../link/mid top", 0],
  ["stream -b ROOT/other/base top", 1],
  ["commit -q --top ROOT/link/mid -b ROOT/dir/base top", 0],
  ["commit -q --top ROOT/other/mid top", 1],
] as const)("%s", (line, status) => {
  workIn("dir");
  const { status: said, stderr } = twins.blockwright(...inRoot(line));
  expect({ said, found: !/find|found/.test(stderr) }).toEqual({ said: status, found: status === 0 });
});
