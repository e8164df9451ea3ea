// Names with a protocol, numbers as strings in json names, and options beside a name: the same words and exit codes as
// qemu-img's and qemu-io's.
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { type Outcome, Twins } from "./support/twins.ts";

const twins = new Twins();

beforeAll(() => {
  const img = (words: string): unknown => execFileSync("qemu-img", words.split(" "), { cwd: twins.theirs });
  img("create -q -f qcow2 base 1M");
  img("create -q -f qcow2 -b base -F qcow2 top");
  writeFileSync(join(twins.theirs, "rules"), '[inject-error]\nevent = "read_aio"\nerrno = "28"\n');
  mkdirSync(join(twins.theirs, "folder"));
  img("create -q -f qcow2 file:im:age 1M");
  twins.share();
});

afterAll(() => twins.remove());

function img(...words: string[]): Outcome {
  const { theirs, ours } = twins.both(...words);
  expect(ours).toEqual(theirs);
  return ours;
}

function io(...lines: string[]): Outcome {
  const words = commands(...lines);
  const ours = masked(twins.blockwright("io", ...words));
  expect(ours).toEqual(masked(twins.qemuIo(words)));
  return ours;
}

describe("a name with a protocol", () => {
  it.each([
    ["null-co://", 0],
    ["null-co://x", 1],
    ["blkdebug::top", 0],
    ["blkdebug:none:top", 1],
    ["blkdebug:top", 1],
    ["file:top", 0],
    ["nonsense:top", 1],
    ["file:im:age", 0],
    ["im:age", 1],
    ["./im:age", 0],
    ["/dev/null", 0],
    ["/dev/zero", 0],
    ["host_device:/dev/null", 0],
    ["host_cdrom:/dev/null", 0],
    ["host_device:folder", 1],
    ["host_cdrom:top", 1],
    ["file:/dev/null", 1],
    ["host_device:none", 1],
  ])("info %s", (name, status) => {
    expect(img("info", name).status).toBe(status);
  });

  it.each([
    ["compare", "blkdebug::top", "top"],
    ["info", "-f", "qcow2", "blkdebug::top"],
    ["info", "-f", "file", "top"],
    ["info", "-f", "null-co", "top"],
    ["create", "-f", "raw", "blkdebug::new", "1M"],
    ["create", "-f", "raw", "null-co://", "1M"],
    ["create", "-f", "raw", "nonsense:new", "1M"],
    ["create", "-f", "qcow2", "-F", "raw", "-b", "null-co://", "over-nothing"],
    ["create", "-f", "qcow2", "-F", "qcow2", "-b", "file:base", "over-file"],
    ["convert", "-O", "qcow2", "top", "blkdebug::new"],
    ["map", "null-co://"],
    ["compare", "/dev/null", "top"],
    ["convert", "-n", "-O", "raw", "top", "/dev/null"],
    ["info", "folder"],
  ])("%s %s %s %s", (...words) => {
    img(...words);
  });

  it("carries blkdebug's rules", () => {
    const { status, stderr } = img("compare", "-f", "raw", "-F", "raw", "blkdebug:rules:top", "top");
    expect(status).not.toBe(0);
    expect(stderr).toContain("No space left on device");
  });
});

it("info of chains that end in themselves says so, whatever they name themselves", () => {
  const rebase = (words: string): unknown =>
    execFileSync("qemu-img", words.split(" "), { cwd: twins.theirs });
  rebase("create -q -f qcow2 -u -b ./own -F qcow2 own 1M");
  rebase("create -q -f qcow2 -u -b ./second -F qcow2 first 1M");
  rebase("create -q -f qcow2 -u -b ./first -F qcow2 second 1M");
  for (const name of ["own", "first"]) {
    const { status, stdout, stderr } = twins.blockwright("info", "--backing-chain", name);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^blockwright: Backing file '[./a-z]{1,12}' creates an infinite loop\.$/);
  }
});

describe("sizes beyond what is held", () => {
  it.each([
    ["raw", "7E", "(limits.maxImageBytes)"],
    // A format with a limit of its own says that, as qemu-img does.
    ["qcow2", "8191P", "The image size is too large"],
  ])("measure -O %s --size %s is refused by name", (format, size, words) => {
    const { status, stdout, stderr } = twins.blockwright("measure", "-O", format, "--size", size);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(words);
  });
});

describe("json names", () => {
  it("take numbers and truth values in strings, and numbers where a text is meant", () => {
    const told = (name: object): unknown => {
      const { status, stdout } = twins.blockwright("info", "--output=json", `json:${JSON.stringify(name)}`);
      return status === 0 ? (JSON.parse(stdout) as Record<string, unknown>)["virtual-size"] : undefined;
    };
    expect(told({ driver: "null-co", size: "65536" })).toBe(65536);
    expect(told({ driver: "null-co", size: "64k", "read-zeroes": "on" })).toBe(65536);
    const file = { driver: "file", filename: "base" };
    expect(told({ driver: "raw", offset: "512", size: 512, file })).toBe(512);
    img("info", `json:${JSON.stringify({ driver: "blkdebug", config: 42, image: file })}`);
  });

  it("are repeated in the words in which they were given", () => {
    const image = { driver: "file", filename: "base" };
    const told = [
      img("info", `json:${JSON.stringify({ driver: "null-co", size: "64k", "read-zeroes": true })}`),
      img("info", "--image-opts", "driver=null-co,size=64k,read-zeroes=on"),
      img("info", "--image-opts", "driver=raw,offset=0x200,size=1k,file.filename=base"),
      img("info", `json:${JSON.stringify({ driver: "raw", offset: 512, size: "1k", file: image })}`),
    ];
    expect(told.map(({ status }) => status)).toEqual([0, 0, 0, 0]);
    expect(told.map(({ stdout }) => stdout.split("\n")[0]).join()).toContain('"size": "64k"');
  });

  it("mean a file by a file name, whatever it looks like", () => {
    expect(img("info", 'json:{"driver":"qcow2","file.filename":"blkdebug::top"}').status).toBe(1);
    expect(img("info", 'json:{"file.filename":"top"}').status).toBe(0);
  });
});

describe("options beside a name", () => {
  it.each([
    ["driver=copy-on-read,file.driver=qcow2 top"],
    ["driver=blkdebug,image.driver=qcow2,align=4k top"],
    ["driver=qcow2,file.align=4k blkdebug::top"],
    ["driver=copy-on-read top"],
    ["backing.driver=qcow2 top"],
    ["backing.driver=raw top"],
    ["backing.node-name=n top"],
    ["file.filename=base top"],
    ["filename=base top"],
    ["file=base top"],
    ["bogus=1 top"],
    ["file.bogus=1 top"],
    ["driver=null-co,bogus=1"],
  ])("open -o %s", (words) => {
    io(`open -o ${words}`, "length", "read 0 512");
  });

  it("reopen with the node name that it has", () => {
    io("open -o node-name=n top", "reopen -o node-name=n", "reopen -o node-name=m", "length");
  });
});

describe("devices of the host", () => {
  it.each(["host_device", "host_cdrom"])("%s opens devices, and nothing else", (driver) => {
    for (const file of ["folder", "top", "/dev/null", "none"])
      for (const mode of ["-r ", ""]) io(`open ${mode}-o driver=${driver},filename=${file},locking=off`);
  });

  it("keep their size", () => {
    io("open -o driver=host_device,filename=/dev/null,locking=off", "length", "truncate 1M");
  });
});

describe("the filter compress", () => {
  it("stores what is written in whole compressed clusters", () => {
    const open = "open -o driver=compress,file.driver=qcow2,file.file.filename=";
    const lines = [
      "write -P 3 0 224k",
      "write -P 4 272k 224k",
      "write -z 640k 64k",
      "read -P 3 0 224k",
      "length",
    ];
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "theirs", "1M"], { cwd: twins.theirs });
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "ours", "1M"], { cwd: twins.theirs });
    const ours = masked(twins.blockwright("io", ...commands(`${open}ours`, ...lines)));
    expect(ours).toEqual(masked(twins.qemuIo(commands(`${open}theirs`, ...lines))));
    expect(ours.status).toBe(0);
    const clusters = (file: string): unknown => {
      const check = execFileSync("qemu-img", ["check", "--output=json", file], { cwd: twins.theirs });
      const { "compressed-clusters": compressed, "allocated-clusters": all } = JSON.parse(String(check)) as {
        [name: string]: number;
      };
      return { compressed, all };
    };
    expect(clusters("ours")).toEqual(clusters("theirs"));
    expect(clusters("ours")).toMatchObject({ compressed: 8 });
    execFileSync("qemu-img", ["compare", "ours", "theirs"], { cwd: twins.theirs });
  });

  it("refuses a format that does not compress", () => {
    io("open -o driver=compress,file.driver=raw,file.file.filename=top", "open -o driver=compress");
  });
});
