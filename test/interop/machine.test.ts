// `blockwright machine` against the real qemu-system-x86_64: what command lines are refused with, what is printed without a machine,
// and what monitors answer, QMP and human, about drives, media and devices. No guest runs on either side.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { program } from "./support/twins.ts";

const real = "qemu-system-x86_64";
const quiet = ["-nodefaults", "-display", "none"];
let directory = "";
const ours = (args: readonly string[]): [string, string[]] => [
  process.execPath,
  [program, "--run-as=qemu-system-x86_64", ...quiet, "-accel", "qtest", ...args],
];
const theirs = (args: readonly string[]): [string, string[]] => [
  real,
  [...quiet, "-accel", "tcg", "-S", ...args],
];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-machine-"));
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

beforeEach(() => {
  for (const [format, name] of [
    ["qcow2", "a.qcow2"],
    ["qcow2", "c.qcow2"],
    ["raw", "b.raw"],
  ] as const)
    spawnSync("qemu-img", ["create", "-q", "-f", format, join(directory, name), "16M"]);
});

interface Ended {
  status: number | null;
  stderr: string;
}

function ended([command, args]: [string, string[]]): Ended {
  const { status, stderr } = spawnSync(command, args, { encoding: "utf8", cwd: directory, input: "" });
  return { status, stderr };
}

const none = "if=none,id=d,file=a.qcow2,format=qcow2";

describe("refuses as QEMU does", () => {
  it.each([
    ["-foo"],
    ["-drive"],
    ["-drive", "if=none,file=nonexist"],
    ["-drive", "if=foo,file=b.raw"],
    ["-drive", "file=b.raw,format=raw,werror=foo"],
    ["-drive", "file=b.raw,format=raw,cache=foo"],
    ["-drive", "file=b.raw,format=foo"],
    ["-drive", "file=b.raw,format=raw,aio=foo"],
    ["-drive", "file=b.raw,format=raw,media=foo"],
    ["-drive", "file=b.raw,format=raw,foo=bar"],
    ["-drive", "file=b.raw,format=raw,index=9"],
    ["-drive", "file=b.raw,format=raw,id=1x"],
    ["-drive", "if=scsi,file=b.raw,format=raw"],
    ["-drive", none, "-drive", "if=none,id=d,file=b.raw,format=raw"],
    ["-drive", "file=b.raw,format=raw", "-drive", "file=a.qcow2,if=ide,index=0"],
    ["-hda", "nonexist"],
    ["-blockdev", "driver=raw"],
    ["-blockdev", "driver=file,filename=nonexist,node-name=x"],
    ["-object", "foo,id=x"],
    ["-chardev", "foo,id=x"],
    ["-device", "virtio-foo"],
    ["-device", "virtio-blk"],
    ["-device", "ide-hd"],
    ["-device", "scsi-hd"],
    ["-device", "virtio-scsi", "-device", "scsi-hd"],
    ["-drive", none, "-device", "virtio-blk,drive=x"],
    ["-drive", none, "-device", "virtio-blk,drive=d,foo=bar"],
    ["-drive", none, "-device", "virtio-blk,drive=d,bus=x"],
    ["-drive", none, "-device", "virtio-blk,drive=d", "-device", "virtio-blk,drive=d"],
    ["-drive", "if=virtio,id=d,file=a.qcow2,format=qcow2", "-device", "virtio-blk,drive=d"],
    ["-drive", "if=none,id=d", "-device", "virtio-blk,drive=d"],
    ["-drive", "if=none,id=d", "-device", "ide-hd,drive=d"],
    ["-drive", `${none},read-only=on`, "-device", "ide-hd,drive=d"],
    ["-device", "floppy,drive=x"],
    ["-machine", "foo"],
  ])("%s %s %s %s", (...args) => {
    const words = args.filter((word) => word !== undefined);
    const [mine, its] = [ended(ours(words)), ended(theirs(words))];
    expect(its.status).toBe(1);
    expect(mine).toEqual(its);
  });
});

/**
 * The answers to lines of QMP or of the human monitor, one after the other, then the events in their order: when one comes between
 * two answers is QEMU's other threads' choice. What differs from run to run is left out.
 */
function answers([command, args]: [string, string[]], lines: readonly string[]): Promise<unknown[]> {
  const child = spawn(command, [...args, "-qmp", "stdio"], {
    cwd: directory,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const found: unknown[] = [];
  const events: unknown[] = [];
  const left = ['{"execute":"qmp_capabilities"}', ...lines, '{"execute":"quit"}'];
  const next = (): void => {
    const line = left.shift();
    if (line === undefined) return;
    const human = { execute: "human-monitor-command", arguments: { "command-line": line } };
    child.stdin.write(`${line.startsWith("{") ? line : JSON.stringify(human)}\n`);
  };
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts.map((one) => one.trim()).filter((one) => one.startsWith("{"))) {
      const message = JSON.parse(part) as Record<string, unknown>;
      delete message["timestamp"];
      if (!("QMP" in message)) ("event" in message ? events : found).push(steady(message));
      if (!("event" in message)) next();
    }
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", () => resolve([...found, ...events]));
  });
}

/** Names that are made up and room on the disk of the host are not looked at. */
function steady(message: unknown): unknown {
  const text = JSON.stringify(message)
    .replace(/#block\d+/g, "NODE")
    .replace(/"actual-size":\d+,?/g, "");
  return JSON.parse(text.replace(/,}/g, "}"));
}

const drives = ["-drive", "if=virtio,id=v,file=a.qcow2,format=qcow2", "-drive", "if=none,id=e"];
const scsi = ["-device", "virtio-scsi-pci,id=s", "-device", "scsi-cd,drive=e,id=cd"];
const qmp = (execute: string, args: Record<string, unknown> = {}): string =>
  JSON.stringify({ execute, arguments: args });

it.each([
  ["snapshot=on", "snapshot=on is not supported by this machine"],
  ["throttling.bps-total=1", "limits are not supported by this machine: use a throttle node"],
  ["group=g", "limits are not supported by this machine: use a throttle node"],
])("says what it does not have: %s", (option, why) => {
  const { status, stderr } = ended(ours(["-drive", `${none},${option}`]));
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: `qemu-system-x86_64: -drive ${none},${option}: ${why}\n`,
  });
});

describe("answers as QEMU does", () => {
  it.each<[string, string[], string[]]>([
    ["about its drives", [...drives, ...scsi], [qmp("query-block"), "info block", "info block v"]],
    [
      "about drives over nodes, and their caches",
      [
        ...["-blockdev", "driver=raw,node-name=n,file.driver=file,file.filename=b.raw"],
        ...[
          "-device",
          "virtio-blk-pci,drive=n,id=x,share-rw=on",
          "-device",
          "virtio-blk-pci,drive=n,share-rw=on",
        ],
        ...[
          "-drive",
          "if=none,id=w,file=a.qcow2,format=qcow2,cache=writethrough,read-only=on,detect-zeroes=on",
        ],
      ],
      [qmp("query-block"), "info block"],
    ],
    [
      "about trays and media",
      [...drives, ...scsi],
      [
        qmp("blockdev-open-tray", { id: "cd" }),
        qmp("blockdev-open-tray", { id: "cd" }),
        qmp("blockdev-add", { driver: "raw", "node-name": "m", file: { driver: "file", filename: "b.raw" } }),
        qmp("blockdev-insert-medium", { id: "cd", "node-name": "x" }),
        qmp("blockdev-insert-medium", { id: "cd", "node-name": "m" }),
        qmp("blockdev-insert-medium", { id: "cd", "node-name": "m" }),
        qmp("blockdev-close-tray", { id: "cd" }),
        "info block e",
        qmp("blockdev-remove-medium", { id: "cd" }),
        qmp("eject", { id: "cd" }),
        qmp("blockdev-close-tray", { device: "e" }),
        qmp("blockdev-change-medium", { id: "cd", filename: "c.qcow2", format: "qcow2" }),
        "info block e",
        qmp("eject", { device: "v" }),
        qmp("blockdev-open-tray", { device: "nope" }),
        qmp("blockdev-open-tray", { id: "nope" }),
        qmp("eject", {}),
      ],
    ],
    [
      "about devices that come and go",
      ["-drive", none, "-device", "virtio-scsi-pci,id=s"],
      [
        qmp("device_add", { driver: "scsi-hd", id: "x", drive: "d" }),
        qmp("device_add", { driver: "scsi-hd", id: "x", drive: "d" }),
        qmp("device_add", { driver: "scsi-hd", id: "y", drive: "d" }),
        qmp("device_add", { driver: "scsi-hd", id: "y", drive: "d", nope: 1 }),
        "info block",
        qmp("device_del", { id: "nope" }),
        qmp("device_del", { id: "x" }),
        qmp("device_add", { driver: "nope" }),
        "drive_del d",
        "drive_del d",
        "info block",
      ],
    ],
    [
      "about a device that waits for a reset",
      ["-drive", none, "-device", "virtio-blk-pci,drive=d,id=x"],
      [
        // What follows a reset QEMU tells of when it gets to it: that is a test of the board's own.
        qmp("device_del", { id: "x" }),
        qmp("device_del", { id: "x" }),
        "info block",
      ],
    ],
    [
      "to wrong lines of the human monitor",
      drives,
      [
        ...[
          "foo",
          "info foo",
          "qemu-io",
          "qemu-io v",
          'qemu-io nope "read 0 1"',
          "stop 1",
          "eject v",
          "block_resize v",
        ],
        ...[
          "info block-jobs",
          "info status",
          "stop",
          "info status",
          "block_job_cancel v",
          "commit nope",
          "help quit",
        ],
      ],
    ],
    [
      "to jobs of the human monitor",
      drives,
      [
        "snapshot_blkdev v over.qcow2 qcow2",
        "info block v",
        "snapshot_blkdev v",
        "drive_backup -n nope x raw",
        "block_stream nope",
      ],
    ],
  ])("%s", async (_what, args, lines) => {
    const [mine, its] = [await answers(ours([...args, "-S"]), lines), await answers(theirs(args), lines)];
    expect(its.length).toBeGreaterThan(lines.length);
    expect(mine).toEqual(its);
  });
});
