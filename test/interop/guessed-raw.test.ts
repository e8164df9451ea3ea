// Images whose format nobody names: what is no raw disk is not taken for one, what was guessed to be raw does not become another
// format's image, and it is said where qemu-img says it.
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
const foreign = ["vmdk", "vdi", "vhdx", "vpc", "qed", "qcow"] as const;

/** What qemu-img makes; not shared, since it makes no two alike. */
function ours(name: string): string {
  return join(twins.ours, name);
}

beforeAll(() => {
  const make = (words: string): unknown => execFileSync("qemu-img", words.split(" "), { cwd: twins.theirs });
  for (const format of foreign) make(`create -q -f ${format} disk.${format} 4M`);
  make("create -q -f qcow2 header 1M");
  truncateSync(join(twins.theirs, "header"), 65_536);
  writeFileSync(join(twins.theirs, "base"), Buffer.alloc(1 << 20));
  make("create -q -f qcow2 -b base -F raw top");
  // As older programs made overlays: the format of the backing file stands nowhere.
  const image = readFileSync(join(twins.theirs, "top"));
  image.writeUInt32BE(0x12345678, image.indexOf(Buffer.from("e2792aca", "hex")));
  writeFileSync(join(twins.theirs, "top"), image);
  execFileSync("qemu-io", ["-c", "write -q -s header 0 64k", "top"], { cwd: twins.theirs });
  twins.same();
});

afterAll(() => twins.remove());

describe.each(foreign)("an image in the format %s", (format) => {
  const image = `disk.${format}`;

  it.each([
    ["convert", image, "out"],
    ["dd", `if=${image}`, "of=out"],
    ["info", image],
    ["map", image],
    ["resize", image, "8M"],
    ["snapshot", "-l", image],
    ["io", "-c", "read 0 512", image],
    ["mirror", image, "out"],
  ])("is refused by name: %s %s %s", (...words) => {
    const before = readFileSync(ours(image));
    const { status, stdout, stderr } = twins.blockwright(...words);
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(`Image is in ${format} format, which is not supported; give the format 'raw'`);
    expect(readFileSync(ours(image)).equals(before)).toBe(true);
  });

  it("is taken as bytes where that is asked for", () => {
    const words = ["convert", "-f", "raw", "-O", "raw", image, "bytes"];
    expect(twins.blockwright(...words)).toEqual({ status: 0, stdout: "", stderr: "" });
    const [copy, bytes] = [readFileSync(ours("bytes")), readFileSync(ours(image))];
    expect(copy.subarray(0, bytes.length).equals(bytes)).toBe(true);
  });
});

describe("a disk that was guessed to be raw", () => {
  const warning = "Image format was not specified for";

  it("takes no other format's header: commit", () => {
    for (const { status, stderr } of Object.values(twins.both("commit", "top"))) {
      expect(status).toBe(1);
      expect(stderr).toContain("Operation not permitted");
    }
    expect(readFileSync(ours("base")).equals(Buffer.alloc(1 << 20))).toBe(true);
    // By its name it does.
    copyFileSync(ours("base"), ours("named"));
    copyFileSync(ours("top"), ours("named-top"));
    expect(twins.blockwright("rebase", "-u", "-b", "named", "-F", "raw", "named-top").status).toBe(0);
    expect(twins.blockwright("commit", "named-top").status).toBe(0);
    expect(readFileSync(ours("named")).toString("latin1", 0, 3)).toBe("QFI");
  });

  it("takes no other format's header: io", () => {
    const words = ["-c", "write -s header 0 64k", "-c", "write -q -P 1 64k 64k", "base"];
    const { status, stderr, stdout } = twins.blockwright("io", ...words);
    expect(twins.qemuIo(words)).toEqual({ status, stderr, stdout });
    expect(`${stdout}${stderr}`).toContain("Operation not permitted");
    expect(stderr).toContain(warning);
  });

  it.each([
    [true, ["bench", "-w", "-c", "1", "-s", "512", "--pattern", "0", "base"]],
    [true, ["resize", "base", "1M"]],
    [true, ["rebase", "-u", "-b", "x", "-F", "raw", "base"]],
    [false, ["info", "base"]],
    [false, ["map", "base"]],
    [false, ["convert", "-O", "raw", "base", "copy"]],
    [false, ["measure", "-O", "qcow2", "base"]],
  ])("is told where it is to be written, as by qemu-img: %s %j", (isTold, words) => {
    const { theirs, ours: here } = twins.both(...words);
    expect(here.stderr.includes(warning)).toBe(isTold);
    expect(theirs.stderr.includes(warning)).toBe(isTold);
  });
});
