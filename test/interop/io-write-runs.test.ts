// A write over clusters that lie in a row in the file is one request to it, whatever they held: as many injected errors end as many
// writes as with qemu-io.
import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { commands, masked } from "./support/io.ts";
import { withTemplates } from "./support/twins.ts";

const rule = (errno: number): string =>
  `[inject-error]\nevent = "write_aio"\nerrno = "${errno}"\nonce = "on"\n`;

const twins = withTemplates((templates) => {
  templates.run("qemu-img", "create -q -f qcow2 a.qcow2 4M");
  templates.write("a.qcow2", "write -q -P 1 0 64k", "write -q -P 2 64k 64k", "write -q -P 3 128k 64k");
  writeFileSync(join(templates.theirs, "rules"), rule(5) + rule(28));
});

it.each([
  ["data, zero, data", ["write -q -z 64k 64k"]],
  ["zero, zero, data", ["write -q -z 0 128k"]],
  ["zero, data, zero", ["write -q -z 0 64k", "write -q -z 128k 64k"]],
  ["data only", []],
])("two errors end two writes over %s", (_, zeroes) => {
  for (const cwd of [twins.theirs, twins.ours])
    for (const line of zeroes) execFileSync("qemu-io", ["-c", line, "a.qcow2"], { cwd });
  const write = "write -P 9 1k 190k";
  const words = ["blkdebug:rules:a.qcow2", ...commands(write, write, write, "read -P 9 1k 190k")];
  const ours = masked(twins.blockwright("io", ...words));
  expect(ours).toEqual(masked(twins.qemuIo(words)));
  expect(`${ours.stdout}${ours.stderr}`.match(/write failed: .*/g)).toEqual([
    "write failed: Input/output error",
    "write failed: No space left on device",
  ]);
  const theirs = join(twins.theirs, "a.qcow2");
  expect(
    execFileSync("qemu-img", ["compare", "a.qcow2", theirs], { cwd: twins.ours, encoding: "utf8" }),
  ).toBe("Images are identical.\n");
});
