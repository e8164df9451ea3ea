// snapshot beside qemu-img snapshot: lists, and images after a snapshot was made, applied or deleted, by either program. Dates
// of snapshots that the two programs have just made may differ by what their start takes, so those are compared without.
import { execFileSync, spawnSync } from "node:child_process";
import { copyFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Outcome, Twins, words } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const run = (tool: string, line: string): unknown => execFileSync(tool, words(line), { cwd: twins.theirs });
  const write = (image: string, command: string): unknown =>
    execFileSync("qemu-io", ["-c", command, image], { cwd: twins.theirs });
  run("qemu-img", "create -q -f qcow2 empty.qcow2 4M");
  run("qemu-img", "create -q -f qcow2 full.qcow2 4M");
  for (const [pattern, name] of ["one", "2", "one", "a-name-that-is-longer-than-its-column"].entries()) {
    write("full.qcow2", `write -P ${pattern + 1} ${pattern * 300}k 500k`);
    run("qemu-img", `snapshot -c ${name} full.qcow2`);
  }
  run("qemu-img", "resize -q full.qcow2 6M");
  write("full.qcow2", "write -P 9 5M 100k");
  run("qemu-img", "create -q -f qcow2 -o compat=0.10,cluster_size=4k old.qcow2 3M");
  write("old.qcow2", "write -P 1 10k 700k");
  run("qemu-img", "snapshot -c old old.qcow2");
  write("old.qcow2", "write -P 2 300k 700k");
  run("qemu-img", "create -q -f qcow2 -b full.qcow2 -F qcow2 top.qcow2");
  run("qemu-img", "bitmap --add empty.qcow2 b");
  run("qemu-img", "snapshot -c x empty.qcow2");
  run("qemu-img", "create -q -f qcow2 -o extended_l2=on sub.qcow2 3M");
  write("sub.qcow2", "write -P 1 10k 700k");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_001).fill(1));
  run("mkdir", "kept");
  for (const name of images) copyFileSync(join(twins.theirs, name), join(twins.theirs, "kept", name));
});

const images = ["empty.qcow2", "full.qcow2", "old.qcow2", "top.qcow2", "sub.qcow2", "odd.raw"];

beforeEach(() => {
  for (const name of images) copyFileSync(join(twins.theirs, "kept", name), join(twins.theirs, name));
  twins.same();
});

afterAll(() => twins.remove());

function real(...line: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-img", line, { cwd: twins.ours, encoding: "utf8" });
  return `${status} ${stdout}${stderr}`;
}

/** Without the dates of a list, and with a warning that is told twice told once. */
function timeless({ status, stdout, stderr }: Outcome): Outcome {
  const warning = /(?:(WARNING: [^]*?remove the restrictions\.\n?))+/;
  return {
    status,
    stdout: stdout.replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, "DATE"),
    stderr: stderr.replace(warning, "$1"),
  };
}

/** Everything that qemu-img sees of an image, dates aside. */
function seen(directory: string, image: string): unknown {
  const { stdout } = spawnSync("qemu-img", ["info", "--output=json", "-U", image], {
    cwd: directory,
    encoding: "utf8",
  });
  const { "actual-size": _, snapshots = [], ...info } = JSON.parse(stdout) as Record<string, unknown>;
  const dated = snapshots as { "date-sec": number; "date-nsec": number }[];
  const list = dated.map(({ "date-sec": _seconds, "date-nsec": _nanoseconds, ...snapshot }) => snapshot);
  return { ...info, snapshots: list };
}

describe("snapshot", () => {
  it.each([
    "-l full.qcow2",
    "full.qcow2",
    '-l json:{"file.filename":"full.qcow2"}',
    "-q -U -l full.qcow2",
    "-l old.qcow2",
    "-l sub.qcow2",
    "-l top.qcow2",
    "-l odd.raw",
    "--image-opts -l driver=qcow2,file.filename=full.qcow2",
    '-l json:{"driver":"qcow2","file":{"driver":"file","filename":"full.qcow2"}}',
  ])("lists as qemu-img does: %s", async (line) => {
    const { ours, theirs } = await twins.pair("snapshot", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
  });

  it.each([
    ["full.qcow2", "-c new full.qcow2"],
    ["full.qcow2", "-q -c one full.qcow2"],
    ["empty.qcow2", "-c 17 empty.qcow2"],
    ["sub.qcow2", "-c new sub.qcow2"],
    ["top.qcow2", "-c new top.qcow2"],
    ["old.qcow2", "--image-opts -c new driver=qcow2,file.filename=old.qcow2"],
    ["full.qcow2", `-c ${"n".repeat(300)} full.qcow2`],
    ["full.qcow2", "-a 1 full.qcow2"],
    ["full.qcow2", "-a 2 full.qcow2"],
    ["full.qcow2", "-a one full.qcow2"],
    ["old.qcow2", "-q -a old old.qcow2"],
    ["full.qcow2", "-d one full.qcow2"],
    ["full.qcow2", "-d 2 full.qcow2"],
    ["old.qcow2", "-d old old.qcow2"],
    ["empty.qcow2", "-d x empty.qcow2"],
  ])("changes %s as qemu-img does: %s", async (image, line) => {
    const { ours, theirs } = await twins.pair("snapshot", ...words(line));
    expect(theirs).toMatchObject({ status: 0, stdout: "" });
    expect(ours).toEqual(theirs);
    expect(seen(twins.ours, image)).toEqual(seen(twins.theirs, image));
    expect(real("check", image)).toMatch(/^0 No errors/);
    expect(real("compare", image, join(twins.theirs, image))).toMatch(/^0 Images are identical/);
    const lists = await twins.pair("snapshot", "-l", image);
    expect(timeless(lists.ours)).toEqual(timeless(lists.theirs));
  });

  it.each([
    "",
    "full.qcow2 old.qcow2",
    "-l none.qcow2",
    "-l -l full.qcow2",
    "-l -c x full.qcow2",
    "-c x -d one full.qcow2",
    "-a one -a one full.qcow2",
    "-a nope full.qcow2",
    "-d nope full.qcow2",
    "-d 3 full.qcow2",
    "-q -d nope full.qcow2",
    "-U -c x full.qcow2",
    "-U -a one full.qcow2",
    "-a x empty.qcow2",
    "-c x odd.raw",
    "-a x odd.raw",
    "-d x odd.raw",
    "-c x none.qcow2",
    "-c x json:{x",
    "-c x json:{}",
    "-c x json:[]",
    '-l json:{"driver":"nope","file":{"driver":"file","filename":"full.qcow2"}}',
    '-l json:{"driver":"qcow2","file":{"driver":"file"}}',
    "--image-opts -l full.qcow2",
    "--image-opts -l filename=full.qcow2",
    "--image-opts -l driver=nope,file.filename=full.qcow2",
    "--image-opts -l driver=qcow2,x=1,file.filename=full.qcow2",
    "--image-opts -c x driver=qcow2",
    "-f qcow2 -l full.qcow2",
    "-x full.qcow2",
    "full.qcow2 -c",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("snapshot", ...words(line));
    expect(theirs.status).toBe(1);
    expect(timeless(ours)).toEqual(timeless(theirs));
    for (const image of images.slice(0, 5)) expect(real("check", image)).toMatch(/^0 No errors/);
  });

  it("says what it could not free", () => {
    for (const folder of [twins.theirs, twins.ours])
      writeFileSync(join(folder, "rules"), '[inject-error]\nevent = "cluster_free"\nerrno = "5"\n');
    const { ours, theirs } = twins.both("snapshot", "-d", "2", "blkdebug:rules:full.qcow2");
    // QEMU tells after it that its caches can't be flushed either.
    expect(theirs.stderr.split("\n")).toContain(ours.stderr);
    expect(ours.status).toBe(theirs.status);
    expect(ours.stderr).toContain("Failed to free the cluster and L1 table: Input/output error");
    // Leaks, and nothing worse.
    expect(real("check", "full.qcow2")).toMatch(/^3 /);
  });
});
