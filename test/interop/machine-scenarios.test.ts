// What clients of a machine's monitors send about disks, beside the real qemu-system-x86_64: each scenario is a command line and lines
// of QMP or of the human monitor, and both programs must answer, tell and print the same.
import { afterAll, beforeAll, describe, it } from "vitest";
import { Machines, qmp, type Step } from "./support/machines.ts";

const machines = new Machines();
afterAll(() => machines.remove());
beforeAll(() => {
  const image = (...words: string[]): void => machines.tool("qemu-img", "create", "-q", ...words);
  image("-f", "raw", "a.raw", "1M");
  image("-f", "raw", "b.raw", "1M");
  image("-f", "qcow2", "base.qcow2", "1M");
  image("-f", "qcow2", "base2.qcow2", "1M");
  image("-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", "top.qcow2");
  machines.tool("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k", "base.qcow2");
  machines.tool("qemu-io", "-f", "qcow2", "-c", "write -P 2 64k 64k", "top.qcow2");
});

const raw = ["-drive", "if=none,id=d,file=a.raw,format=raw"];
const top = ["-drive", "if=none,id=d,file=top.qcow2,format=qcow2"];
const disk = [...raw, "-device", "virtio-blk-pci,drive=d,id=v"];
const cdrom = [
  "-device",
  "virtio-scsi-pci,id=s",
  "-drive",
  "if=none,id=c",
  "-device",
  "scsi-cd,drive=c,id=cd",
];
const full = [
  "-device",
  "virtio-scsi-pci,id=s",
  "-drive",
  "if=none,id=c,file=a.raw,format=raw,media=cdrom",
  "-device",
  "scsi-cd,drive=c,id=cd",
];
const node = ["-blockdev", "driver=raw,node-name=n,file.driver=file,file.node-name=f,file.filename=b.raw"];
const job = (status: string): Step => ({ until: "JOB_STATUS_CHANGE", data: { status } });
const limits = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 };

const scenarios: Readonly<Record<string, readonly [readonly string[], readonly Step[]]>> = {
  "info block of a name that is not there": [
    raw,
    ["info block nope", "info block d", "info block -n", "info block -v d"],
  ],
  "info block of nodes": [node, ["info block", "info block n", "info block -n"]],
  "filters are layers of a chain": [
    [
      ...[
        "-object",
        "throttle-group,id=g",
        "-blockdev",
        "qcow2,node-name=base,file.driver=file,file.filename=base.qcow2",
      ],
      ...["-blockdev", "throttle,node-name=t,throttle-group=g,file=base"],
      ...["-blockdev", "qcow2,node-name=top,file.driver=file,file.filename=top.qcow2,backing=t"],
      ...["-blockdev", "compress,node-name=c,file=top", "-blockdev", "raw,node-name=r,file=c"],
      ...["-blockdev", "blkreplay,node-name=replay,image=r"],
    ],
    ["base", "t", "top", "c", "r", "replay"].map((name) => `info block -n -v ${name}`),
  ],
  "a loadvm that fails leaves the machine standing": [
    [
      ...["-S", ...top, "-blockdev"],
      '{"driver":"qcow2","node-name":"b","file":{"driver":"blkdebug","image":{"driver":"file","filename":"base2.qcow2"},"inject-error":[{"event":"l1_update","errno":28,"state":1}]}}',
    ],
    [
      ...[
        "loadvm nope",
        "info status",
        qmp("cont"),
        "savevm one",
        "loadvm nope",
        "info status",
        qmp("query-status"),
      ],
      ...[qmp("cont"), "loadvm one", "info status", "cont", "stop", "loadvm nope", "info status"],
    ],
  ],
  "images that can't be made": [
    top,
    [
      ...["raw", "throttle", "foo"].flatMap((format) =>
        ["drive-backup", "drive-mirror"].map((job) =>
          qmp(job, { device: "d", target: "x", format, sync: "top" }),
        ),
      ),
      qmp("drive-backup", { device: "d", target: "a.raw", format: "foo", sync: "full", mode: "existing" }),
    ],
  ],
  "lines of the human monitor that are wrong": [
    disk,
    [
      ...[
        "info blockstats foo",
        "help foo",
        "drive_add -x 0 if=none",
        "drive_mirror -x d y",
        "block_job_cancel -x d",
      ],
      ...["block_set_io_throttle d a 0 0 0 0 0", "commit d", "drive_add 0 if=virtio,file=b.raw,format=raw"],
      ...[
        "drive_add 0 if=ide,file=b.raw,format=raw",
        "change vnc foo",
        "drive_mirror d x.foo foo",
        "drive_backup d x.foo foo",
      ],
      ...[
        "device_del",
        "object_del nope",
        "block_resize d -1",
        "block_stream d foo",
        "eject -f d x",
        "qemu-io d foo",
      ],
    ],
  ],
  "info blockstats": [disk, ["info blockstats"]],
  "info block-jobs": [raw, ["info block-jobs"]],
  "info snapshots without images for them": [raw, ["info snapshots", "savevm x", "delvm x"]],
  "an empty drive": [cdrom, ["info block", qmp("query-block"), "eject c", "eject nope", "change nope a.raw"]],
  "eject and change": [
    full,
    [
      "eject c",
      "info block",
      "change c b.raw raw",
      "info block",
      "change c b.raw raw retain",
      "change c b.raw raw foo",
      "change c nope",
    ],
  ],
  "eject by QMP": [
    full,
    [
      qmp("eject", { id: "cd" }),
      qmp("eject", { device: "c", force: true }),
      qmp("query-block"),
      qmp("eject", {}),
      qmp("eject", { id: "nope" }),
    ],
  ],
  "the tray": [
    full,
    [
      qmp("blockdev-close-tray", { id: "cd" }),
      qmp("blockdev-open-tray", { id: "cd" }),
      qmp("blockdev-open-tray", { id: "cd" }),
      qmp("query-block"),
      qmp("blockdev-remove-medium", { id: "cd" }),
      qmp("blockdev-remove-medium", { id: "cd" }),
      qmp("blockdev-insert-medium", { id: "cd", "node-name": "nope" }),
      qmp("blockdev-add", {
        driver: "raw",
        "node-name": "m",
        file: { driver: "file", filename: "b.raw" },
        "read-only": true,
      }),
      qmp("blockdev-insert-medium", { id: "cd", "node-name": "m" }),
      qmp("blockdev-insert-medium", { id: "cd", "node-name": "m" }),
      qmp("blockdev-close-tray", { id: "cd" }),
      qmp("query-block"),
    ],
  ],
  "trays that are not there": [
    disk,
    [
      qmp("blockdev-open-tray", { id: "v" }),
      qmp("blockdev-close-tray", { id: "v" }),
      qmp("blockdev-remove-medium", { id: "v" }),
      qmp("blockdev-open-tray", { id: "nope" }),
      qmp("blockdev-open-tray", {}),
    ],
  ],
  "blockdev-change-medium": [
    full,
    [
      qmp("blockdev-change-medium", { id: "cd", filename: "b.raw", format: "raw" }),
      qmp("query-block"),
      qmp("blockdev-change-medium", { id: "cd", filename: "nope" }),
      qmp("query-block"),
      qmp("blockdev-change-medium", {
        id: "cd",
        filename: "b.raw",
        format: "raw",
        "read-only-mode": "read-write",
      }),
      qmp("blockdev-change-medium", { id: "cd", filename: "b.raw", format: "foo" }),
    ],
  ],
  block_resize: [
    disk,
    [
      qmp("block_resize", { device: "d", size: 2097152 }),
      "block_resize d 3M",
      "block_resize d",
      "block_resize nope 1M",
      "block_resize d -1",
      qmp("query-block"),
    ],
  ],
  "limits of a drive": [
    disk,
    [
      qmp("block_set_io_throttle", { device: "d", ...limits, bps: 1000 }),
      qmp("query-block"),
      qmp("block_set_io_throttle", { device: "d", ...limits, bps: 5, bps_rd: 5 }),
      "block_set_io_throttle d 0 0 0 0 7 0",
      qmp("block_set_io_throttle", {
        id: "v",
        ...limits,
        group: "g",
        iops: 3,
        iops_max: 4,
        iops_max_length: 2,
        iops_size: 4096,
      }),
      qmp("query-block"),
      qmp("block_set_io_throttle", { id: "nope", ...limits }),
      qmp("block_set_io_throttle", { id: "v", ...limits, bps: -1 }),
    ],
  ],
  histograms: [
    disk,
    [
      qmp("block-latency-histogram-set", { id: "v", boundaries: [10, 20] }),
      qmp("query-blockstats"),
      qmp("block-latency-histogram-set", { id: "v", boundaries: [20, 10] }),
      qmp("block-latency-histogram-set", { id: "v", "boundaries-read": [] }),
      qmp("block-latency-histogram-set", { id: "v" }),
      qmp("block-latency-histogram-set", { id: "nope" }),
    ],
  ],
  "device_add and device_del": [
    [...raw, ...node],
    [
      qmp("device_add", { driver: "virtio-blk-pci", drive: "n", id: "x" }),
      qmp("device_add", { driver: "virtio-blk-pci", drive: "n", id: "x" }),
      qmp("device_add", { driver: "nope", id: "z" }),
      qmp("device_add", { driver: "virtio-blk-pci", id: "z" }),
      qmp("device_add", { id: "z" }),
      qmp("device_add", { driver: "scsi-hd", drive: "d", id: "z" }),
      qmp("device_del", { id: "nope" }),
    ],
  ],
  "a controller that comes and goes": [
    node,
    [
      qmp("device_add", { driver: "virtio-scsi-pci", id: "s" }),
      qmp("device_add", { driver: "scsi-hd", drive: "n", id: "h", bus: "s.0" }),
      qmp("device_add", { driver: "scsi-hd", drive: "n", id: "i", bus: "t.0" }),
      qmp("query-block"),
      qmp("device_del", { id: "h" }),
      { until: "DEVICE_DELETED", data: { device: "h" } },
      qmp("query-block"),
      qmp("blockdev-del", { "node-name": "n" }),
    ],
  ],
  "nodes that drives use": [
    disk,
    [
      qmp("blockdev-del", { "node-name": "nope" }),
      "drive_del nope",
      qmp("blockdev-add", { driver: "raw", "node-name": "d", file: { driver: "file", filename: "b.raw" } }),
    ],
  ],
  drive_add: [
    raw,
    [
      "drive_add 0 if=none,id=e,file=b.raw,format=raw",
      "info block",
      "drive_add 0 if=none,id=e,file=b.raw,format=raw",
      "drive_add 0 if=none,id=1e",
      "drive_add 0 file=nope,if=none",
      "drive_add",
      "drive_del e",
      "info block",
    ],
  ],
  "a mirror by the human monitor": [
    top,
    [
      "drive_mirror d copy.qcow2 qcow2",
      job("ready"),
      "info block-jobs",
      "block_job_complete d",
      job("null"),
      "info block",
    ],
  ],
  "a backup by the human monitor": [
    top,
    [
      "drive_backup d copy.qcow2 qcow2",
      job("null"),
      "info block-jobs",
      "drive_backup nope x",
      "drive_backup -n d nope.qcow2",
    ],
  ],
  "a stream by the human monitor": [
    top,
    [
      "block_stream d",
      job("null"),
      "info block",
      "block_stream nope",
      "block_job_cancel d",
      "block_job_pause d",
      "block_job_set_speed d 5",
    ],
  ],
  snapshot_blkdev: [
    top,
    [
      "snapshot_blkdev d over.qcow2",
      "info block",
      "snapshot_blkdev nope x.qcow2",
      "snapshot_blkdev -n d nope.qcow2",
      "snapshot_blkdev d",
    ],
  ],
  "snapshots by QMP": [
    top,
    [
      qmp("blockdev-snapshot-sync", { device: "d", "snapshot-file": "s.qcow2", "snapshot-node-name": "s" }),
      qmp("query-block"),
      qmp("blockdev-snapshot-sync", { device: "d", "snapshot-file": "t.qcow2", format: "foo" }),
      qmp("blockdev-snapshot-internal-sync", { device: "nope", name: "x" }),
      qmp("blockdev-snapshot-internal-sync", { device: "d", name: "" }),
      qmp("blockdev-snapshot-delete-internal-sync", { device: "d", name: "x" }),
      qmp("blockdev-snapshot-delete-internal-sync", { device: "d" }),
    ],
  ],
  commit: [cdrom, ["commit nope", "commit c"]],
  "transactions over drives": [
    [...top, ...node],
    [
      qmp("transaction", {
        actions: [
          {
            type: "blockdev-snapshot-sync",
            data: { device: "d", "snapshot-file": "s.qcow2", "snapshot-node-name": "s" },
          },
          { type: "block-dirty-bitmap-add", data: { node: "n", name: "b" } },
        ],
      }),
      qmp("query-block"),
      qmp("transaction", {
        actions: [
          { type: "block-dirty-bitmap-add", data: { node: "n", name: "c" } },
          { type: "blockdev-snapshot-sync", data: { device: "nope", "snapshot-file": "x" } },
        ],
      }),
      qmp("query-named-block-nodes", { flat: true }),
    ],
  ],
  "stop and cont": [
    raw,
    ["stop", "info status", "stop", "cont", "cont", qmp("query-status"), qmp("stop"), qmp("cont")],
  ],
  system_reset: [raw, [qmp("system_reset"), { until: "RESET" }]],
  "unknown commands": [
    raw,
    [
      "foo",
      "info foo",
      "qemu-io",
      "qemu-io nope x",
      qmp("foo"),
      qmp("human-monitor-command", {}),
      qmp("query-block", { x: 1 }),
    ],
  ],
  objects: [
    raw,
    [
      qmp("object-add", { "qom-type": "iothread", id: "t" }),
      qmp("object-add", { "qom-type": "iothread", id: "t" }),
      qmp("object-del", { id: "t" }),
      qmp("object-del", { id: "t" }),
      "object_del t",
      qmp("qom-get", { path: "/objects/nope", property: "x" }),
    ],
  ],
  "character devices": [
    raw,
    [
      qmp("chardev-add", { id: "r", backend: { type: "ringbuf", data: { size: 1024 } } }),
      qmp("ringbuf-write", { device: "r", data: "abc" }),
      qmp("ringbuf-read", { device: "r", size: 2 }),
      qmp("ringbuf-read", { device: "nope", size: 2 }),
      qmp("chardev-remove", { id: "r" }),
      qmp("chardev-remove", { id: "r" }),
      qmp("query-chardev"),
    ],
  ],
  "an error at a write stops the machine": [
    [
      "-drive",
      "if=none,id=d,file.driver=blkdebug,file.image.driver=file,file.image.filename=a.raw,format=raw,werror=stop,rerror=stop",
      "-device",
      "virtio-blk-pci,drive=d,id=v",
    ],
    ["info block", 'qemu-io d "write 0 512"', qmp("query-status"), qmp("query-block")],
  ],
};

describe("answers as QEMU does", () => {
  it.each(Object.entries(scenarios))("%s", async (_what, [options, steps]) => {
    await machines.expectSame(options, steps);
  });
});
