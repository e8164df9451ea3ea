// commit beside qemu-img commit: the same words and exit codes; the same content in the image below, the overlay emptied or
// not, all of it clean in the real check, and a chain that shows what it showed before.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Twins, words } from "./support/twins.ts";

let twins: Twins;

const images = ["base", "top", "over", "short", "tiny", "old", "sub", "snap", "marked"].map(
  (name) => `${name}.qcow2`,
);
/** What shows the whole of each chain. */
const overlays = images.slice(1);

beforeAll(() => {
  twins = new Twins();
  const over = (below: string, options: string): void =>
    twins.run(
      "qemu-img",
      `create -q -f qcow2 -b ${below} -F ${/raw/.test(below) ? "raw" : "qcow2"} ${options}`,
    );
  twins.run("qemu-img", "create -q -f qcow2 base.qcow2 4M");
  twins.write("base.qcow2", "write -P 1 0 3M");
  over("base.qcow2", "top.qcow2 6M");
  twins.write(
    "top.qcow2",
    "write -P 2 64k 64k",
    "write -z 1M 128k",
    "write -P 3 5M 10k",
    "write -P 4 1234567 9",
  );
  over("top.qcow2", "over.qcow2 6M");
  twins.write("over.qcow2", "write -P 5 3M 100k", "write -z 64k 4k");
  over("base.qcow2", "short.qcow2 1M");
  twins.write("short.qcow2", "write -P 6 0 100k");
  over("base.qcow2", "-o cluster_size=512 tiny.qcow2 3M");
  twins.write("tiny.qcow2", "write -P 7 1000 5000");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(1_500_001).fill(1));
  over("odd.raw", "-o compat=0.10 old.qcow2 3M");
  twins.write("old.qcow2", "write -P 8 100k 300k", "write -P 9 2900k 10k");
  over("base.qcow2", "-o extended_l2=on sub.qcow2");
  twins.write("sub.qcow2", "write -P 10 10k 3k", "write -z 100k 4k");
  over("base.qcow2", "snap.qcow2");
  twins.write("snap.qcow2", "write -P 11 0 1M");
  twins.run("qemu-img", "snapshot -c one snap.qcow2");
  twins.write("snap.qcow2", "write -P 12 512k 100k");
  over("base.qcow2", "marked.qcow2");
  twins.run("qemu-img", "bitmap --add marked.qcow2 b");
  twins.write("marked.qcow2", "write -P 13 512k 100k");
  twins.run("qemu-img", "create -q -u -f qcow2 -b gone.qcow2 -F qcow2 lost.qcow2 1M");
  twins.run("qemu-img", "create -q -f qcow2 alone.qcow2 1M");
  mkdirSync(join(twins.theirs, "kept"));
  for (const name of [...images, "odd.raw"])
    copyFileSync(join(twins.theirs, name), join(twins.theirs, "kept", name));
  for (const name of overlays) twins.run("qemu-img", `convert -O raw ${name} ${name}.flat`);
  twins.same();
});

beforeEach(() => {
  for (const directory of [twins.theirs, twins.ours])
    for (const name of [...images, "odd.raw"])
      copyFileSync(join(twins.theirs, "kept", name), join(directory, name));
});

afterAll(() => twins.remove());

function real(...line: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-img", line, { cwd: twins.ours, encoding: "utf8" });
  return `${status} ${stdout}${stderr}`;
}

/** Whether an image holds anything itself. */
function holds(directory: string, image: string): boolean {
  const line = ["map", "--output=json", image];
  const { stdout } = spawnSync("qemu-img", line, { cwd: directory, encoding: "utf8" });
  const map = JSON.parse(stdout) as { depth: number; present: boolean; zero: boolean }[];
  return map.some(({ depth, present }) => depth === 0 && present);
}

describe("commit", () => {
  it.each([
    ["top.qcow2", "base.qcow2", "top.qcow2"],
    ["top.qcow2", "base.qcow2", "-p -d top.qcow2"],
    ["over.qcow2", "top.qcow2", "over.qcow2"],
    ["over.qcow2", "base.qcow2", "-b base.qcow2 over.qcow2"],
    ["over.qcow2", "top.qcow2", "-b ./top.qcow2 -p over.qcow2"],
    ["over.qcow2", "base.qcow2", "-q -p -d -b base.qcow2 over.qcow2"],
    ["short.qcow2", "base.qcow2", "-f qcow2 -t none short.qcow2"],
    ["tiny.qcow2", "base.qcow2", "-t unsafe -p tiny.qcow2"],
    ["old.qcow2", "odd.raw", "old.qcow2"],
    ["sub.qcow2", "base.qcow2", "-r 100M sub.qcow2"],
    ["snap.qcow2", "base.qcow2", "-q -r 0 snap.qcow2"],
    ["marked.qcow2", "base.qcow2", "-t writethrough marked.qcow2"],
    ["top.qcow2", "base.qcow2", "--image-opts driver=qcow2,file.filename=top.qcow2"],
    ["top.qcow2", "base.qcow2", 'json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}}'],
    ["over.qcow2", "top.qcow2", "-b top.qcow2 -r 1G -t directsync over.qcow2"],
  ])("commits %s into %s as qemu-img does: %s", async (image, below, line) => {
    const { ours, theirs } = await twins.pair("commit", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    const flags = below === "odd.raw" ? ["-f", "raw", "-F", "raw"] : [];
    expect(real("compare", ...flags, join(twins.theirs, below), below)).toMatch(/^0 Images are identical/);
    expect(real("compare", "-F", "raw", image, `${image}.flat`)).toMatch(/^0 Images are identical/);
    for (const name of [image, below].filter((file) => /qcow2/.test(file))) {
      expect(real("check", name)).toMatch(/^0 No errors/);
      expect(twins.info(twins.ours, name)).toEqual(twins.info(twins.theirs, name));
      expect(`${name} ${holds(twins.ours, name)}`).toBe(`${name} ${holds(twins.theirs, name)}`);
    }
    if (image === "snap.qcow2") {
      real("convert", "-l", "one", "-O", "raw", image, "ours.flat");
      execFileSync("qemu-img", ["convert", "-l", "one", "-O", "raw", image, "theirs.flat"], {
        cwd: twins.theirs,
      });
      expect(real("compare", "ours.flat", join(twins.theirs, "theirs.flat"))).toMatch(
        /^0 Images are identical/,
      );
    }
  });

  it.each([
    "",
    "top.qcow2 over.qcow2",
    "none.qcow2",
    "-t nope top.qcow2",
    "-r x top.qcow2",
    "-r -1 top.qcow2",
    "-b '' top.qcow2",
    "-b none.qcow2 top.qcow2",
    "-p -b top.qcow2 top.qcow2",
    "-b over.qcow2 top.qcow2",
    "alone.qcow2",
    "-p alone.qcow2",
    "-f raw odd.raw",
    "-f raw top.qcow2",
    "-f nope top.qcow2",
    "-f qcow2 odd.raw",
    "lost.qcow2",
    "-q none.qcow2",
    "--image-opts -f qcow2 driver=qcow2,file.filename=top.qcow2",
    "--image-opts driver=qcow2,file.filename=none.qcow2",
    "-x top.qcow2",
    "-T none top.qcow2",
    "-U top.qcow2",
    "top.qcow2 -r",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("commit", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    for (const name of ["top.qcow2", "over.qcow2"])
      expect(real("compare", "-F", "raw", name, `${name}.flat`)).toMatch(/^0 Images are identical/);
    expect(readdirSync(twins.ours)).not.toContain("none.qcow2");
  });

  it("says who holds the image below, and changes nothing", async () => {
    const holders = [twins.theirs, twins.ours].map((cwd) =>
      spawn("qemu-io", ["-r", "base.qcow2"], { cwd, stdio: ["pipe", "pipe", "ignore"] }),
    );
    for (const holder of holders) await once(holder.stdout, "data");
    const { ours, theirs } = await twins.pair("commit", "top.qcow2");
    for (const holder of holders) {
      holder.stdin.end("quit\n");
      await once(holder, "close");
    }
    expect(theirs.stderr).toContain("Is another process using the image [base.qcow2]?");
    expect(ours).toEqual(theirs);
    expect(real("compare", "-F", "raw", "top.qcow2", "top.qcow2.flat")).toMatch(/^0 Images are identical/);
  });
});
