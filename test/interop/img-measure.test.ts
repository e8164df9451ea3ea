// measure beside qemu-img measure: every option that changes the size, of images and of plain sizes, as text and as JSON.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const twins = new Twins();

beforeAll(() => {
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: twins.theirs });
  const io = (image: string, ...commands: string[]): unknown =>
    execFileSync("qemu-io", [...commands.flatMap((command) => ["-c", command]), image], {
      cwd: twins.theirs,
    });
  img("create", "-q", "-f", "qcow2", "base.qcow2", "12M");
  io("base.qcow2", "write -P 1 0 3M", "write -P 2 3500k 100k", "write -z 7000k 3M");
  img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2", "14M");
  io("top.qcow2", "write -P 4 64k 64k", "write -P 5 12800k 10k");
  img("bitmap", "--add", "-g", "64k", "top.qcow2", "changes");
  img("convert", "-O", "raw", "top.qcow2", "top.raw");
  img("create", "-q", "-f", "qcow2", "-o", "compat=0.10", "old.qcow2", "12M");
  img("create", "-q", "-f", "qcow2", "past.qcow2", "3M");
  for (const [pattern, name] of ["one", "1"].entries()) {
    io("past.qcow2", `write -P ${pattern} ${pattern * 300}k 1M`);
    img("snapshot", "-c", name, "past.qcow2");
  }
  io("past.qcow2", "write -P 7 0 3M");
  writeFileSync(join(twins.theirs, "odd.raw"), new Uint8Array(70_001).fill(1));
  twins.share();
});

afterAll(() => twins.remove());

it.each([
  "-O qcow2 top.qcow2",
  "-O qcow2 --output=json top.qcow2",
  "-O qcow2 -o compat=0.10 top.qcow2",
  "-O qcow2 old.qcow2",
  "-O raw top.qcow2",
  "-f raw -O qcow2 top.raw",
  "-f raw -O qcow2 odd.raw",
  "-U -f raw -O qcow2 -o cluster_size=512 odd.raw",
  "-O qcow2 -o backing_file=x,backing_fmt=raw top.qcow2",
  "-f raw -O qcow2 -o preallocation=metadata top.raw",
  "--image-opts -O qcow2 driver=qcow2,file.filename=top.qcow2",
  "--size 1G -O qcow2",
  "--size 1G",
  "--size 1000 -O raw --output=json",
  "--size 1000 -O qcow2",
  "--size 0 -O qcow2",
  "--size 1P -O qcow2",
  "--size 1G -O qcow2 -o cluster_size=4k -o refcount_bits=64",
  "--size 3T -O qcow2 -o cluster_size=2M,refcount_bits=1",
  "--size 1G -O qcow2 -o preallocation=full",
  "--size 1G -O qcow2 -o extended_l2=on",
  "--size 4E -O qcow2",
  "--size x -O qcow2",
  "--size 1G -O nope",
  "--size 1G -O qcow2 -o compat=v3",
  "--size 1G -O qcow2 -o foo=1",
  "--size 1G -O qcow2 -o cluster_size=3k",
  "--size 1G -O qcow2 -o refcount_bits=3",
  "--size 1G -O qcow2 -o preallocation=x",
  "--size 1G --output=x",
  "--size 1G top.qcow2",
  "-f raw --size 1G",
  "-O qcow2 none.qcow2",
  "a b",
  "",
  "-O qcow2 -l one past.qcow2",
  "-O qcow2 --output=json -l snapshot.id=2 past.qcow2",
  "-O raw -l snapshot.name=1 past.qcow2",
  "-O qcow2 past.qcow2",
  "-O qcow2 -l nope past.qcow2",
  "-O qcow2 -l snapshot.x=1 past.qcow2",
  "-f raw -l one top.raw",
  "-l one",
  "--size 1M -l one",
  "--image-opts",
  "--image-opts -f raw driver=raw,file.filename=top.raw",
  "-f nope -O qcow2 top.qcow2",
  "--size 1M -O qcow2 -o compression_type=zstd",
  "--image-opts none",
])("answers as qemu-img: %s", async (line) => {
  const { ours, theirs } = await twins.pair("measure", ...line.split(" ").filter((word) => word !== ""));
  const parsed = (text: string): unknown => (text.startsWith("{") ? JSON.parse(text) : text);
  expect({ ...ours, stdout: parsed(ours.stdout) }).toEqual({ ...theirs, stdout: parsed(theirs.stdout) });
});
