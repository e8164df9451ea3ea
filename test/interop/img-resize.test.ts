// resize beside qemu-img resize: the same words, exit codes and lengths, growing, shrinking and preallocating.
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const twins = new Twins();

beforeEach(() => {
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: twins.theirs });
  img("create", "-q", "-f", "qcow2", "a.qcow2", "4M");
  img("create", "-q", "-f", "raw", "a.raw", "4M");
  img("create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2");
  execFileSync("qemu-io", ["-c", "write -P 3 1M 3M", "a.qcow2"], { cwd: twins.theirs });
  twins.same();
});

afterAll(() => twins.remove());

it.each([
  "a.qcow2 8M",
  "-q a.qcow2 +1M",
  "--shrink a.qcow2 -1M",
  "--shrink a.qcow2 1M",
  "a.qcow2 --shrink -512",
  "a.qcow2 4M",
  "a.qcow2 +0",
  "a.qcow2 200G",
  "--preallocation=metadata a.qcow2 9M",
  "--preallocation=full a.qcow2 9M",
  "--preallocation=falloc a.qcow2 +1M",
  "-f raw a.raw 8M",
  "a.raw 8M",
  "-f raw --shrink a.raw 1000",
  "-f raw --preallocation=full a.raw 9M",
  "top.qcow2 8M",
  "--image-opts driver=qcow2,file.filename=a.qcow2 20M",
  "a.qcow2 -1M",
  "-f raw a.raw 1M",
  "a.qcow2 x",
  "a.qcow2 +",
  "a.qcow2",
  "",
  "a.qcow2 1M 2M",
  "none.qcow2 1M",
  "-f nope a.qcow2 1M",
  "--preallocation=x a.qcow2 9M",
  "--preallocation=metadata -f raw a.raw 10M",
  "--preallocation=full top.qcow2 9M",
  "--shrink --preallocation=full a.qcow2 1M",
  "--shrink a.qcow2 -100M",
  "--shrink a.qcow2 0",
  "a.qcow2 9E",
  "a.qcow2 4E",
  "-f raw a.raw 4E",
  "a.qcow2 20000001",
  "-f qcow2 a.qcow2 0x800000",
  "a.qcow2 5.5M",
  "-q --preallocation=off a.qcow2 +1.5k",
  "--image-opts -f raw driver=raw,file.filename=a.raw 8M",
  "--nothing a.qcow2 8M",
  "-x a.qcow2 8M",
  "--shrink -f raw a.raw 0",
  "a.qcow2 --5M",
])("resizes as qemu-img: %s", async (line) => {
  const { ours, theirs } = await twins.pair("resize", ...line.split(" ").filter((word) => word !== ""));
  expect(ours).toEqual(theirs);
  for (const file of ["a.qcow2", "a.raw", "top.qcow2"])
    expect(twins.info(twins.ours, file)).toEqual(twins.info(twins.theirs, file));
  const check = execFileSync("qemu-img", ["check", "a.qcow2"], { cwd: twins.ours, encoding: "utf8" });
  expect(check).toContain("No errors");
  expect(statSync(join(twins.ours, "a.raw")).size).toBe(statSync(join(twins.theirs, "a.raw")).size);
});
