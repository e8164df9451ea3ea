// amend beside qemu-img amend: the same words, exit codes and images, for every option and every kind of image that it may meet;
// what we amended goes on being written by the original, and is clean.
import { execFileSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { type Outcome, Twins } from "./support/twins.ts";

const twins = new Twins();
const templates = new Twins();

/** Image -> options of its making. */
const kinds: Record<string, string> = {
  plain: "compat=1.1",
  old: "compat=0.10",
  lazy: "lazy_refcounts=on",
  narrow: "refcount_bits=8",
  wide: "extended_l2=on,cluster_size=128k",
  small: "cluster_size=512",
  data: "data_file=x.data",
  rawdata: "data_file=y.data,data_file_raw=on",
  snapped: "compat=1.1",
};

beforeAll(() => {
  const run = (tool: string, ...words: string[]): unknown =>
    execFileSync(tool, words, { cwd: templates.theirs });
  for (const [name, options] of Object.entries(kinds)) {
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, `${name}.qcow2`, "4M");
    const zero = name === "rawdata" ? "write -P 5 2M 64k" : "write -z 2M 256k";
    run("qemu-io", "-c", "write -P 3 0 1M", "-c", "write -P 4 3M 64k", "-c", zero, `${name}.qcow2`);
  }
  run("qemu-img", "snapshot", "-c", "s", "snapped.qcow2");
  run("qemu-img", ..."create -q -f qcow2 -b plain.qcow2 -F qcow2 top.qcow2".split(" "));
  run("qemu-io", "-c", "write -z 64k 128k", "-c", "write 512k 64k", "-c", "write -z 512k 64k", "top.qcow2");
  run("qemu-img", ..."create -q -f qcow2 -o compression_type=zstd zstd.qcow2 1M".split(" "));
  run("qemu-img", ..."create -q -f qcow2 bitmaps.qcow2 1M".split(" "));
  run("qemu-img", ..."bitmap --add bitmaps.qcow2 b".split(" "));
  run("qemu-img", ..."create -q -f raw a.raw 1M".split(" "));
});

afterAll(() => {
  twins.remove();
  templates.remove();
});

function fresh(): void {
  for (const directory of [twins.theirs, twins.ours]) {
    rmSync(directory, { recursive: true, force: true });
    cpSync(templates.theirs, directory, { recursive: true });
  }
}

function amend(line: string): { theirs: Outcome; ours: Outcome } {
  const { ours, theirs } = twins.both("amend", ...line.split(" "));
  const stderr = theirs.stderr.replace("'qemu-img rebase'", "'blockwright rebase'");
  return { ours, theirs: { ...theirs, stderr } };
}

/** Our image is clean, and holds what theirs does. */
function compare(file: string): void {
  const run = (tool: string, ...words: string[]): string =>
    execFileSync(tool, words, { cwd: twins.ours, encoding: "utf8" });
  expect(twins.info(twins.ours, file)).toEqual(twins.info(twins.theirs, file));
  expect(run("qemu-img", "check", file)).toContain("No errors");
  expect(run("qemu-img", "compare", file, join(twins.theirs, file))).toBe("Images are identical.\n");
}

describe("amend", () => {
  it.each([
    "-o compat=0.10 plain.qcow2",
    "-o compat=1.1 plain.qcow2",
    "-o compat=1.1 old.qcow2",
    "-o compat=v3,lazy_refcounts=on,size=6M old.qcow2",
    "-o compat=v2 old.qcow2",
    "-o compat=0.10 lazy.qcow2",
    "-o compat=0.10,refcount_bits=16 narrow.qcow2",
    "-o compat=0.10 small.qcow2",
    "-o compat=0.10 top.qcow2",
    "-o lazy_refcounts=on plain.qcow2",
    "-o lazy_refcounts=off lazy.qcow2",
    "-o refcount_bits=1 plain.qcow2",
    "-o refcount_bits=32 plain.qcow2",
    "-o refcount_bits=16 narrow.qcow2",
    "-o refcount_bits=2 small.qcow2",
    "-o refcount_bits=8 snapped.qcow2",
    "-o refcount_bits=1 wide.qcow2",
    "-o compat=1.1,refcount_bits=4 old.qcow2",
    "-o size=8M plain.qcow2",
    "-o size=2M plain.qcow2",
    "-o size=4M plain.qcow2",
    "-o size=8M top.qcow2",
    "-o size=9M -o lazy_refcounts plain.qcow2",
    "-q -t none --force -o size=9M plain.qcow2",
    "--image-opts -o size=11M driver=qcow2,file.filename=plain.qcow2",
    "-o data_file_raw=off rawdata.qcow2",
    "-o data_file_raw=off plain.qcow2",
    "-o backing_file=plain.qcow2,backing_fmt=qcow2 top.qcow2",
  ])("changes as qemu-img: %s", (line) => {
    fresh();
    const { ours, theirs } = amend(line);
    expect(ours).toEqual(theirs);
    expect(ours.status).toBe(0);
    const file = /(\w+\.qcow2)$/.exec(line)![1]!;
    compare(file);
    for (const directory of [twins.ours, twins.theirs]) {
      const writes = ["-c", "write -P 9 1M 256k", "-c", "write -z 0 64k", "-c", "read -P 9 1M 256k"];
      const said = execFileSync("qemu-io", [...writes, file], { cwd: directory, encoding: "utf8" });
      expect(said).not.toContain("failed");
    }
    compare(file);
  });

  it("names another data file", () => {
    fresh();
    for (const directory of [twins.ours, twins.theirs])
      cpSync(join(directory, "x.data"), join(directory, "z.data"));
    const { ours, theirs } = amend("-o data_file=z.data data.qcow2");
    expect(ours).toEqual(theirs);
    compare("data.qcow2");
  });

  it.each([
    "plain.qcow2",
    "-o compat=0.10",
    "-o compat=0.10 plain.qcow2 more",
    "-o compat=1.0 plain.qcow2",
    "-o compat plain.qcow2",
    "-o compat=0.10,lazy_refcounts=on plain.qcow2",
    "-o compat=0.10 narrow.qcow2",
    "-o compat=0.10 wide.qcow2",
    "-o compat=0.10 data.qcow2",
    "-o lazy_refcounts=on old.qcow2",
    "-o refcount_bits=8 old.qcow2",
    "-o lazy_refcounts=x plain.qcow2",
    "-o refcount_bits=3 plain.qcow2",
    "-o refcount_bits=128 plain.qcow2",
    "-o refcount_bits=0 plain.qcow2",
    "-o refcount_bits=x plain.qcow2",
    "-o refcount_bits=1 snapped.qcow2",
    "-o size=x plain.qcow2",
    "-o size=1000 plain.qcow2",
    "-o data_file=z.data plain.qcow2",
    "-o data_file_raw=on plain.qcow2",
    "-o data_file_raw=on data.qcow2",
    "-o backing_file=top.qcow2 plain.qcow2",
    "-o backing_fmt=raw top.qcow2",
    "-o backing_file= top.qcow2",
    "-o backing_file=plain.qcow2 top.qcow2",
    "-o cluster_size=4k plain.qcow2",
    "-o preallocation=full plain.qcow2",
    "-o compression_type=zstd plain.qcow2",
    "-o extended_l2=on plain.qcow2",
    "-o nope=1 plain.qcow2",
    "-o ,size=1M plain.qcow2",
    "-o help",
    "-o help -f raw",
    "-o help -f nope",
    "-f nope -o compat=0.10 plain.qcow2",
    "-f qcow2 -o compat=0.10 a.raw",
    "-f raw -o size=1M a.raw",
    "-o size=1M a.raw",
    "-t nope -o size=9M plain.qcow2",
    "-o size=11M none.qcow2",
  ])("refuses as qemu-img, and leaves the image as it was: %s", (line) => {
    fresh();
    const { ours, theirs } = amend(line);
    expect(ours).toEqual(theirs);
    expect(ours.status).toBe(1);
    for (const file of line.match(/\w+\.qcow2$/) ?? [])
      if (file !== "none.qcow2")
        expect(twins.info(twins.ours, file)).toEqual(templates.info(templates.theirs, file));
  });

  it("lists the options as qemu-img", () => {
    fresh();
    for (const line of ["-o help -f qcow2", "-o compat=0.10,help plain.qcow2"]) {
      const { ours, theirs } = amend(line);
      expect(ours).toEqual(theirs);
    }
  });

  it.each([
    ["zstd.qcow2", "incompatible features 0x8 set"],
    ["bitmaps.qcow2", "persistent bitmaps"],
    ["snapped.qcow2", "Internal snapshots prevent downgrade of image"],
  ])("refuses a downgrade of %s, after which qemu-img could not read it right", (file, words) => {
    fresh();
    const { status, stderr } = twins.blockwright("amend", "-o", "compat=0.10", file);
    expect([status, stderr]).toEqual([1, expect.stringContaining(words)]);
    expect(twins.info(twins.ours, file)).toEqual(templates.info(templates.theirs, file));
  });

  it("goes through random changes one after the other, always clean and with the same content", () => {
    fresh();
    const random = randomness(20_261_125);
    const widths = [1, 2, 4, 8, 16, 32, 64];
    for (let round = 0; round < 8; round++) {
      const changes = [`refcount_bits=${widths[random(7)]}`, `lazy_refcounts=${random(2) ? "on" : "off"}`];
      const { status } = twins.blockwright("amend", "-o", changes.join(","), "small.qcow2");
      expect(status).toBe(0);
      const at = random(3000);
      execFileSync("qemu-io", ["-c", `write -P ${round} ${at}k 70k`, "small.qcow2"], { cwd: twins.ours });
      execFileSync("qemu-io", ["-c", `write -P ${round} ${at}k 70k`, "small.qcow2"], { cwd: twins.theirs });
      expect(
        execFileSync("qemu-img", ["check", "small.qcow2"], { cwd: twins.ours, encoding: "utf8" }),
      ).toContain("No errors");
    }
    const words = ["compare", "small.qcow2", join(twins.theirs, "small.qcow2")];
    expect(execFileSync("qemu-img", words, { cwd: twins.ours, encoding: "utf8" })).toContain("identical");
  });
});
