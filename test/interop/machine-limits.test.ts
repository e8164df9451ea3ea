// Limits in `blockwright machine` under qtest: whose clock they go by, and that a machine ends whatever they hold back.
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { program } from "./support/twins.ts";
import { HANG_MS } from "../support/until.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-machine-limits-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(() => {
  const at = { cwd: folder };
  for (const name of ["source.qcow2", "target.qcow2"])
    spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", name, "64M"], at);
  spawnSync("qemu-io", ["-c", "write -P 7 0 8M", "source.qcow2"], at);
});

interface Line {
  return?: { status?: string }[];
  error?: unknown;
}

/** A machine with source and target that carries commands out and ends; what it printed. */
function machine(
  args: readonly string[],
  commands: readonly object[],
): { status: number | null; lines: Line[] } {
  const words = [
    ...[program, "--run-as=qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "qtest"],
    ...["-blockdev", "driver=qcow2,node-name=source,file.driver=file,file.filename=source.qcow2"],
    ...["-blockdev", "driver=qcow2,node-name=target,file.driver=file,file.filename=target.qcow2"],
    ...["-qmp", "stdio", ...args],
  ];
  const input = [{ execute: "qmp_capabilities" }, ...commands, { execute: "quit" }]
    .map((command) => JSON.stringify(command))
    .join("\n");
  const said = spawnSync(process.execPath, words, { cwd: folder, encoding: "utf8", input, timeout: HANG_MS });
  expect(said.stderr).toBe("");
  const [, ...lines] = said.stdout.trim().split("\n");
  return { status: said.status, lines: lines.map((line) => JSON.parse(line) as Line) };
}

const limits = { driver: "throttle", "node-name": "slow", "throttle-group": "g", file: "source" };
/** Its requests are small, so that a drain does not end it. */
const mirror = {
  ...{ "job-id": "j", device: "slow", target: "target", sync: "full" },
  ...{ "buf-size": 65536, granularity: 65536 },
};
const jobs = { execute: "query-block-jobs" };

it.each([
  ["of the command line", ["-object", "throttle-group,id=g,x-bps-total=1024"], []],
  [
    "of a monitor",
    [],
    [
      {
        execute: "object-add",
        arguments: { "qom-type": "throttle-group", id: "g", limits: { "bps-total": 1024 } },
      },
    ],
  ],
] as const)("quit ends a job that limits %s hold back, also after stop", (_whose, args, first) => {
  const { status, lines } = machine(args, [
    ...first,
    { execute: "blockdev-add", arguments: limits },
    { execute: "blockdev-mirror", arguments: mirror },
    { execute: "stop" },
    jobs,
  ]);
  expect(status).toBe(0);
  expect(lines.filter(({ error }) => error)).toEqual([]);
  expect(lines.find(({ return: told }) => told?.[0]?.status)?.return).toMatchObject([{ status: "running" }]);
});

it("an image that limits of the command line make wait is opened: they go by the real clock", () => {
  const spec = { driver: "qcow2", "node-name": "top", "read-only": true, file: "slow" };
  const slow = { ...limits, file: { driver: "file", filename: "source.qcow2", locking: "off" } };
  const words = ["-object", "throttle-group,id=g,x-bps-total=200000"];
  const nodes = [slow, spec].flatMap((node) => ["-blockdev", JSON.stringify({ ...node, "read-only": true })]);
  const { status, lines } = machine([...words, ...nodes], [jobs]);
  expect({ status, errors: lines.filter(({ error }) => error) }).toEqual({ status: 0, errors: [] });
});
