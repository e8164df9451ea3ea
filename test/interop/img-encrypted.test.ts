// Encrypted images on the command line, beside qemu-img: the same words and exit codes, and images that the other opens.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { noise } from "./support/encrypted.ts";
import { Twins } from "./support/twins.ts";

const SIZE = 600 * 1024;
const secret = ["--object", "secret,id=s0,data=abc", "--object", "secret,id=s1,data=def"];
let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  writeFileSync(join(twins.theirs, "in.raw"), noise(SIZE, 3));
  const luks = "key-secret=s0,iter-time=10";
  twins.prepare("qemu-img", "create", "-q", ...secret, "-f", "luks", "-o", luks, "a.luks", String(SIZE));
  const aes = "encrypt.format=aes,encrypt.key-secret=s0";
  twins.prepare(
    "qemu-img",
    "convert",
    ...secret,
    "-f",
    "raw",
    "-O",
    "qcow2",
    "-o",
    aes,
    "in.raw",
    "aes.qcow2",
  );
});

afterAll(() => twins.remove());

const key = "encrypt.format=luks,encrypt.key-secret=s0,encrypt.iter-time=10";

/** Command lines that succeed, with what makes an image first. */
const made = [
  `create -f luks -o key-secret=s0,iter-time=10 n.luks 64k`,
  `create -f luks -o key-secret=s0,iter-time=10,cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,hash-alg=sha1 n.luks 64k`,
  `create -f qcow2 -o ${key} n.qcow2 64k`,
  `create -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s0,compat=0.10 n.qcow2 64k`,
  `create -f qcow2 -o encryption=on,encrypt.key-secret=s0 n.qcow2 64k`,
  `create -f qcow2 -b aes.qcow2 -F qcow2 n.qcow2`,
];

const refused = [
  "create -f luks -o iter-time=10 n.luks 64k",
  "create -f luks -o key-secret=nope n.luks 64k",
  "create -f luks -o key-secret=s0,cipher-alg=foo n.luks 64k",
  "create -f luks -o key-secret=s0,cipher-alg=3des n.luks 64k",
  "create -f luks -b in.raw -F raw -o key-secret=s0 n.luks",
  "create -f luks n.luks",
  "create -f qcow2 -o encrypt.format=luks n.qcow2 1M",
  "create -f qcow2 -o encrypt.format=luks,encrypt.key-secret=nope n.qcow2 1M",
  "create -f qcow2 -o encrypt.format=foo,encrypt.key-secret=s0 n.qcow2 1M",
  "create -f qcow2 -o encrypt.key-secret=s0 n.qcow2 1M",
  "create -f qcow2 -o encryption=on n.qcow2 1M",
  "create -f qcow2 -o encryption=on,encrypt.format=luks,encrypt.key-secret=s0 n.qcow2 1M",
  "create -f qcow2 -o encryption=off,encrypt.key-secret=s0 n.qcow2 1M",
  "create -f qcow2 -o encrypt.format=aes,encrypt.key-secret=s0,encrypt.cipher-alg=aes-256 n.qcow2 1M",
  `convert -c -O qcow2 -o ${key} in.raw n.qcow2`,
  "measure -O luks --size 1M",
  "measure -O luks -o key-secret=s0 --size 1M",
  "measure -O luks -o key-secret=s0,cipher-alg=aes-128 --output json --size 1000",
  "measure -O qcow2 -o encrypt.format=luks --size 1M",
  "measure -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s0 --size 1M",
  "measure -O qcow2 -o encrypt.format=luks,encrypt.key-secret=s0,cluster_size=4k -f raw in.raw",
  "measure -O qcow2 -o encrypt.format=aes --size 1M",
  "map a.luks",
  "map aes.qcow2",
  "map --image-opts driver=luks,key-secret=s1,file.filename=a.luks",
  "map --image-opts driver=luks,key-secret=nope,file.filename=a.luks",
  "resize aes.qcow2 2M",
  "check --image-opts driver=luks,key-secret=s0,file.filename=a.luks",
  "compare in.raw aes.qcow2",
  "amend -f luks -o help",
  "amend -o state=active --image-opts driver=luks,key-secret=s0,file.filename=a.luks",
  "amend -o state=inactive,keyslot=0 --image-opts driver=luks,key-secret=s0,file.filename=a.luks",
  "amend -o encrypt.state=active,encrypt.new-secret=s1 --image-opts driver=qcow2,encrypt.key-secret=s0,file.filename=aes.qcow2",
  "info --object secret,id=s0,data=abc a.luks",
  "info --object foo,id=x a.luks",
  "info --object secret a.luks",
  "info --object secret,id=x a.luks",
  "info --object secret,id=x,data=a,foo=b a.luks",
  "info --object secret,id=x,file=none a.luks",
  "info --object secret,id=x,data=a%c,format=base64 a.luks",
];

function words(line: string): string[] {
  const [verb = "", ...rest] = line.split(" ");
  return [verb, ...secret, ...rest];
}

describe("the same words and exit codes", () => {
  it.each([...made, ...refused])("%s", async (line) => {
    const { theirs, ours } = await twins.pair(...words(line));
    expect(ours).toEqual(theirs);
  });

  it.each(["info a.luks", "info --output=json a.luks", "info aes.qcow2", "info --output=json aes.qcow2"])(
    "%s",
    (line) => {
      twins.same();
      const { theirs, ours } = twins.both(...line.split(" "));
      const space = /disk size.*/g;
      const told = (text: string): unknown =>
        line.includes("json")
          ? { ...(JSON.parse(text) as object), "actual-size": 0 }
          : text.replaceAll(space, "");
      expect(told(ours.stdout)).toEqual(told(theirs.stdout));
      expect(ours.status).toBe(0);
    },
  );

  it.each(["create -f luks -o help", "create -f qcow2 -o help"])("%s tells of encryption", (line) => {
    const { theirs, ours } = twins.both(...line.split(" "));
    const about = (text: string): string[] =>
      text.split("\n").filter((row) => /encrypt|secret|cipher|ivgen|hash|iter-time/.test(row));
    expect(about(ours.stdout)).toEqual(about(theirs.stdout));
    expect(about(ours.stdout).length).toBeGreaterThan(6);
  });
});

describe("convert", () => {
  it.each([
    ["luks", "key-secret=s0,iter-time=10", "driver=luks,key-secret=s0"],
    ["qcow2", key, "driver=qcow2,encrypt.key-secret=s0"],
    ["qcow2", `${key},preallocation=metadata`, "driver=qcow2,encrypt.key-secret=s0"],
    ["qcow2", "encryption=on,encrypt.key-secret=s0", "driver=qcow2,encrypt.key-secret=s0"],
  ])("into %s (%s) and back, over holes", (format, options, open) => {
    const disk = noise(SIZE, 4).fill(0, 100 * 1024, 400 * 1024);
    writeFileSync(join(twins.ours, "holes.raw"), disk);
    const into = twins.blockwright(
      ...["convert", ...secret, "-f", "raw", "-O", format, "-o", options, "holes.raw", "t.img"],
    );
    expect(into).toMatchObject({ status: 0, stderr: "" });
    const back = ["convert", ...secret, "--image-opts", `${open},file.filename=t.img`, "-O", "raw"];
    expect(twins.blockwright(...back, "ours.raw")).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(join(twins.ours, "ours.raw")).equals(disk)).toBe(true);
    twins.theirs = twins.ours;
    expect(twins.qemuImg(...back, "theirs.raw")).toMatchObject({ status: 0, stderr: "" });
    expect(readFileSync(join(twins.ours, "theirs.raw")).equals(disk)).toBe(true);
  });
});

describe("jobs in the foreground take --object", () => {
  const encrypt = { format: "luks", "key-secret": "s0" };
  const described = (filename: string): string =>
    `json:${JSON.stringify({ driver: "qcow2", encrypt, file: { driver: "file", filename } })}`;
  const disk = noise(SIZE, 5);
  const jobs = new Twins();

  beforeAll(() => {
    writeFileSync(join(jobs.theirs, "in.raw"), disk);
    const convert = ["convert", ...secret, "-f", "raw", "-O", "qcow2", "-o", key, "in.raw", "e.qcow2"];
    jobs.prepare("qemu-img", ...convert);
    jobs.prepare("qemu-img", ..."create -q -f raw plain.raw 600k".split(" "));
    const over = `${key},backing_file=plain.raw,backing_fmt=raw`;
    jobs.prepare("qemu-img", ...["create", "-q", ...secret, "-f", "qcow2", "-o", over, "top.qcow2"]);
    const image = "driver=qcow2,encrypt.key-secret=s0,file.filename=top.qcow2";
    jobs.prepare("qemu-io", ...secret, "--image-opts", image, "-c", "write -P 7 64k 100k");
  });

  afterAll(() => jobs.remove());

  it.each(["mirror", "backup", "demo"])("%s", (verb) => {
    const words = [verb, ...(verb === "demo" ? ["-O", "raw"] : []), described("e.qcow2"), `${verb}.raw`];
    expect(jobs.blockwright(...words)).toMatchObject({ status: 1 });
    const [first, ...rest] = words;
    expect(jobs.blockwright(first!, ...secret, ...rest)).toMatchObject({ status: 0 });
    expect(readFileSync(join(jobs.ours, `${verb}.raw`)).equals(disk)).toBe(true);
  });

  it("commit, as qemu-img", () => {
    const image = "driver=qcow2,encrypt.key-secret=s0,file.filename=top.qcow2";
    for (const words of [
      ["commit", "--image-opts", image],
      ["commit", ...secret, "--image-opts", image],
    ]) {
      const { theirs, ours } = jobs.both(...words);
      expect(ours).toEqual(theirs);
    }
    const base = readFileSync(join(jobs.ours, "plain.raw"));
    expect(base.equals(readFileSync(join(jobs.theirs, "plain.raw")))).toBe(true);
    expect(base[64 * 1024]).toBe(7);
  });

  it("stream", () => {
    const words = ["stream", ...secret, described("top.qcow2")];
    expect(jobs.blockwright(...words)).toMatchObject({ status: 0 });
    expect(jobs.info(jobs.ours, "top.qcow2")).not.toHaveProperty("backing-filename");
  });

  it.each(["--object foo,id=x", "--object secret,id=x", "--object secret,id=x,file=none"])(
    "%s is refused",
    (words) => {
      const { status, stderr } = jobs.blockwright("mirror", ...words.split(" "), "in.raw", "out.raw");
      expect({ status, stderr }).toEqual({
        status: 1,
        stderr: jobs.qemuImg("info", ...words.split(" "), "in.raw").stderr,
      });
    },
  );
});
