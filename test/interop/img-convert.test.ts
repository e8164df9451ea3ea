// convert beside qemu-img convert: the same words and exit codes; the images that ours makes are equal to the source and
// clean in the real compare and check, take no more space than the original's, and a failed run leaves no target behind.
import { execFileSync, spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Twins, words } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: twins.theirs });
  const io = (image: string, ...commands: string[]): unknown =>
    execFileSync("qemu-io", [...commands.flatMap((command) => ["-c", command]), image], {
      cwd: twins.theirs,
    });
  img("create", "-q", "-f", "qcow2", "base.qcow2", "12M");
  io("base.qcow2", "write -P 1 0 3M", "write -P 2 3500k 100k", "write -P 0 5M 1M", "write -P 3 7000k 3M");
  img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "14M");
  io(
    "top.qcow2",
    "write -P 4 64k 64k",
    "write -z 512k 128k",
    "write -P 5 12800k 10k",
    "write -P 6 1234567 8",
  );
  img("convert", "-O", "raw", "top.qcow2", "top.raw");
  img("convert", "-c", "-O", "qcow2", "top.qcow2", "packed.qcow2");
  img("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", "tiny.qcow2", "3M");
  io("tiny.qcow2", "write -P 7 100 2000", "write -P 8 1M 700k");
  const odd = new Uint8Array(70_001).fill(1).fill(0, 20_000, 40_000);
  writeFileSync(join(twins.theirs, "odd.raw"), odd);
  writeFileSync(join(twins.theirs, "empty.raw"), "");
  writeFileSync(join(twins.theirs, "small.raw"), new Uint8Array(1000));
  writeFileSync(join(twins.theirs, "big.raw"), new Uint8Array(2 ** 24).fill(9));
  img("create", "-q", "-f", "qcow2", "past.qcow2", "3M");
  io("past.qcow2", "write -P 1 0 1M");
  img("snapshot", "-c", "one", "past.qcow2");
  io("past.qcow2", "write -P 2 512k 1M");
  img("snapshot", "-c", "1", "past.qcow2");
  io("past.qcow2", "write -z 0 64k");
  img("create", "-q", "-f", "qcow2", "marked.qcow2", "3M");
  img("bitmap", "--add", "marked.qcow2", "first");
  img("bitmap", "--add", "-g", "4k", "--disable", "marked.qcow2", "second");
  io("marked.qcow2", "write -P 1 100k 300k");
  copyFileSync(join(twins.theirs, "marked.qcow2"), join(twins.theirs, "broken.qcow2"));
  breakBitmap(join(twins.theirs, "broken.qcow2"));
});

beforeEach(() => {
  rmSync(join(twins.theirs, "out"), { force: true });
  twins.same();
});

afterAll(() => twins.remove());

/** Marks the first bitmap of an image as in use, as a crash leaves it. */
function breakBitmap(file: string): void {
  const image = readFileSync(file);
  let at = image.readUInt32BE(100);
  while (image.readUInt32BE(at) !== 0x23852875) at += 8 + Math.ceil(image.readUInt32BE(at + 4) / 8) * 8;
  const directory = Number(image.readBigUInt64BE(at + 24));
  image.writeUInt32BE(image.readUInt32BE(directory + 12) | 1, directory + 12);
  writeFileSync(file, image);
}

function real(...line: string[]): string {
  const { status, stdout, stderr } = spawnSync("qemu-img", line, { cwd: twins.ours, encoding: "utf8" });
  return `${status} ${stdout}${stderr}`;
}

describe("convert", () => {
  it.each([
    ["top.qcow2", "-O raw top.qcow2 out"],
    ["top.qcow2", "top.qcow2 out"],
    ["top.raw", "-f raw -O qcow2 top.raw out"],
    ["top.qcow2", "-q -O qcow2 top.qcow2 out"],
    ["top.qcow2", "-p -O qcow2 -W -m 8 top.qcow2 out"],
    ["top.qcow2", "-c -O qcow2 top.qcow2 out"],
    ["top.qcow2", "-c -O qcow2 -o cluster_size=4k,compat=0.10 top.qcow2 out"],
    ["top.qcow2", "-c -S 64k -O qcow2 packed.qcow2 out"],
    ["top.qcow2", "-O qcow2 -o cluster_size=512 top.qcow2 out"],
    ["top.qcow2", "-O qcow2 -o cluster_size=2M,lazy_refcounts=on top.qcow2 out"],
    ["top.qcow2", "-O qcow2 -o preallocation=metadata top.qcow2 out"],
    ["top.qcow2", "-S 0 -O qcow2 top.qcow2 out"],
    ["top.qcow2", "-S 1M -O raw top.qcow2 out"],
    ["top.qcow2", "-S 512 -t none -T none -O raw packed.qcow2 out"],
    ["top.qcow2", "-B base.qcow2 -F qcow2 -O qcow2 top.qcow2 out"],
    ["top.qcow2", "-B base.qcow2 -F qcow2 -O qcow2 packed.qcow2 out"],
    ["top.qcow2", "-c -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2 out"],
    ["tiny.qcow2", "-O qcow2 tiny.qcow2 out"],
    ["tiny.qcow2", "-U -O raw tiny.qcow2 out"],
    ["odd.raw", "-f raw -O qcow2 odd.raw out"],
    ["odd.raw", "-f raw -O raw odd.raw out"],
    ["odd.raw", "-c -f raw -O qcow2 odd.raw out"],
    ["empty.raw", "-f raw -O qcow2 empty.raw out"],
    ["top.qcow2", "-O qcow2 -o size=1M top.qcow2 out"],
    ["top.qcow2", "--image-opts driver=qcow2,file.filename=top.qcow2 out"],
  ])("copies %s: %s", async (source, line) => {
    const { ours, theirs } = await twins.pair("convert", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    expect(real("compare", "-s", source, source)).toContain("identical");
    expect(real("compare", source, "out")).toMatch(/^0 Images are identical/);
    expect(twins.info(twins.ours, "out")).toEqual(twins.info(twins.theirs, "out"));
    if (/-O qcow2/.test(line)) expect(real("check", "out")).toMatch(/^0 No errors/);
    const blocks = (directory: string): number => statSync(join(directory, "out")).blocks * 512;
    expect(blocks(twins.ours)).toBeLessThanOrEqual(blocks(twins.theirs) * 1.02 + 262_144);
  });

  it.each(["-n", "-n -S 0"])("writes into an image that holds something else: %s", (flags) => {
    const { ours, theirs } = twins.both("convert", ...words(flags), "top.qcow2", "big.raw");
    expect(ours).toEqual(theirs);
    expect(real("compare", "top.qcow2", "big.raw").replace(/^. Warning.*\n/, "")).toContain(
      "Content mismatch",
    );
    truncateSync(join(twins.ours, "big.raw"), 14 * 2 ** 20);
    expect(real("compare", "top.qcow2", "big.raw")).toMatch(/^0 Images are identical/);
    copyFileSync(join(twins.theirs, "base.qcow2"), join(twins.ours, "base.qcow2"));
  });

  it("writes into a qcow2 image that reads as zeroes", () => {
    execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "zero.qcow2", "14M"], { cwd: twins.ours });
    const line = "-n --target-is-zero --target-image-opts top.qcow2 driver=qcow2,file.filename=zero.qcow2";
    expect(twins.blockwright("convert", ...words(line))).toMatchObject({ status: 0, stderr: "" });
    expect(real("compare", "top.qcow2", "zero.qcow2")).toMatch(/^0 Images are identical/);
  });

  it.each([
    "",
    "top.qcow2",
    "-O nope top.qcow2 out",
    "-O qcow2 -o foo=1 top.qcow2 out",
    "-O qcow2 -o cluster_size=3k top.qcow2 out",
    "-O raw -c top.qcow2 out",
    "-O qcow2 -c -o preallocation=full top.qcow2 out",
    "-f nope top.qcow2 out",
    "-f qcow2 top.raw out",
    "none.raw out",
    "-S x top.qcow2 out",
    "-S 1000 top.qcow2 out",
    "-m 0 top.qcow2 out",
    "-m 17 top.qcow2 out",
    "-t nope top.qcow2 out",
    "-T nope top.qcow2 out",
    "-n top.qcow2 missing.raw",
    "-n -f qcow2 top.qcow2 small.raw",
    "-n -O qcow2 top.qcow2 big.raw",
    "-n -o size=1M top.qcow2 big.raw",
    "--target-is-zero top.qcow2 out",
    "-B base.qcow2 -O qcow2 top.qcow2 out",
    "-B none.qcow2 -F qcow2 -O qcow2 top.qcow2 out",
    "-B base.qcow2 -F qcow2 -O raw top.qcow2 out",
    "-F qcow2 -O qcow2 top.qcow2 out",
    "-O qcow2 top.qcow2 nowhere/out",
    "-O qcow2 top.qcow2 top.qcow2",
    "-f raw -O raw odd.raw odd.raw",
    "-n -f raw -O qcow2 base.qcow2 base.qcow2",
    "-n -O qcow2 top.qcow2 top.qcow2",
    "--target-is-zero --skip-broken-bitmaps -O raw top.qcow2 out",
    "-C -S 0 --target-image-opts top.qcow2 driver=raw,file.filename=out",
    "-F qcow2 -O raw top.qcow2 out",
    "-f raw -O qcow2 small.raw odd.raw ./odd.raw",
    "-O raw top.qcow2 base.qcow2",
    "-O qcow2 -o data_file_raw=on top.qcow2 out",
  ])("refuses in qemu-img's words: %s", async (line) => {
    const { ours, theirs } = await twins.pair("convert", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    expect(readdirSync(twins.ours)).not.toContain("out");
  });

  it("does not write into its own source", () => {
    const before = readFileSync(join(twins.ours, "odd.raw"));
    const { ours, theirs } = twins.both("convert", ...words("-n -f raw -O raw odd.raw odd.raw"));
    expect([ours.status, theirs.status]).toEqual([1, 1]);
    expect(ours.stderr).toContain('Failed to get "write" lock');
    expect(readFileSync(join(twins.ours, "odd.raw")).equals(before)).toBe(true);
  });

  it.each([
    ["past.qcow2", "-l one -O qcow2 past.qcow2 out"],
    ["past.qcow2", "-l 1 -O raw past.qcow2 out"],
    ["past.qcow2", "-l snapshot.id=2 -U -O qcow2 past.qcow2 out"],
    ["past.qcow2", "-l snapshot.name=1 -c -O qcow2 past.qcow2 out"],
    ["past.qcow2", "-l snapshot.id=1,snapshot.name=one -q -p -O raw past.qcow2 out"],
    ["past.qcow2 top.qcow2", "-p -O qcow2 past.qcow2 top.qcow2 out"],
    ["odd.raw small.raw odd.raw", "-f raw -O raw odd.raw small.raw odd.raw out"],
    ["odd.raw small.raw odd.raw", "-c -f raw -O qcow2 odd.raw small.raw odd.raw out"],
    ["empty.raw big.raw empty.raw", "-f raw -O qcow2 -m 2 empty.raw big.raw empty.raw out"],
    ["tiny.qcow2 top.qcow2", "-O qcow2 -o cluster_size=512,extended_l2=off tiny.qcow2 top.qcow2 out"],
    ["top.qcow2", "-r 100M -C -O raw top.qcow2 out"],
    ["top.qcow2", "-r 0 -W -m 1 --salvage -O qcow2 top.qcow2 out"],
    ["top.qcow2", "-O qcow2 -o data_file=data.raw,data_file_raw=on top.qcow2 out"],
    ["top.qcow2", '-f qcow2 -O raw json:{"driver":"raw","file.filename":"top.qcow2"} out'],
    ["marked.qcow2", "--bitmaps -p -O qcow2 marked.qcow2 out"],
    ["broken.qcow2", "--bitmaps --skip-broken-bitmaps -q -O qcow2 broken.qcow2 out"],
  ])("copies as qemu-img does: %s: %s", async (_sources, line) => {
    const { ours, theirs } = await twins.pair("convert", ...words(line));
    expect(theirs.status).toBe(0);
    expect(ours).toEqual(theirs);
    expect(real("compare", join(twins.theirs, "out"), "out")).toMatch(/^0 Images are identical/);
    expect(twins.info(twins.ours, "out")).toEqual(twins.info(twins.theirs, "out"));
    if (/-O qcow2/.test(line)) expect(real("check", "out")).toMatch(/^0 No errors/);
  });

  it.each([
    "-l nope past.qcow2 out",
    "-l snapshot.name=nope past.qcow2 out",
    "-l snapshot.id=9,snapshot.name=one past.qcow2 out",
    "-l snapshot.what=1 past.qcow2 out",
    "-f raw -l one odd.raw out",
    "-l one past.qcow2 top.qcow2 out",
    "-r x top.qcow2 out",
    "-r -1 top.qcow2 out",
    "-C -c -O qcow2 top.qcow2 out",
    "-C -S 4k top.qcow2 out",
    "-C --salvage top.qcow2 out",
    "-O qcow2 -B top.qcow2 top.qcow2 top.qcow2 out",
    "--bitmaps -O raw marked.qcow2 out",
    "--bitmaps -O qcow2 -f raw odd.raw out",
    "--bitmaps -O qcow2 -o compat=0.10 marked.qcow2 out",
    "--bitmaps -O qcow2 marked.qcow2 marked.qcow2 out",
    "--bitmaps -O qcow2 broken.qcow2 out",
    "--skip-broken-bitmaps -O qcow2 marked.qcow2 out",
    "--image-opts -f qcow2 driver=qcow2,file.filename=top.qcow2 out",
    "-B base.qcow2 -F qcow2 -O qcow2 top.qcow2 past.qcow2 out",
    "-p none.raw out",
    "-p top.qcow2 none.raw out",
    "-p -O qcow2 -o cluster_size=3k top.qcow2 out",
    "-n -p --bitmaps -O qcow2 marked.qcow2 broken.qcow2",
    "-x top.qcow2 out",
    "--nothing top.qcow2 out",
    "top.qcow2 out -O",
    "--target-image-opts -n -O raw top.qcow2 driver=raw,file.filename=big.raw",
    "-n --target-image-opts top.qcow2 big.raw",
  ])("refuses as qemu-img does: %s", async (line) => {
    const { ours, theirs } = await twins.pair("convert", ...words(line));
    expect(theirs.status).toBe(1);
    expect(ours).toEqual(theirs);
    expect(readdirSync(twins.ours)).not.toContain("out");
  });

  it("puts zeroes for what can't be read when it salvages, and tells each sector", async () => {
    const rules = [2048, 2050].map((sector) => ({
      event: "none",
      iotype: "read",
      errno: 5,
      sector,
      once: false,
    }));
    const below = { driver: "raw", file: { driver: "file", filename: "top.raw" } };
    const source = `json:${JSON.stringify({ driver: "blkdebug", image: below, "inject-error": rules })}`;
    const { ours, theirs } = await twins.pair("convert", "--salvage", "-O", "qcow2", source, "out");
    expect(ours.stderr).toContain("warning: error while reading offset 1048576: Input/output error");
    expect(ours).toEqual(theirs);
    expect(real("compare", join(twins.theirs, "out"), "out")).toMatch(/^0 Images are identical/);
    const quiet = await twins.pair("convert", "--salvage", "-q", "-O", "raw", source, "out");
    expect(quiet.ours).toEqual(quiet.theirs);
    const status = [{ event: "none", iotype: "block-status", errno: 5, sector: 2048, once: false }];
    const blind = `json:${JSON.stringify({ driver: "blkdebug", image: below, "inject-error": status })}`;
    const salvaged = await twins.pair("convert", "--salvage", "-O", "raw", blind, "out");
    expect(salvaged.ours.status).toBe(0);
    // Twice: while it counts, and while it copies.
    const words = "warning: error while reading block status at offset 1048576: Input/output error\n";
    expect(`${salvaged.ours.stderr}\n`).toBe(`blockwright: ${words}`.repeat(2));
    expect(salvaged.ours).toEqual(salvaged.theirs);
    expect(real("compare", "-f", "raw", "-F", "raw", "top.raw", "out")).toMatch(/^0 Images are identical/);
    const refused = await twins.pair("convert", "-O", "raw", blind, "out2");
    expect(refused.ours.stderr).toMatch(
      /^blockwright: error while reading block status at offset \d+: Input/,
    );
    expect(readdirSync(twins.ours)).not.toContain("out2");
  });

  it("leaves no target when reading or writing fails, and says where", () => {
    const rules = [{ event: "none", iotype: "read", errno: 5, sector: 2048, once: false }];
    const below = { driver: "raw", file: { driver: "file", filename: "top.raw" } };
    const source = `json:${JSON.stringify({ driver: "blkdebug", image: below, "inject-error": rules })}`;
    const ours = twins.blockwright("convert", "-O", "qcow2", source, "out");
    expect(ours.status).toBe(1);
    expect(ours.stderr).toMatch(/^blockwright: error while reading at byte \d+: Input\/output error$/);
    expect(existsSync(join(twins.ours, "out"))).toBe(false);
  });
});
