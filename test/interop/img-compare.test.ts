// compare beside qemu-img compare: equal and different content, sizes and allocation, and images that do not open.
import { execFileSync } from "node:child_process";
import { copyFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

/** A disk of which a sector behind the end of top.qcow2 (that of byte 7000000) can't be read. */
const broken = (file: string): string =>
  `json:${JSON.stringify({
    driver: "blkdebug",
    image: { driver: "raw", file: { driver: "file", filename: file } },
    "inject-error": [{ event: "none", iotype: "read", sector: 13_671, once: false }],
  })}`;

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: twins.theirs });
  const io = (format: string, image: string, ...commands: string[]): unknown =>
    execFileSync("qemu-io", ["-f", format, ...commands.flatMap((command) => ["-c", command]), image], {
      cwd: twins.theirs,
    });
  const copy = (from: string, to: string): void =>
    copyFileSync(join(twins.theirs, from), join(twins.theirs, to));
  img("create", "-q", "-f", "qcow2", "base.qcow2", "4M");
  io("qcow2", "base.qcow2", "write -P 1 0 3M", "write -P 2 3500k 100k");
  img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "6M");
  io("qcow2", "top.qcow2", "write -P 3 64k 64k", "write -z 512k 128k", "write -P 5 5M 10k");
  img("convert", "-O", "raw", "top.qcow2", "same.raw");
  img("convert", "-c", "-O", "qcow2", "top.qcow2", "packed.qcow2");
  img("convert", "-O", "qcow2", "top.qcow2", "flat.qcow2");
  copy("flat.qcow2", "flat2.qcow2");
  copy("same.raw", "differs.raw");
  io("raw", "differs.raw", "write -P 9 2500000 1");
  copy("same.raw", "longer.raw");
  truncateSync(join(twins.theirs, "longer.raw"), 8 * 2 ** 20);
  copy("longer.raw", "dirty.raw");
  io("raw", "dirty.raw", "write -P 9 7000000 1");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_001).fill(1));
  writeFileSync(join(twins.theirs, "odd2.raw"), new Uint8Array(70_144).fill(1).fill(0, 70_001));
  writeFileSync(join(twins.theirs, "empty.raw"), "");
  twins.share();
});

afterAll(() => twins.remove());

it.each([
  "top.qcow2 same.raw",
  "-f qcow2 -F raw top.qcow2 same.raw",
  "packed.qcow2 top.qcow2",
  "-q top.qcow2 differs.raw",
  "top.qcow2 differs.raw",
  "differs.raw packed.qcow2",
  "top.qcow2 longer.raw",
  "longer.raw top.qcow2",
  "top.qcow2 dirty.raw",
  "-s top.qcow2 longer.raw",
  "-s top.qcow2 same.raw",
  "-s same.raw top.qcow2",
  "-s flat.qcow2 flat2.qcow2",
  "-s packed.qcow2 same.raw",
  "-f raw -F raw odd.raw odd2.raw",
  "-s -f raw -F raw odd2.raw odd.raw",
  "-f raw top.qcow2 same.raw",
  "-f raw -F raw empty.raw same.raw",
  "-f raw -F raw empty.raw empty.raw",
  "-U -T writeback top.qcow2 same.raw",
  "--image-opts driver=raw,file.filename=same.raw driver=qcow2,file.filename=top.qcow2",
  "top.qcow2 none.raw",
  "-F qcow2 top.qcow2 same.raw",
  "-f nope top.qcow2 same.raw",
  "-T nope top.qcow2 same.raw",
  "top.qcow2",
  "a b c",
  "-p top.qcow2 same.raw",
  "-p -s flat.qcow2 flat2.qcow2",
  "-p -q top.qcow2 same.raw",
  "-p top.qcow2 none.raw",
  'json:{"driver":"qcow2","file.filename":"top.qcow2"} same.raw',
  "none.raw top.qcow2",
  "-f qcow2 same.raw top.qcow2",
  "-F nope top.qcow2 same.raw",
  "-p -s top.qcow2 longer.raw",
  `top.qcow2 ${broken("dirty.raw")}`,
  `${broken("dirty.raw")} top.qcow2`,
  "-q -s longer.raw top.qcow2",
  "--image-opts -f raw driver=raw,file.filename=same.raw driver=qcow2,file.filename=top.qcow2",
  "--image-opts same.raw top.qcow2",
  "-x top.qcow2 same.raw",
  "--nothing top.qcow2 same.raw",
  "top.qcow2 same.raw -F",
  "-T",
])("answers as qemu-img: %s", async (line) => {
  const { ours, theirs } = await twins.pair("compare", ...line.split(" "));
  expect(ours).toEqual(theirs);
});
