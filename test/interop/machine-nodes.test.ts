// The human monitor of `blockwright machine` beside the real one: nodes that it makes and deletes, and images in full.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { program } from "./support/twins.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-machine-nodes-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const words = ["-nodefaults", "-display", "none", "-S", "-machine", "none", "-qmp", "stdio"];

/** What is answered to lines of the human monitor, one after the other; names that were made up are alike. */
function answers([command = "", ...args]: readonly string[], lines: readonly string[]): unknown[] {
  const ask = (line: string): string =>
    JSON.stringify({ execute: "human-monitor-command", arguments: { "command-line": line } });
  const input = ['{"execute":"qmp_capabilities"}', ...lines.map(ask), '{"execute":"quit"}'].join("\n");
  const all = [...args, ...words, "-drive", "if=none,id=v,file=top.qcow2,format=qcow2"];
  const { stdout: said } = spawnSync(command, all, { cwd: folder, encoding: "utf8", input });
  const stdout = said.replaceAll(/#block\d+/g, "#block");
  const told = stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  return told.filter((one) => "return" in one || "error" in one);
}

it("makes nodes, tells of them and of their images, and deletes them", () => {
  const at = { cwd: folder };
  for (const name of ["a.qcow2", "c.qcow2"])
    spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", name, "4M"], at);
  spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", "a.qcow2", "-F", "qcow2", "top.qcow2"], at);
  spawnSync("qemu-img", ["snapshot", "-c", "first", "c.qcow2"], at);
  const lines = [
    "drive_add -n 0 file=a.qcow2",
    "drive_add -n 0 node-name=x,file=a.qcow2",
    "drive_add -n 0 driver=qcow2,node-name=x,file.driver=file,file.filename=c.qcow2",
    "drive_add -n 0 driver=qcow2,node-name=x,file.driver=file,file.filename=a.qcow2",
    "drive_add -n 0 driver=qcow2,node-name=y,file.driver=file,file.filename=none",
    "drive_add -n 0 if=none,driver=null-co,node-name=w",
    "drive_add -n 0 driver=null-co,node-name=w,read-only=on",
    "info block -n w",
    "info block -v v",
    "info block -n -v x",
    "info block -v",
    "drive_del x",
    "drive_del x",
    "info block -n x",
  ];
  const real = answers(["qemu-system-x86_64"], lines);
  expect(real).toHaveLength(lines.length + 2);
  expect(answers([process.execPath, program, "--run-as=qemu-system-x86_64"], lines)).toEqual(real);
});
