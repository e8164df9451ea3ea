// Two disks that change their files while they are open: what was read of the old file counts no more, and qemu-img finds both whole.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { program } from "./support/twins.ts";

const cwd = mkdtempSync(join(tmpdir(), "bw-reopen-"));

afterAll(() => rmSync(cwd, { recursive: true, force: true }));

const disk = (name: string, file?: string): object => ({
  driver: "qcow2",
  "node-name": name,
  file: file ?? { driver: "file", "node-name": `${name}-file`, filename: `${name}.qcow2` },
});
const qmp = (execute: string, args: object = {}): string => JSON.stringify({ execute, arguments: args });
const io = (line: string): string => qmp("human-monitor-command", { "command-line": `qemu-io ${line}` });

it("lets two disks change their files, and change them back", () => {
  for (const name of ["a", "c"])
    spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", `${name}.qcow2`, "16M"], { cwd });
  const lines = [
    qmp("qmp_capabilities"),
    qmp("blockdev-add", disk("a")),
    qmp("blockdev-add", disk("c")),
    io('a "write -P 1 0 1M"'),
    io('c "write -P 2 4M 1M"'),
    io('c "write -P 3 0 1M"'),
    qmp("blockdev-reopen", { options: [disk("a", "c-file")] }),
    qmp("blockdev-reopen", { options: [disk("a", "c-file"), disk("c", "a-file")] }),
    io('a "write -P 4 8M 1M"'),
    qmp("blockdev-reopen", { options: [disk("a", "a-file"), disk("c", "c-file")] }),
    io('a "write -P 5 12M 1M"'),
    qmp("quit"),
  ];
  const words = [program, "machine", "-nodefaults", "-S", "-qmp", "stdio"];
  const { stdout } = spawnSync(process.execPath, words, {
    cwd,
    input: `${lines.join("\n")}\n`,
    encoding: "utf8",
  });
  // Alone it would be a file of both.
  expect(stdout.match(/"error"/g)).toHaveLength(1);
  expect(stdout).toContain("Permission conflict on node 'c-file'");
  const reads = [
    ...["read -P 1 0 1M", "read -P 0 8M 1M", "read -P 5 12M 1M"].map((line) => ["a", line] as const),
    ...["read -P 3 0 1M", "read -P 2 4M 1M", "read -P 4 8M 1M"].map((line) => ["c", line] as const),
  ];
  for (const [name, line] of reads) {
    const read = spawnSync("qemu-io", ["-c", line, `${name}.qcow2`], { cwd, encoding: "utf8" });
    expect(read.stdout, `${name}: ${line}`).toMatch(/^read 1048576/);
  }
  for (const name of ["a.qcow2", "c.qcow2"])
    expect(spawnSync("qemu-img", ["check", "-q", name], { cwd }).status).toBe(0);
});
