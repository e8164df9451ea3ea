// map beside qemu-img map: chains with shorter backing files, compressed and preallocated clusters, sparse and odd raw files.
import { execFileSync } from "node:child_process";
import { appendFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { runVerb } from "../support/verb-client.ts";
import { Twins } from "./support/twins.ts";

let twins: Twins;

beforeAll(() => {
  twins = new Twins();
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: twins.theirs });
  const io = (image: string, ...commands: string[]): unknown =>
    execFileSync("qemu-io", [...commands.flatMap((command) => ["-c", command]), image], {
      cwd: twins.theirs,
    });
  img("create", "-q", "-f", "qcow2", "base.qcow2", "4M");
  io("base.qcow2", "write -P 1 0 1M", "write -P 2 2M 100k", "write -z 3M 256k");
  img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "6M");
  io("top.qcow2", "write -P 3 64k 64k", "write -z 512k 128k", "write -P 5 5M 10k", "discard 5M 64k");
  io("top.qcow2", "write -P 5 5632k 10k");
  img("convert", "-O", "raw", "top.qcow2", "top.raw");
  img("convert", "-c", "-O", "qcow2", "top.qcow2", "packed.qcow2");
  img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata,cluster_size=4k", "pre.qcow2", "2M");
  io("pre.qcow2", "write -P 3 64k 64k");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_001).fill(1));
  truncateSync(join(twins.theirs, "odd.raw"), 200_001);
  writeFileSync(join(twins.theirs, "empty.raw"), "");
  // A hole, and one byte of data in a sector that the file ends in.
  const tail = join(twins.theirs, "tail.raw");
  writeFileSync(tail, "");
  truncateSync(tail, 65_536);
  appendFileSync(tail, "x");
  twins.share();
});

afterAll(() => twins.remove());

it.each([
  "top.qcow2",
  "--output=json top.qcow2",
  "-f raw top.raw",
  "--output=json -f raw top.raw",
  "--output=json packed.qcow2",
  "packed.qcow2",
  "--output=json pre.qcow2",
  "pre.qcow2",
  "--output=json -f raw odd.raw",
  "-f raw odd.raw",
  "--output=json odd.raw",
  "--output=json tail.raw",
  "--output=json -f raw tail.raw",
  "--output=json -f raw empty.raw",
  "--output=json -s 100k -l 1M top.qcow2",
  "-s 100k -l 1M top.qcow2",
  "-s 1 -l 1 --output=json top.qcow2",
  "-s 10M --output=json top.qcow2",
  "-l 0 --output=json top.qcow2",
  "-U --max-length=64k --start-offset=64k --output=json top.qcow2",
  "--image-opts driver=qcow2,file.filename=base.qcow2",
  "-s x top.qcow2",
  "-l 9E top.qcow2",
  "--output=y top.qcow2",
  "-f qcow2 -U top.raw",
  "none.qcow2",
  "a b",
  "",
  "--start-offset=1M --max-length 1M base.qcow2",
  "--output=json -s 0x10000 -l 1.5k top.qcow2",
  'json:{"driver":"qcow2","file.filename":"top.qcow2"}',
  "-s -1 top.qcow2",
  "-l x top.qcow2",
  "-l -1 top.qcow2",
  "-s 9E top.qcow2",
  "-f nope top.qcow2",
  "-f qcow2 top.raw",
  "--image-opts -f raw driver=raw,file.filename=top.raw",
  "--image-opts top.qcow2",
  "-x top.qcow2",
  "--nothing top.qcow2",
  "top.qcow2 -s",
  "-f",
])("maps as qemu-img: %s", async (line) => {
  const { ours, theirs } = await twins.pair("map", ...line.split(" ").filter((word) => word !== ""));
  expect(ours).toEqual(theirs);
});

it("says what is stored compressed where newer answers are asked for, as QEMU has done since 8.2", () => {
  const map = (...words: string[]): Record<string, unknown>[] =>
    JSON.parse(
      runVerb(["map", "--output=json", ...words, "packed.qcow2"], { cwd: twins.theirs }).stdout,
    ) as Record<string, unknown>[];
  const entries = map("--compat", "10.1");
  expect(Object.keys(entries[0]!).slice(0, 7)).toEqual([
    "start",
    "length",
    "depth",
    "present",
    "zero",
    "data",
    "compressed",
  ]);
  expect(entries.filter(({ compressed }) => compressed === true).length).toBeGreaterThan(0);
  for (const { compressed, data, zero } of entries) expect(compressed).toBe(data === true && zero === false);
  for (const entry of entries) delete entry["compressed"];
  expect(entries).toEqual(map());
});
