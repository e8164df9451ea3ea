// dd beside qemu-img dd: the same words and exit codes, and outputs of the same content and length that are clean in the real
// check; a failed run leaves no output behind.
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Twins, words } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const run = (tool: string, line: string): unknown => execFileSync(tool, words(line), { cwd: twins.theirs });
  run("qemu-img", "create -q -f qcow2 base.qcow2 3M");
  execFileSync("qemu-io", ["-c", "write -P 1 100 1M", "base.qcow2"], { cwd: twins.theirs });
  run("qemu-img", "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2");
  execFileSync("qemu-io", ["-c", "write -P 2 2M 70k", "top.qcow2"], { cwd: twins.theirs });
  run("qemu-img", "convert -O raw top.qcow2 top.raw");
  writeFileSync(
    join(twins.theirs, "odd.raw"),
    Uint8Array.from({ length: 70_001 }, (_, at) => at % 251),
  );
  writeFileSync(join(twins.theirs, "empty.raw"), "");
  twins.same();
});

beforeEach(() => {
  for (const directory of [twins.theirs, twins.ours]) rmSync(join(directory, "out"), { force: true });
});

afterAll(() => twins.remove());

describe("dd", () => {
  it.each([
    "if=top.qcow2 of=out",
    "-f qcow2 -O qcow2 if=top.qcow2 of=out",
    "-O qcow2 bs=64k count=20 if=top.qcow2 of=out",
    "bs=1M count=1 if=top.qcow2 of=out",
    "bs=1M skip=2 if=top.qcow2 of=out",
    "bs=1M count=3 skip=1 if=top.qcow2 of=out",
    "bs=1M count=1 skip=1 if=top.qcow2 of=out",
    "bs=1M count=1 skip=2 if=top.qcow2 of=out",
    "bs=1M skip=100 -O qcow2 if=top.qcow2 of=out",
    "bs=1.5k count=0x7 skip=3 if=top.qcow2 of=out",
    "bs=1000 count=3 -O qcow2 if=top.qcow2 of=out",
    "bs=1000 skip=3 -f raw if=odd.raw of=out",
    "-f raw -O qcow2 if=odd.raw of=out",
    "bs=700 count=100 skip=9 -f raw if=odd.raw of=out",
    "-f raw if=empty.raw of=out",
    "count=0 if=top.qcow2 of=out",
    "count=1E bs=1k skip=1 if=top.qcow2 of=out",
    "bs=2147483647 -U if=top.qcow2 of=out",
    "bs=1 bs=512 if=none if=top.raw -f raw count=5 of=out",
    "--image-opts if=driver=qcow2,file.filename=top.qcow2 of=out",
    'if=json:{"driver":"qcow2","file":{"driver":"file","filename":"top.qcow2"}} of=out',
    "skip=1E bs=1k if=top.qcow2 of=out",
  ])("copies as qemu-img does: %s", async (line) => {
    const { ours, theirs } = await twins.pair("dd", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    expect(twins.info(twins.ours, "out")).toEqual(twins.info(twins.theirs, "out"));
    const files = [twins.ours, twins.theirs].map((directory) => join(directory, "out"));
    if (/-O qcow2/.test(line)) {
      expect(spawnSync("qemu-img", ["check", files[0]!]).status).toBe(0);
      expect(spawnSync("qemu-img", ["compare", ...files]).status).toBe(0);
    } else expect(readFileSync(files[0]!).equals(readFileSync(files[1]!))).toBe(true);
  });

  it.each([
    "",
    "if=top.qcow2",
    "of=out",
    "if=top.qcow2 of=out foo=1",
    "if=top.qcow2 of=out foo",
    "if=top.qcow2 of=out conv=notrunc",
    "bs=0 if=top.qcow2 of=out",
    "bs=x if=top.qcow2 of=out",
    "bs= if=top.qcow2 of=out",
    "bs=-1 if=top.qcow2 of=out",
    "bs=2147483648 if=top.qcow2 of=out",
    "count=x if=top.qcow2 of=out",
    "count=8E if=top.qcow2 of=out",
    "skip=x if=top.qcow2 of=out",
    "if=none of=out",
    "if= of=out",
    "-f nope if=top.qcow2 of=out",
    "-f qcow2 if=top.raw of=out",
    "-O nope if=top.qcow2 of=out",
    "-O nope if=none of=out",
    "if=top.qcow2 of=nowhere/out",
    "--image-opts -f raw if=top.raw of=out",
    "-n if=top.qcow2 of=out",
    "-p if=top.qcow2 of=out",
    "-q if=top.qcow2 of=out",
    "if=top.qcow2 of=out -O",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("dd", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    expect(readdirSync(twins.ours)).not.toContain("out");
  });

  it("leaves no output when reading fails", async () => {
    const rules = [{ event: "none", iotype: "read", errno: 5, sector: 2048, once: false }];
    const below = { driver: "raw", file: { driver: "file", filename: "top.raw" } };
    const source = `json:${JSON.stringify({ driver: "blkdebug", image: below, "inject-error": rules })}`;
    const { ours, theirs } = await twins.pair("dd", "-O", "qcow2", `if=${source}`, "of=out");
    expect(ours).toEqual(theirs);
    expect(ours.stderr).toBe("blockwright: error while reading from input image file: Input/output error");
    expect(readdirSync(twins.ours)).not.toContain("out");
  });

  it.each(["base.qcow2", "top.qcow2", "./top.qcow2"])("does not empty its own input: of=%s", (output) => {
    const before = readFileSync(join(twins.ours, output));
    const ours = twins.blockwright("dd", "if=top.qcow2", `of=${output}`);
    expect(ours.status).toBe(1);
    expect(ours.stderr).toContain(`${output}: error while creating output image: `);
    expect(readFileSync(join(twins.ours, output)).equals(before)).toBe(true);
  });
});
