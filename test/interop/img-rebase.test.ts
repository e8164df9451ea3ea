// rebase beside qemu-img rebase: the same words and exit codes; the image shows what it showed before, for the real tools
// too, is clean in the real check, and takes the same from its new backing file as an image that the original rebased.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Twins, words } from "./support/twins.ts";

let twins: Twins;

/** Images that are changed, kept as they were. */
const overlays = [
  "top.qcow2",
  "over.qcow2",
  "sub.qcow2",
  "tiny.qcow2",
  "alone.qcow2",
  "old.qcow2",
  "sub/top.qcow2",
];

beforeAll(() => {
  twins = new Twins();
  for (const [name, size] of [
    ["base", "4M"],
    ["same", "4M"],
    ["long", "7M"],
    ["short", "1M"],
  ] as const)
    twins.run("qemu-img", `create -q -f qcow2 ${name}.qcow2 ${size}`);
  twins.write("base.qcow2", "write -P 1 0 2M", "write -P 2 3000k 300k");
  twins.write("same.qcow2", "write -P 1 0 1500k", "write -P 2 3000k 300k", "write -P 7 3500k 10k");
  twins.write("long.qcow2", "write -P 3 0 1M", "write -P 4 4M 3M");
  twins.write("short.qcow2", "write -P 5 0 1M");
  twins.run("qemu-img", "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 5M");
  twins.write(
    "top.qcow2",
    "write -P 9 64k 64k",
    "write -z 1M 128k",
    "write -P 8 4500k 10k",
    "write -P 6 1234567 9",
  );
  twins.run("qemu-img", "create -q -f qcow2 -b top.qcow2 -F qcow2 over.qcow2 6M");
  twins.write("over.qcow2", "write -P 10 3M 100k");
  twins.run("qemu-img", "create -q -f qcow2 -o extended_l2=on -b base.qcow2 -F qcow2 sub.qcow2");
  twins.write("sub.qcow2", "write -P 11 10k 3k", "write -z 100k 4k");
  twins.run("qemu-img", "create -q -f qcow2 -o cluster_size=512 -b base.qcow2 -F qcow2 tiny.qcow2 3M");
  twins.write("tiny.qcow2", "write -P 12 1000 5000");
  twins.run("qemu-img", "create -q -f qcow2 alone.qcow2 2M");
  twins.write("alone.qcow2", "write -P 13 1M 64k");
  twins.run("qemu-img", "create -q -f qcow2 -o compat=0.10 -b base.qcow2 -F qcow2 old.qcow2 3M");
  twins.run("qemu-img", "create -q -f qcow2 -o data_file=data.raw,data_file_raw=on rawdata.qcow2 1M");
  mkdirSync(join(twins.theirs, "sub"));
  twins.run("qemu-img", "create -q -f qcow2 -b ../base.qcow2 -F qcow2 sub/top.qcow2");
  twins.write("sub/top.qcow2", "write -P 14 0 64k");
  for (const name of ["orphan", "lost"])
    twins.run("qemu-img", `create -q -u -f qcow2 -b gone.qcow2 -F qcow2 ${name}.qcow2 1M`);
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(1_500_001).fill(1));
  mkdirSync(join(twins.theirs, "kept", "sub"), { recursive: true });
  for (const name of overlays) copyFileSync(join(twins.theirs, name), join(twins.theirs, "kept", name));
  for (const name of overlays) {
    const flat = join(twins.theirs, `${name}.flat`);
    execFileSync("qemu-img", ["convert", "-O", "raw", join(twins.theirs, name), flat]);
  }
  twins.same();
});

beforeEach(() => {
  for (const directory of [twins.theirs, twins.ours])
    for (const name of overlays) copyFileSync(join(twins.theirs, "kept", name), join(directory, name));
});

afterAll(() => twins.remove());

function real(...line: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-img", line, { cwd: twins.ours, encoding: "utf8" });
  return `${status} ${stdout}${stderr}`;
}

/** The ranges that an image holds itself. */
function ownRanges(directory: string, image: string): string[] {
  const line = ["map", "--output=json", image];
  const { stdout } = spawnSync("qemu-img", line, { cwd: directory, encoding: "utf8" });
  const joined: [number, number][] = [];
  interface Entry {
    start: number;
    length: number;
    depth: number;
    present: boolean;
  }
  for (const { start, length, depth, present } of JSON.parse(stdout) as Entry[]) {
    if (depth !== 0 || !present) continue;
    const last = joined.at(-1);
    if (last?.[1] === start) last[1] = start + length;
    else joined.push([start, start + length]);
  }
  return joined.map(([start, end]) => `${start}-${end}`);
}

describe("rebase", () => {
  it.each([
    ["top.qcow2", "-b same.qcow2 -F qcow2 top.qcow2"],
    ["top.qcow2", "-p -b long.qcow2 -F qcow2 top.qcow2"],
    ["top.qcow2", "-q -p -b short.qcow2 -F qcow2 top.qcow2"],
    ["top.qcow2", "-b '' top.qcow2"],
    ["top.qcow2", "-f qcow2 -t none -T none -b same.qcow2 -F qcow2 top.qcow2"],
    ["top.qcow2", "-b odd.raw -F raw top.qcow2"],
    ["top.qcow2", "-b base.qcow2 -F qcow2 top.qcow2"],
    ["over.qcow2", "-p -b base.qcow2 -F qcow2 over.qcow2"],
    ["over.qcow2", "-b long.qcow2 -F qcow2 over.qcow2"],
    ["over.qcow2", "-t unsafe -b '' -F qcow2 over.qcow2"],
    ["sub.qcow2", "-b same.qcow2 -F qcow2 sub.qcow2"],
    ["tiny.qcow2", "-b long.qcow2 -F qcow2 tiny.qcow2"],
    ["tiny.qcow2", "-b short.qcow2 -b odd.raw -F raw tiny.qcow2"],
    ["alone.qcow2", "-b long.qcow2 -F qcow2 alone.qcow2"],
    ["alone.qcow2", "-p -b '' alone.qcow2"],
    ["old.qcow2", "-b short.qcow2 -F qcow2 old.qcow2"],
    ["sub/top.qcow2", "-b ../same.qcow2 -F qcow2 sub/top.qcow2"],
    ["top.qcow2", "--image-opts -b short.qcow2 -F qcow2 driver=qcow2,file.filename=top.qcow2"],
    ["top.qcow2", "-U -b short.qcow2 -F qcow2 top.qcow2"],
  ])("keeps the content of %s: %s", async (image, line) => {
    const { ours, theirs } = await twins.pair("rebase", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    expect(real("check", image)).toMatch(/^0 No errors/);
    expect(real("compare", "-F", "raw", image, `${image}.flat`)).toMatch(/^0 Images are identical/);
    expect(twins.info(twins.ours, image)).toEqual(twins.info(twins.theirs, image));
    expect(ownRanges(twins.ours, image)).toEqual(ownRanges(twins.theirs, image));
  });

  it.each([
    ["top.qcow2", "-u -b gone.qcow2 -F qcow2 top.qcow2"],
    ["top.qcow2", "-u -p -b '' top.qcow2"],
    ["top.qcow2", "-u top.qcow2"],
    ["top.qcow2", "-u -F qcow2 top.qcow2"],
    ["top.qcow2", `-u -b ${"n".repeat(1000)} -F raw top.qcow2`],
    ["orphan.qcow2", "-u -q -b base.qcow2 -F qcow2 orphan.qcow2"],
    ["old.qcow2", "-u -b short.qcow2 -F vmdk old.qcow2"],
  ])("changes only the header of %s: %s", async (image, line) => {
    const { ours, theirs } = await twins.pair("rebase", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    expect(twins.info(twins.ours, image)).toEqual(twins.info(twins.theirs, image));
    expect(real("check", "-U", "--image-opts", `driver=qcow2,backing=,file.filename=${image}`)).toMatch(
      /^[01] /,
    );
  });

  it.each([
    "",
    "top.qcow2",
    "-b base.qcow2",
    "-b base.qcow2 top.qcow2 over.qcow2",
    "-b none.qcow2 -F qcow2 top.qcow2",
    "-b base.qcow2 -F qcow2 none.qcow2",
    "-b base.qcow2 -F nope top.qcow2",
    "-u -b base.qcow2 -F nope top.qcow2",
    "-b same.qcow2 top.qcow2",
    "-u -b same.qcow2 top.qcow2",
    "-f nope -b '' top.qcow2",
    "-f qcow2 -b '' odd.raw",
    "-f raw -b '' odd.raw",
    "-u -f raw -b base.qcow2 -F qcow2 odd.raw",
    "-u -f raw odd.raw",
    "-t nope -b '' top.qcow2",
    "-T nope -b '' top.qcow2",
    "-p -b none.qcow2 -F qcow2 top.qcow2",
    "-b '' lost.qcow2",
    "-b odd.raw -F qcow2 top.qcow2",
    "-b same.qcow2 -F qcow2 sub/top.qcow2",
    "-b base.qcow2 -F qcow2 rawdata.qcow2",
    "-u -b base.qcow2 -F qcow2 rawdata.qcow2",
    "-b top.qcow2 -F qcow2 top.qcow2",
    "-b over.qcow2 -F qcow2 top.qcow2",
    "--image-opts -f qcow2 -b '' driver=qcow2,file.filename=top.qcow2",
    `-u -b ${"n".repeat(1030)} -F raw top.qcow2`,
    `-u -b ${"n".repeat(500)} -F raw tiny.qcow2`,
    "-x -b base.qcow2 top.qcow2",
    "top.qcow2 -b",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("rebase", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    for (const name of overlays.filter((overlay) => line.includes(overlay)))
      expect(twins.info(twins.ours, name)).toEqual(twins.info(twins.theirs, name));
    expect(readdirSync(twins.ours)).not.toContain("none.qcow2");
  });
});
