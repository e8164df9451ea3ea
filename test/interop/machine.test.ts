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
  for (const [name, backing] of [
    ["mid.qcow2", "a.qcow2"],
    ["top.qcow2", "mid.qcow2"],
  ] as const) {
    const words = ["create", "-q", "-f", "qcow2", "-b", backing, "-F", "qcow2", name];
    spawnSync("qemu-img", words, { cwd: directory });
    spawnSync("qemu-io", ["-c", "write 0 4M", name], { cwd: directory });
  }
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
    ["-set", "device.x.y=1"],
    ["-set", "foo"],
    ["-set", "foo.a.b=1"],
    ["-drive", "file=b.raw,format=raw,throttling.bps-total=1,throttling.bps-read=1"],
    ["-drive", "file=b.raw,format=raw,bps_rd_max=1"],
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
const noLimits = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };
const qmp = (execute: string, args: Record<string, unknown> = {}): string =>
  JSON.stringify({ execute, arguments: args });

const reopen = (...options: object[]): string => qmp("blockdev-reopen", { options });
const mid = {
  driver: "qcow2",
  "node-name": "mid",
  backing: null,
  file: { driver: "file", "node-name": "mid-file", filename: "mid.qcow2" },
};
const top = {
  driver: "qcow2",
  "node-name": "top",
  backing: mid,
  file: { driver: "file", "node-name": "top-file", filename: "top.qcow2" },
};
const plain = {
  driver: "raw",
  "node-name": "plain",
  file: { driver: "file", "node-name": "plain-file", filename: "b.raw", locking: "on" },
};

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
      "about limits",
      [
        ...["-drive", "if=virtio,id=v,file=a.qcow2,format=qcow2,throttling.iops-total=9,throttling.group=g"],
        ...[
          "-drive",
          "if=none,id=w,file=b.raw,format=raw,bps_rd=5,bps_rd_max=10,throttling.bps-read-max-length=2",
        ],
        ...["-drive", "if=none,id=e"],
      ],
      [
        qmp("query-block"),
        "info block",
        qmp("block_set_io_throttle", { device: "w", ...noLimits, iops: 7, iops_size: 4096, group: "g" }),
        // The group is shared.
        qmp("query-block"),
        qmp("block_set_io_throttle", { device: "w", ...noLimits }),
        qmp("block_set_io_throttle", { device: "v", ...noLimits, bps: 1, bps_wr: 1 }),
        qmp("block_set_io_throttle", { device: "e", ...noLimits, bps: 1 }),
        qmp("block_set_io_throttle", { ...noLimits, bps: 1 }),
        "block_set_io_throttle v 1 0 0 0 0",
        "block_set_io_throttle v 1 0 0 0 0 0",
        qmp("query-block"),
        "info block",
      ],
    ],
    [
      "about snapshots that there are not, or that can't be taken",
      drives,
      [
        "info snapshots",
        "loadvm nope",
        "delvm nope",
        "loadvm",
        "drive_add 0 if=none,id=r,file=b.raw,format=raw",
        "savevm x",
      ],
    ],
    [
      "to changes of open nodes",
      [],
      [
        qmp("blockdev-add", top),
        reopen({ ...top, cache: { direct: false, "no-flush": true } }),
        reopen({ ...top, driver: "raw" }),
        reopen({ ...top, file: { ...top.file, filename: "b.raw" } }),
        reopen({ ...top, backing: { ...mid, "node-name": "other" } }),
        reopen({ ...top, backing: "nope" }),
        reopen({ driver: "qcow2", "node-name": "top", file: "top-file" }),
        reopen({ ...top, backing: { ...mid, "detect-zeroes": "on" } }),
        qmp("blockdev-add", plain),
        reopen({ ...plain, file: { ...plain.file, locking: "off" } }),
        reopen({ ...plain, file: { driver: "file", filename: "b.raw" } }),
        qmp("object-add", { "qom-type": "throttle-group", id: "g" }),
        qmp("blockdev-add", {
          driver: "throttle",
          "node-name": "t",
          "throttle-group": "g",
          file: "plain-file",
        }),
        reopen({ ...plain, file: "t" }),
        reopen({ driver: "throttle", "node-name": "t", "throttle-group": "nope", file: "plain-file" }),
        qmp("blockdev-add", { driver: "compress", "node-name": "c", file: "top" }),
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

it("takes all disks back to a snapshot, which qemu-img finds", async () => {
  const told = await answers(ours([...drives, "-S"]), [
    'qemu-io v "write -P 1 0 64k"',
    "savevm one",
    "info snapshots",
    'qemu-io v "write -P 2 0 64k"',
    "savevm two",
    "loadvm one",
    'qemu-io v "read -P 1 0 64k"',
    'qemu-io v "read -P 2 0 64k"',
    "delvm two",
    "info snapshots",
  ]);
  const texts = told.flatMap((one) => {
    const { return: text } = one as { return?: unknown };
    return typeof text === "string" ? [text] : [];
  });
  expect(texts[2]).toMatch(/^List of snapshots present on all disks:\r\nID .*\r\n--\s+one\s+0 B /);
  expect(texts[9]).toBe(texts[2]);
  const readsAs = (value: number): boolean => {
    const words = ["-f", "qcow2", "-c", `read -P ${value} 0 64k`, "a.qcow2"];
    const { stdout } = spawnSync("qemu-io", words, { cwd: directory, encoding: "utf8" });
    return stdout.includes("read 65536/65536") && !stdout.includes("verification failed");
  };
  await answers(ours([...drives, "-S"]), ['qemu-io v "write -P 3 0 64k"']);
  expect(readsAs(3)).toBe(true);
  await answers(ours([...drives, "-S", "-loadvm", "one"]), ["info status"]);
  expect(readsAs(1)).toBe(true);
  const list = spawnSync("qemu-img", ["snapshot", "-l", "a.qcow2"], { cwd: directory, encoding: "utf8" });
  expect(list.stdout).toContain("one");
  expect(list.stdout).not.toContain("two");
  const back = spawnSync("qemu-io", ["-c", "read -P 1 0 64k", "a.qcow2"], {
    cwd: directory,
    encoding: "utf8",
  });
  expect(back.stdout).not.toContain("verification failed");
});

it("lists its formats, where QEMU lists them", () => {
  const list = spawnSync(...ours(["-drive", "format=help"]), { encoding: "utf8" });
  const its = spawnSync(...theirs(["-drive", "format=help"]), { encoding: "utf8" });
  expect(list.status).toBe(its.status);
  const [mine, real] = [list.stdout, its.stdout].map((text) =>
    /^Supported formats: (.*)$/m.exec(text)?.[1]?.split(" "),
  );
  // Those of our own are left out where QEMU is stood in for.
  expect(mine?.filter((name) => !real?.includes(name))).toEqual([]);
  expect(mine).toEqual(expect.arrayContaining(["qcow2", "raw", "blkdebug", "throttle"]));
});

it("gives a guest no disk of the old AES, as QEMU does", async () => {
  const secret = ["--object", "secret,id=s,data=123456"];
  const options = "encrypt.format=aes,encrypt.key-secret=s";
  spawnSync("qemu-img", ["create", "-q", ...secret, "-f", "qcow2", "-o", options, "aes.qcow2", "1M"], {
    cwd: directory,
  });
  const lines = [
    qmp("object-add", { "qom-type": "secret", id: "s", data: "123456" }),
    qmp("blockdev-add", {
      driver: "qcow2",
      encrypt: { format: "aes", "key-secret": "s" },
      file: { driver: "file", filename: "aes.qcow2" },
      "node-name": "n",
    }),
  ];
  const [mine, its] = [await answers(ours(["-S"]), lines), await answers(theirs([]), lines)];
  expect(mine).toEqual(its);
});

it("lets a device be given options later, and a drive's backup take the drive's name", async () => {
  const told = await answers(
    ours([
      "-drive",
      none,
      "-device",
      "virtio-scsi,id=s",
      "-device",
      "scsi-hd,drive=d,id=x",
      "-set",
      "device.x.werror=stop",
      "-S",
    ]),
    [
      qmp("drive-backup", { device: "d", target: "nope:x", sync: "full", "job-id": "j" }),
      qmp("drive-backup", { device: "d", target: "copy.qcow2", sync: "full", speed: 1 }),
      qmp("query-jobs"),
      qmp("query-block"),
    ],
  );
  expect(told).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ return: [expect.objectContaining({ id: "d", type: "backup" })] }),
      expect.objectContaining({ error: { class: "GenericError", desc: "Unknown protocol 'nope'" } }),
      expect.objectContaining({ return: [expect.objectContaining({ qdev: "x", "io-status": "ok" })] }),
    ]),
  );
});

it("says what lies over and under a job as QEMU does", async () => {
  const args = ["-drive", "if=none,id=d,file=top.qcow2,format=qcow2"];
  const lines = [
    qmp("blockdev-add", {
      driver: "qcow2",
      "node-name": "ro",
      "read-only": true,
      backing: null,
      file: { driver: "file", filename: "c.qcow2", "read-only": true },
    }),
    qmp("blockdev-add", {
      driver: "raw",
      "node-name": "r",
      file: { driver: "file", filename: "b.raw", "node-name": "f" },
    }),
    qmp("blockdev-snapshot", { node: "d", overlay: "f" }),
    qmp("blockdev-snapshot", { node: "r", overlay: "d" }),
    qmp("block-stream", { "job-id": "s", device: "ro" }),
    qmp("block-commit", {
      device: "d",
      top: "mid.qcow2",
      base: "a.qcow2",
      "filter-node-name": "passing",
      speed: 65536,
      "job-id": "c",
    }),
    qmp("block-stream", { "job-id": "s", device: "d" }),
    qmp("blockdev-snapshot-sync", { device: "d", "snapshot-file": "x.qcow2" }),
  ];
  // How often a job is seen to pause is the threads' choice.
  const only = async (call: [string, string[]]): Promise<unknown[]> =>
    (await answers(call, lines)).filter((one) => !("event" in (one as object)));
  const [mine, its] = [await only(ours([...args, "-S"])), await only(theirs(args))];
  expect(its.length).toBeGreaterThan(lines.length);
  expect(mine).toEqual(its);
});

it("takes the word of -gate as the verbs and the daemon do", () => {
  // What comes after it is refused at once.
  const refusal = (word: string): string => ended(ours(["-gate", word, "-hda", "nonexist"])).stderr;
  for (const word of ["deny", "local,https://images.example.org"])
    expect(refusal(word)).toContain("nonexist");
  for (const word of ["open", "local,ftp://images.example.org"])
    expect(refusal(word)).toContain("one of deny, same-dir, local, all");
});
