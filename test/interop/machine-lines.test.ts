// Command lines of `blockwright machine`, good and bad, beside the real qemu-system-x86_64: what is printed, what is complained of, the exit status,
// and, where the machine runs, its drives and character devices. What a line is refused with must be QEMU's words.
import { spawn, spawnSync } from "node:child_process";
import { type AddressInfo, createConnection, createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { shortWords } from "../../src/cli/machine/opts.ts";
import { Machines, qmp } from "./support/machines.ts";
import { program } from "./support/twins.ts";

const machines = new Machines();
afterAll(() => machines.remove());
beforeAll(() => {
  machines.tool("qemu-img", "create", "-q", "-f", "qcow2", "a.qcow2", "1M");
  machines.tool("qemu-img", "create", "-q", "-f", "raw", "b.raw", "1M");
  machines.tool("qemu-img", "create", "-q", "-f", "raw", "f.img", "1440K");
});

const questions = [qmp("query-block"), qmp("query-chardev"), "info block"];
const drive = (more: string): string[] => ["-drive", `if=none,id=d,file=a.qcow2,format=qcow2,${more}`];
const raw = ["-drive", "if=none,id=d,file=b.raw,format=raw"];
const device = (more: string): string[] => [...raw, "-device", `virtio-blk,drive=d,${more}`];

/** By what they are about. */
const lines: Readonly<Record<string, readonly string[][]>> = {
  drives: [
    drive("copy-on-read=on"),
    drive("copy-on-read=on,read-only=on"),
    drive("stats-account-invalid=off,stats-account-failed=off"),
    drive("stats-account-failed=foo"),
    drive("stats-intervals.0=10,stats-intervals.1=20"),
    drive("stats-intervals.0=0"),
    drive("stats-intervals.1=5"),
    drive("readonly=on,read-only=off"),
    drive("node-name=d"),
    drive("iops=10,throttling.iops-total=10"),
    drive("group=h,throttling.group=g,iops=4"),
    drive("throttling.iops-total=-1"),
    ["-drive", "id=d,if=none,id=e,file=b.raw,format=raw"],
    ["-drive", "media=cdrom,file=b.raw,format=raw,read-only=off"],
    ["-drive", "if=none,id=d,file.filename=b.raw"],
    ["-drive", "if=none,id=d,file.driver=file"],
    ["-drive", "if"],
    ...[",id=d", ",if=none,file=a.qcow2", "=3,file=a.qcow2", ",file.driver=file"].map((text) => [
      "-drive",
      text,
    ]),
    drive("detect-zeroes=unmap"),
    drive("detect-zeroes=unmap,discard=off"),
    ["-loadvm", "nope"],
    ["-loadvm", "nope", ...drive("werror=stop")],
    ["-loadvm", "nope", "-drive", "if=none,file=nope.raw"],
    ["-drive", "help"],
    ["-drive", "file=b.raw,format=raw,readonly=on"],
    ["-drive", "if=ide,bus=2,file=b.raw,format=raw"],
    ["-drive", "if=virtio"],
    ["-hda", "a.qcow2", "-cdrom", "b.raw", "-fda", "f.img"],
  ],
  devices: [
    device("iothread=t"),
    ["-object", "iothread,id=t", ...device("iothread=t")],
    ["-object", "throttle-group,id=t", ...device("iothread=t")],
    device("scsi=on"),
    [...device("bootindex=1"), "-device", "virtio-scsi", "-device", "scsi-cd,bootindex=1"],
    ["-device", "virtio-scsi", ...raw, "-device", "scsi-hd,drive=d,removable=on"],
    [
      "-blockdev",
      "file,filename=b.raw,node-name=n",
      ...["1", "2"].flatMap(() => ["-device", "virtio-blk,drive=n"]),
    ],
    ["-device", "virtio-scsi,disable-modern"],
  ],
  "global properties": [
    ["-global", "foo"],
    ["-global", "foo=bar"],
    ["-global", "driver=foo"],
    ["-global", "virtio-blk-pci.nope=1", "-drive", "if=virtio,file=b.raw,format=raw"],
    ["-global", "floppy.drive-type=foo", "-device", "floppy"],
    ["-global", "virtio-scsi-pci.num_queues=0", "-device", "virtio-scsi"],
    ["-global", "ide-hd.werror=stop", "-drive", "file=b.raw,format=raw"],
    [...raw, "-global", "floppy.drive=d", "-fda", "f.img"],
    [
      ...raw,
      "-drive",
      "if=none,id=e,file=f.img,format=raw",
      "-global",
      "floppy.drive=d",
      "-device",
      "floppy,drive=e",
    ],
  ],
  "the machine": [
    ["-machine", "pc,foo=bar"],
    ["-machine", "pc,dump-guest-core=maybe"],
    ["-machine", "pc-i440fx-9.9"],
    ["-machine", "none", "-drive", "file=b.raw,format=raw"],
    ["-machine", "none", "-device", "virtio-blk"],
    ["-smp", "foo"],
    ["-smp", "foo=1"],
    ["-m", "foo"],
    ["-m", "64,foo=1"],
    ["-name", "foo,bar=1"],
    ["-uuid", "foo"],
    ["-rtc", "base=foo"],
    ["-boot", "order=z"],
    ["-boot", "menu=foo"],
    ["-vga", "foo"],
    ["-msg", "foo=1"],
    ["-action", "reboot=none"],
    ["-set", "object.x.y=1"],
    ["-pidfile", "/nope/x"],
  ],
  objects: [
    ["-object", "iothread,id=1"],
    ["-object", "iothread,id=i,foo=1"],
    ["-object", "iothread,id=i", "-object", "iothread,id=i"],
    ["-object", "secret,id=s"],
    ["-object", "throttle-group,id=t,limits.iops-total=5"],
    ["-object", "throttle-group,id=t,x-iops-total=5,x-iops-read=5"],
  ],
  "character devices and monitors": [
    ["-chardev", "null,id=c", "-chardev", "null,id=c"],
    ["-chardev", "id=c"],
    ["-chardev", "file,id=c"],
    ["-chardev", "file,id=c,path=out.txt"],
    ["-chardev", "ringbuf,id=c,size=1000"],
    ["-chardev", "memory,id=c"],
    ["-chardev", "socket,id=c,path=nobody"],
    ["-chardev", "socket,id=c,path=s,wait=off"],
    ["-chardev", "socket,id=c,path=/nope/s,server=on,wait=off"],
    ["-chardev", "null,id=c,mux=foo"],
    ["-chardev", "stdio,id=c"],
    ["-mon", "mode=control"],
    ["-chardev", "null,id=c", "-mon", "chardev=c,mode=foo"],
    ["-chardev", "null,id=c", "-mon", "chardev=c,mode=readline,pretty=on"],
    ["-chardev", "null,id=c", "-mon", "chardev=c,foo=1"],
    ["-monitor", "nope"],
    ["-qmp", "none"],
    ["-serial", "foo"],
  ],
};

describe.each(Object.entries(lines))("of %s", (_what, all) => {
  it.each(all.map((words) => [words.join(" "), words] as const))("%s", async (_line, words) => {
    await machines.expectSame(words, questions);
  });
});

it("takes a key that is empty", () => {
  expect(shortWords(",no,id=a")).toEqual([
    ["", "", "on"],
    ["no", "no", "on"],
  ]);
});

it("has the drives of a pc unless it is told otherwise", async () => {
  for (const options of [[], ["-hda", "a.qcow2"], ["-vga", "none", "-net", "none"], ["-device", "floppy"]]) {
    const { its, mine } = await machines.answers(options, ["info block"], { bare: true });
    expect(mine).toEqual(its);
  }
});

it("counts requests that are left to themselves, failed and refused ones as it is told, over intervals", async () => {
  const broken = "file.driver=blkdebug,file.image.driver=file,file.image.filename=b.raw,format=raw";
  const options = [
    ...["-drive", `if=none,id=d,${broken},file.inject-error.0.event=write_aio,file.inject-error.0.once=on`],
    ...["-drive", "if=none,id=q,file=a.qcow2,stats-account-invalid=off,stats-account-failed=off"],
    ...["-drive", "if=none,id=i,file=f.img,format=raw,stats-intervals.0=10,stats-intervals.1=60"],
  ];
  const io = ["aio_write 0 4k", "aio_read -i 0 512", "aio_write -i 0 512", "aio_read 0 8k", "aio_flush"];
  const steps = ["d", "q", "i"].flatMap((name) => io.map((line) => `qemu-io ${name} "${line}"`));
  const { its, mine } = await machines.answers(options, [...steps, qmp("query-blockstats")]);
  // What lies below a drive counts for itself here (docs/COMPATIBILITY.md).
  const counts = (said: unknown): unknown => {
    const last = (said as { answers: { return: { device: string; stats: object }[] }[] }).answers.at(-2);
    const plain = (key: string, value: unknown): unknown => (/_ns$|depth$/.test(key) ? typeof value : value);
    const rows = last?.return.map(({ device, stats }) => JSON.stringify({ device, stats }, plain));
    return rows?.map((row) => JSON.parse(row) as unknown);
  };
  expect(counts(its)).toHaveLength(3);
  expect(JSON.stringify(mine)).toContain('"interval_length":60');
  expect(counts(mine)).toEqual(counts(its));
});

/** A port that nobody has. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** What a connection hears until it is ended from there. */
function heard(port: number, words: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, "127.0.0.1", () => socket.write(words));
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => (text += part));
    socket.on("error", reject).on("close", () => resolve(text));
  });
}

describe("QMP on TCP", () => {
  const onTcp = (host: string, port: number): string => `tcp:${host}:${port},server=on,wait=off`;

  it("is refused without leave, where others reach it, and to people", async () => {
    const port = await freePort();
    for (const options of [
      ["-qmp", onTcp("127.0.0.1", port)],
      ["-allow-tcp-monitor", "-qmp", onTcp("0.0.0.0", port)],
      ["-allow-tcp-monitor", "-monitor", onTcp("127.0.0.1", port)],
    ]) {
      const words = [program, "machine", "-nodefaults", ...options];
      const { status, stderr } = spawnSync(process.execPath, words, { encoding: "utf8" });
      expect(status).toBe(1);
      expect(stderr).toContain("on TCP is refused");
    }
  });

  it("ends at what a browser would send, and else answers", async () => {
    const port = await freePort();
    const words = [program, "machine", "-nodefaults", "-allow-tcp-monitor", "-qmp", onTcp("127.0.0.1", port)];
    const machine = spawn(process.execPath, [...words, "-qmp", "stdio"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    await new Promise((resolve) => machine.stdout.once("data", resolve));
    const http = await heard(port, `POST / HTTP/1.1\r\n\r\n${qmp("qmp_capabilities")}${qmp("quit")}`);
    expect(http).not.toContain("SHUTDOWN");
    expect(machine.exitCode).toBe(null);
    const ended = new Promise((resolve) => machine.once("close", resolve));
    expect(await heard(port, `${qmp("qmp_capabilities")}${qmp("quit")}`)).toContain("SHUTDOWN");
    expect(await ended).toBe(0);
  });
});
