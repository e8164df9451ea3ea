// What users have reported of other programs, beside qemu-img: files with odd names, of odd lengths, and data files that held
// something before.
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const MiB = 2 ** 20;
const twins = new Twins();

afterAll(() => twins.remove());

/** The same command in both folders, with the same outcome. */
function same(...words: string[]): void {
  const { theirs, ours } = twins.both(...words);
  expect(ours).toEqual(theirs);
  expect(theirs.status).toBe(0);
}

const odd = ["a,b=c,,d", "q\"'\\ $x", "Größe 😀", "dash-{", "100%23#?*", "two\nlines"] as const;

it.each(odd)("an image, its backing and data file, snapshot and bitmap may be called %j", (name) => {
  const doubled = name.replaceAll(",", ",,");
  const below = `base ${name}`;
  const image = `./${name}`;
  twins.run("qemu-img", "create -q -f raw plain 1M");
  twins.same();
  same("create", "-q", "-f", "qcow2", `./${below}`, "1M");
  // A data file's name is an option's value, in which a comma is doubled.
  const data = `data_file=data ${doubled}`;
  same("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", "-o", data, image);
  same("bitmap", "--add", image, name);
  const { theirs, ours } = twins.both(
    "info",
    "--output=json",
    "--image-opts",
    `driver=qcow2,file.filename=${doubled}`,
  );
  // QEMU escapes what is not ASCII.
  expect(JSON.parse(ours.stdout)).toEqual(JSON.parse(theirs.stdout));
  same("compare", "--image-opts", `driver=qcow2,file.filename=${doubled}`, "driver=raw,file.filename=plain");
  same("snapshot", "-c", name, `./${below}`);
  same("convert", "-l", `snapshot.name=${doubled}`, "-O", "raw", `./${below}`, `./copy ${name}`);
  for (const directory of [twins.theirs, twins.ours]) {
    for (const file of [name, below, `data ${name}`, `copy ${name}`]) rmSync(join(directory, file));
  }
});

describe.each([1, 513, 5000])("a raw file of %i bytes, past the page cache", (bytes) => {
  it.each(["none", "directsync"])("is converted by -t %s to whole sectors", (cache) => {
    writeFileSync(join(twins.theirs, "odd.raw"), Buffer.alloc(bytes, "x"));
    writeFileSync(join(twins.theirs, "there.raw"), Buffer.alloc(Math.ceil(bytes / 512) * 512, "y"));
    twins.same();
    same("convert", "-t", cache, "-f", "raw", "-O", "raw", "odd.raw", "new.raw");
    same("convert", "-n", "-t", cache, "-f", "raw", "-O", "raw", "odd.raw", "there.raw");
    for (const file of ["new.raw", "there.raw"])
      expect(readFileSync(join(twins.ours, file)).equals(readFileSync(join(twins.theirs, file)))).toBe(true);
    expect(statSync(join(twins.ours, "new.raw")).size).toBe(Math.ceil(bytes / 512) * 512);
  });
});

describe.each(["on", "off"])("a data file that held something, data_file_raw=%s", (raw) => {
  const options = `data_file=old.data,data_file_raw=${raw}`;
  /** What qemu-img reads from our image. */
  const content = (): Buffer => {
    execFileSync("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", "d.qcow2", "read.raw"], {
      cwd: twins.ours,
    });
    return readFileSync(join(twins.ours, "read.raw"));
  };
  const ours = (...words: string[]): void =>
    expect(twins.blockwright(...words)).toMatchObject({ status: 0, stderr: "" });

  beforeEach(() => writeFileSync(join(twins.ours, "old.data"), Buffer.alloc(3 * MiB, 0xee)));

  it("shows none of it: not when it is new, beside a write, nor shrunk and grown again", () => {
    ours("create", "-q", "-f", "qcow2", "-o", options, "d.qcow2", "2M");
    const want = Buffer.alloc(2 * MiB);
    expect(content().equals(want)).toBe(true);
    ours("io", "-f", "qcow2", "-c", "write -q -P 5 100k 1000", "d.qcow2");
    want.fill(5, 102_400, 103_400);
    expect(content().equals(want)).toBe(true);
    if (raw === "on") expect(readFileSync(join(twins.ours, "old.data")).equals(want)).toBe(true);
    ours("resize", "-q", "--shrink", "d.qcow2", "64k");
    ours("resize", "-q", "d.qcow2", "2M");
    expect(content().equals(Buffer.alloc(2 * MiB))).toBe(true);
  });

  it("shows what is converted into it, and zeroes beside", () => {
    const want = Buffer.alloc(MiB);
    want.fill(7, 5000, 6000);
    writeFileSync(join(twins.ours, "src.raw"), want);
    ours("convert", "-f", "raw", "-O", "qcow2", "-o", options, "src.raw", "d.qcow2");
    expect(content().equals(want)).toBe(true);
  });
});
