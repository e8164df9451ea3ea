// The room that images take, beside the original: what was freed is used again before the file grows, reserved space is
// reserved whole, a shrunk image ends where its data do, and zeroes give space back.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { randomness } from "../support/random.ts";
import { mountSmallDisk, whyNoSmallDisk } from "../support/small-disk.ts";
import { Twins } from "./support/twins.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const twins = new Twins();

const reason = whyNoSmallDisk();
if (reason !== undefined) console.warn(`a test of qcow2-room.test.ts is skipped: ${reason}`);

afterAll(() => twins.remove());
beforeEach(() => {
  for (const directory of [twins.theirs, twins.ours]) {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory);
  }
});

/** Bytes of a file on its disk. */
function taken(directory: string, file: string): number {
  return statSync(join(directory, file)).blocks * 512;
}

function clean(file: string): void {
  execFileSync("qemu-img", ["check", "-q", file], { cwd: twins.ours });
}

function io(commands: readonly string[], ...words: string[]): void {
  const flags = commands.flatMap((command) => ["-c", command]);
  expect(twins.qemuIo([...flags, ...words]).status).toBe(0);
  expect(twins.blockwright("io", ...flags, ...words)).toMatchObject({ status: 0, stderr: "" });
}

describe("clusters that were freed", () => {
  it("are used again before the file grows, without a flush", () => {
    twins.prepare("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "64M");
    io(
      Array.from({ length: 8 }, () => ["discard -q 0 8M", "write -q 0 8M"]).flat(),
      "-d",
      "unmap",
      "a.qcow2",
    );
    const length = (directory: string): number => statSync(join(directory, "a.qcow2")).size;
    expect(length(twins.ours)).toBe(length(twins.theirs));
    clean("a.qcow2");
  });

  it("are used again by a large write, however large the file is", () => {
    const create = "create -q -f qcow2 -o cluster_size=1M,preallocation=metadata a.qcow2 300M";
    twins.prepare("qemu-img", ...create.split(" "));
    const swap = ["discard 0 10M", "discard 290M 10M", "write 290M 10M", "write 0 10M"];
    io(
      swap.map((line) => line.replace(" ", " -q ")),
      "-d",
      "unmap",
      "a.qcow2",
    );
    const map = (cwd: string): string =>
      execFileSync("qemu-img", ["map", "a.qcow2"], { cwd, encoding: "utf8" });
    expect(map(twins.ours)).toBe(map(twins.theirs));
    // What is cut off lies in the midst of the file.
    const before = [twins.ours, twins.theirs].map((at) => taken(at, "a.qcow2"));
    const resized = twins.both("resize", "--shrink", "a.qcow2", "5M");
    expect(resized.ours).toEqual(resized.theirs);
    const after = [twins.ours, twins.theirs].map((at) => taken(at, "a.qcow2"));
    expect(before[0]! - after[0]!).toBe(before[1]! - after[1]!);
    clean("a.qcow2");
  });

  it.skipIf(reason !== undefined)("are used again before a write says that the disk is full", () => {
    const disk = mountSmallDisk(14 * MiB);
    onTestFinished(() => disk.unmount());
    const file = disk.path("a.qcow2");
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", file, "16M"]);
    const draw = randomness(3);
    const want = Buffer.alloc(16 * MiB);
    const commands = Array.from({ length: 200 }, (_, step) => {
      const first = draw(256);
      const at = first * 64 * KiB;
      const bytes = Math.min(256 - first, 1 + draw(8)) * 64 * KiB;
      want.fill(step % 2 === 0 ? 0 : 1 + (step % 200), at, at + bytes);
      return step % 2 === 0 ? `discard -q ${at} ${bytes}` : `write -q -P ${1 + (step % 200)} ${at} ${bytes}`;
    });
    const { status, stderr } = twins.blockwrightWith(`${commands.join("\n")}\n`, "io", "-d", "unmap", file);
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    writeFileSync(join(twins.ours, "want.raw"), want);
    const compare = ["compare", "-f", "raw", "-F", "qcow2", join(twins.ours, "want.raw"), file];
    expect(execFileSync("qemu-img", compare, { encoding: "utf8" })).toBe("Images are identical.\n");
  });
});

describe("preallocation", () => {
  it.each([
    ["falloc", "cluster_size=4k", 9],
    ["full", "cluster_size=4k", 9],
    ["full", "cluster_size=512", 2],
    ["falloc", "cluster_size=16k,extended_l2=on", 35],
    ["full", "cluster_size=4k,data_file=d", 9],
  ])("%s reserves every slice: %s", (mode, options, size) => {
    const file = options.includes("data_file") ? "d" : "a.qcow2";
    const line = `create -q -f qcow2 -o ${options},preallocation=${mode} a.qcow2 ${size}M`;
    expect(twins.blockwright(...line.split(" "))).toMatchObject({ status: 0, stderr: "" });
    expect(taken(twins.ours, file)).toBeGreaterThanOrEqual(size * MiB);
    const grown = size + 3;
    const resize = `resize -q --preallocation=${mode} a.qcow2 ${grown}M`;
    expect(twins.blockwright(...resize.split(" "))).toMatchObject({ status: 0, stderr: "" });
    expect(taken(twins.ours, file)).toBeGreaterThanOrEqual(grown * MiB);
    clean("a.qcow2");
  });

  it.each(["off", "metadata", "falloc", "full"])(
    "%s over a longer backing file: it does not show",
    (mode) => {
      for (const options of ["compat=1.1", "extended_l2=on"]) {
        execFileSync("rm", ["-f", "a.qcow2", "base.raw"], { cwd: twins.theirs });
        writeFileSync(join(twins.theirs, "base.raw"), Buffer.alloc(4 * MiB, 0xbb));
        twins.prepare(
          "qemu-img",
          ...`create -q -f qcow2 -o ${options} -b base.raw -F raw a.qcow2 1M`.split(" "),
        );
        const { theirs, ours } = twins.both("resize", "-q", `--preallocation=${mode}`, "a.qcow2", "3M");
        expect(ours).toEqual(theirs);
        clean("a.qcow2");
        const compare = ["compare", "a.qcow2", join(twins.theirs, "a.qcow2")];
        execFileSync("qemu-img", compare, { cwd: twins.ours });
      }
    },
  );
});

it.each(["cluster_size=4k,refcount_bits=64", "cluster_size=512"])(
  "refcount blocks lie behind the data that called for them: %s",
  (options) => {
    twins.prepare("qemu-img", ..."create -q -f qcow2 -o".split(" "), options, "a.qcow2", "8M");
    io(["write -q -P 1 0 5M", "write -q -P 2 6M 300k"], "a.qcow2");
    const blocks = (directory: string): string => {
      const file = readFileSync(join(directory, "a.qcow2"));
      return file.toString("hex", Number(file.readBigUInt64BE(48)), Number(file.readBigUInt64BE(48)) + 64);
    };
    expect(blocks(twins.ours)).toBe(blocks(twins.theirs));
    clean("a.qcow2");
  },
);

it("a shrunk image gives up the refcount blocks that count nothing", () => {
  const create = "create -q -f qcow2 -o cluster_size=512,refcount_bits=64 a.qcow2 3M";
  twins.prepare("qemu-img", ...create.split(" "));
  const pieces = Array.from({ length: 12 }, (_, index) => `write -q -P ${index + 1} ${index * 256}k 256k`);
  for (const piece of pieces) twins.write("a.qcow2", piece);
  twins.same();
  const before = statSync(join(twins.ours, "a.qcow2")).size;
  const { theirs, ours } = twins.both("resize", "-q", "--shrink", "a.qcow2", "1M");
  expect(ours).toEqual(theirs);
  const [own, other] = [twins.ours, twins.theirs].map((at) => statSync(join(at, "a.qcow2")).size);
  expect(own).toBeLessThan(before * 0.7);
  expect(Math.abs((own ?? 0) - (other ?? 0))).toBeLessThan(0.02 * before);
  clean("a.qcow2");
  execFileSync("qemu-io", ["-c", "read -q -P 4 768k 256k", "-c", "write -q 0 1M", "a.qcow2"], {
    cwd: twins.ours,
  });
  clean("a.qcow2");
});

it("a commit of zeroes frees what the base holds there", () => {
  const run = (tool: string, line: string): void => twins.run(tool, line);
  run("qemu-img", "create -q -f qcow2 a.qcow2 1M");
  twins.write("a.qcow2", "write -q 0 1M");
  run("qemu-img", "create -q -f qcow2 -b a.qcow2 -F qcow2 b.qcow2");
  twins.write("b.qcow2", "write -q -z 0 1M");
  twins.same();
  const { theirs, ours } = twins.both("commit", "-q", "b.qcow2");
  expect(ours).toEqual(theirs);
  expect(taken(twins.ours, "a.qcow2")).toBeLessThanOrEqual(taken(twins.theirs, "a.qcow2"));
  expect(taken(twins.theirs, "a.qcow2")).toBeLessThan(512 * KiB);
});

it("zeroes of a part of a cluster over zeroes below are a zero cluster", () => {
  const run = (tool: string, line: string): void => twins.run(tool, line);
  run("qemu-img", "create -q -f qcow2 -o cluster_size=4k base.qcow2 64k");
  run("qemu-img", "create -q -f qcow2 -o cluster_size=4k -b base.qcow2 -F qcow2 middle.qcow2");
  twins.write("base.qcow2", "write -q -P 1 32k 4k", "write -q -P 1 48k 1k");
  twins.write("middle.qcow2", "write -q -z 32k 4k");
  run("qemu-img", "create -q -f qcow2 -o cluster_size=4k -b middle.qcow2 -F qcow2 a.qcow2");
  twins.same();
  // Over nothing, over zeroes above data, beside data, over data alone.
  io(["write -q -z 0 1k", "write -q -z 33k 1k", "write -q -z 50k 1k", "write -q -z 48k 1k"], "a.qcow2");
  const { theirs, ours } = twins.both("map", "--output=json", "a.qcow2");
  expect(JSON.parse(ours.stdout)).toEqual(JSON.parse(theirs.stdout));
  execFileSync("qemu-img", ["compare", "a.qcow2", join(twins.theirs, "a.qcow2")], { cwd: twins.ours });
});

it("a snapshot of a disk that was longer is converted whole", () => {
  twins.run("qemu-img", "create -q -f qcow2 a.qcow2 4M");
  twins.write("a.qcow2", "write -q -P 1 0 4M");
  twins.run("qemu-img", "convert -O raw a.qcow2 want.raw");
  twins.run("qemu-img", "snapshot -c s a.qcow2");
  twins.run("qemu-img", "resize -q --shrink a.qcow2 1M");
  twins.same();
  expect(twins.blockwright("convert", "-l", "s", "-O", "raw", "a.qcow2", "got.raw")).toMatchObject({
    status: 0,
  });
  execFileSync("cmp", ["want.raw", "got.raw"], { cwd: twins.ours });
  const { stdout } = twins.blockwright("measure", "-l", "s", "-O", "raw", "a.qcow2");
  expect(stdout).toContain(`required size: ${4 * MiB}\n`);
  // Of a disk that has grown, and was written to there, nothing of the new part shows.
  twins.run("qemu-img", "resize -q a.qcow2 8M");
  twins.write("a.qcow2", "write -q -P 7 0 8M");
  twins.same();
  const copy = ["convert", "-l", "s", "-O", "raw", "a.qcow2", "grown.raw"];
  expect(twins.blockwright(...copy)).toMatchObject({ status: 0 });
  const grown = readFileSync(join(twins.ours, "grown.raw"));
  expect(grown.subarray(0, 4 * MiB).equals(readFileSync(join(twins.ours, "want.raw")))).toBe(true);
  expect(grown.subarray(4 * MiB).includes(7)).toBe(false);
});

it("a bitmap is merged between an image and its own overlay, and where the backing file is gone", () => {
  twins.run("qemu-img", "create -q -f qcow2 base.qcow2 8M");
  twins.run("qemu-img", "bitmap --add base.qcow2 k");
  twins.run("qemu-img", "create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2");
  twins.run("qemu-img", "bitmap --add top.qcow2 k");
  twins.write("top.qcow2", "write -q -P 3 1M 64k");
  twins.same();
  for (const line of [
    "bitmap --merge k -b top.qcow2 -F qcow2 base.qcow2 k",
    "bitmap --merge k -b base.qcow2 -F qcow2 top.qcow2 k",
  ]) {
    const { theirs, ours } = twins.both(...line.split(" "));
    expect(ours).toEqual(theirs);
    expect(theirs.status).toBe(0);
  }
  for (const directory of [twins.theirs, twins.ours]) rmSync(join(directory, "base.qcow2"));
  const { theirs, ours } = twins.both("bitmap", "--add", "top.qcow2", "z");
  expect(ours).toEqual(theirs);
});

describe("raw files", () => {
  it("begin with an allocated block, and map tells the end of one that ends within a sector", () => {
    for (const size of ["0", "512", "1M"]) {
      twins.both("create", "-q", "-f", "raw", `a${size}`, size);
      expect(taken(twins.ours, `a${size}`)).toBe(taken(twins.theirs, `a${size}`));
    }
    for (const bytes of [50000, 65537]) {
      writeFileSync(join(twins.theirs, "odd.raw"), Buffer.alloc(bytes, 1));
      twins.same();
      const { theirs, ours } = twins.both("map", "--output=json", "-f", "raw", "odd.raw");
      expect(ours).toEqual(theirs);
    }
  });
});
