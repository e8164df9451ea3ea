// create and manifest never touch the files that they use: refused before anything is written, by whatever name.
import { execFileSync, spawnSync } from "node:child_process";
import { linkSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";

const cli = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-own-"));
  const img = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: folder });
  img("create", "-q", "-f", "qcow2", "-o", "data_file=s.data", "s.qcow2", "1M");
  execFileSync("qemu-io", ["-f", "qcow2", "-c", "write -q -P 1 0 64k", "s.qcow2"], { cwd: folder });
  img("create", "-q", "-f", "qcow2", "-b", "s.qcow2", "-F", "qcow2", "ov.qcow2");
  linkSync(join(folder, "s.qcow2"), join(folder, "hard.qcow2"));
  symlinkSync("s.qcow2", join(folder, "soft.qcow2"));
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.each([
  "create -f qcow2 -b s.qcow2 -F qcow2 s.qcow2",
  "create -f qcow2 -b s.qcow2 -F qcow2 ./s.qcow2",
  "create -f qcow2 -b s.qcow2 -F qcow2 soft.qcow2",
  "create -f qcow2 -b s.qcow2 -F qcow2 hard.qcow2",
  "create -f qcow2 -u -b s.qcow2 -F qcow2 hard.qcow2 1M",
  "create -f qcow2 -b ov.qcow2 -F qcow2 s.qcow2",
  "create -f qcow2 -b ov.qcow2 -F qcow2 s.data",
  "create -f qcow2 -b ov.qcow2 -F qcow2 -o data_file=s.data new.qcow2",
  "create -f qcow2 -b ov.qcow2 -F qcow2 -o data_file=ov.qcow2 new.qcow2",
  "create -f qcow2 -o data_file=s.qcow2 hard.qcow2 1M",
  "create -f qcow2 -o data_file=new.qcow2 ./new.qcow2 1M",
  "create -f qcow2 -o cluster_size=3 s.qcow2 1M",
  "create -f qcow2 -o compat=0.10,extended_l2=on s.qcow2 1M",
  "create -f qcow2 -o compat=0.10,data_file=s.data s.qcow2 1M",
  "create -f qcow2 -o data_file=snap_10:20.data new.qcow2 1M",
  "create -f qcow2 -b missing -F qcow2 s.qcow2",
  "manifest -o s.qcow2 s.qcow2",
  "manifest -o soft.qcow2 s.qcow2",
])("%s is refused, and nothing is touched", (line) => {
  const names = ["s.qcow2", "s.data", "ov.qcow2"];
  const before = names.map((name) => readFileSync(join(folder, name)));
  const done = spawnSync(process.execPath, [cli, ...line.split(" ")], { cwd: folder, encoding: "utf8" });
  expect([done.status, done.stderr]).toEqual([1, expect.stringContaining("blockwright: ")]);
  const after = names.map((name) => readFileSync(join(folder, name)));
  expect(after.map((bytes, index) => bytes.equals(before[index]!))).toEqual([true, true, true]);
  expect(() => readFileSync(join(folder, "new.qcow2"))).toThrow("ENOENT");
});
