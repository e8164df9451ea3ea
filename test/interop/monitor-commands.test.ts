// The commands of monitors beside those on nodes and jobs, held beside the real qemu-storage-daemon and qemu-system-x86_64: the tree
// of objects, character devices, snapshots of disks as jobs, latency histograms, descriptors, what runs out of band, and the schema.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { JsonStream, plainJson } from "../../src/wire/qapi/index.ts";
import { program } from "./support/twins.ts";

const directory = mkdtempSync(join(tmpdir(), "blockwright-monitor-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

beforeEach(() => {
  for (const name of ["a.qcow2", "b.qcow2"])
    spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", join(directory, name), "1M"]);
  spawnSync("qemu-img", ["create", "-q", "-f", "raw", join(directory, "c.raw"), "1M"]);
});

type Answer = Record<string, unknown>;

const machine = ["-nodefaults", "-display", "none", "-S", "-qmp", "stdio"];
const daemon = ["--chardev", "stdio,id=compat_monitor0", "--monitor", "compat_monitor0"];

/** Each of the two programs with the options; `machine`: qemu-system-x86_64. */
const programs = {
  machine: (options: readonly string[]) => ({
    theirs: ["qemu-system-x86_64", ...machine, "-accel", "tcg", ...options],
    ours: [process.execPath, program, "--run-as=qemu-system-x86_64", ...machine, ...options],
  }),
  daemon: (options: readonly string[]) => ({
    theirs: ["qemu-storage-daemon", ...options, ...daemon],
    ours: [process.execPath, program, "--run-as=qemu-storage-daemon", ...options, ...daemon],
  }),
} as const;

/** Asks one after another and resolves with the answers, without events. After each job's start its end is waited for. */
async function answers(
  [command = "", ...args]: readonly string[],
  lines: readonly string[],
): Promise<Answer[]> {
  const child = spawn(command, args, { cwd: directory, stdio: ["pipe", "pipe", "inherit"] });
  const stream = new JsonStream();
  const found: Answer[] = [];
  const queue = ['{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}', ...lines];
  let waitsForJob = false;
  const next = (): void => {
    const line = queue.shift();
    waitsForJob = line?.includes('"job-id"') ?? false;
    if (line === undefined) child.stdin.write('{"execute":"quit"}\n');
    else child.stdin.write(`${line}\n`);
  };
  child.stdout.on("data", (bytes: Uint8Array) => {
    for (const item of stream.feed(bytes)) {
      const message = (item.kind === "value" ? plainJson(item.value) : {}) as Answer;
      if ("QMP" in message) next();
      else if (!("event" in message)) {
        if (found.length > lines.length) continue;
        found.push(message);
        if (!waitsForJob || "error" in message) next();
      } else if (waitsForJob && JSON.stringify(message["data"]).includes('"concluded"')) next();
    }
  });
  await new Promise((resolve) => child.on("close", resolve));
  return found.slice(1);
}

const ask = (execute: string, args: object = {}): string => JSON.stringify({ execute, arguments: args });

/** Lists in which the order means nothing, sorted. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value))
    return value.map(sorted).toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, one]) => [key, sorted(one)] as const);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

async function expectSame(
  kind: keyof typeof programs,
  options: readonly string[],
  lines: readonly string[],
): Promise<void> {
  const { theirs, ours } = programs[kind](options);
  const [expected, got] = await Promise.all([answers(theirs, lines), answers(ours, lines)]);
  const shown = (list: readonly Answer[]): unknown[] => list.map((answer, at) => [lines[at], sorted(answer)]);
  expect(shown(got)).toEqual(shown(expected));
}

const objects = [
  ...["-object", "iothread,id=io,poll-max-ns=5", "-object", "throttle-group,id=tg,x-bps-total=4096"],
  ...["-object", "secret,id=s,data=abc"],
];
const asDaemon = objects.map((word) => (word === "-object" ? "--object" : word));
const group = ask("object-add", { "qom-type": "throttle-group", id: "tg2", limits: { "bps-total": 7 } });

const onObjects = [
  group,
  ...["io", "tg", "s", "/objects/tg", "nope", "/nope", "/objects/nope"].map((path) =>
    ask("qom-list", { path }),
  ),
  ...["limits", "x-bps-total", "x-iops-read-max-length", "type", "nope"].map((property) =>
    ask("qom-get", { path: "/objects/tg", property }),
  ),
  ask("qom-set", { path: "tg", property: "limits", value: { "bps-total": 8192 } }),
  ask("qom-set", { path: "tg", property: "limits", value: { "bps-total": 1, "bps-read": 1 } }),
  ask("qom-set", { path: "tg", property: "limits", value: { nope: 1 } }),
  ask("qom-set", { path: "tg", property: "x-bps-total", value: 1 }),
  ask("qom-set", { path: "tg", property: "type", value: "x" }),
  ask("qom-set", { path: "tg", property: "nope", value: "x" }),
  ask("qom-get", { path: "tg", property: "limits" }),
  ask("qom-set", { path: "io", property: "poll-max-ns", value: 100 }),
  ask("qom-set", { path: "io", property: "poll-max-ns", value: -1 }),
  ask("qom-set", { path: "io", property: "poll-max-ns", value: "x" }),
  ask("qom-set", { path: "io", property: "thread-pool-min", value: 100 }),
  ...["poll-max-ns", "thread-pool-max", "aio-max-batch"].map((property) =>
    ask("qom-get", { path: "io", property }),
  ),
  ask("qom-get", { path: "s", property: "format" }),
  ask("qom-get", { path: "/", property: "objects" }),
  ...[
    "iothread",
    "throttle-group",
    "secret",
    "tls-creds-x509",
    "tls-creds-psk",
    "tls-creds-anon",
    "chardev-null",
  ].map((typename) => ask("qom-list-properties", { typename })),
  ask("qom-list-properties", { typename: "nope" }),
  ask("object-del", { id: "tg2" }),
  ask("qom-list", { path: "tg2" }),
];

describe("objects", () => {
  it("of the storage daemon", async () => {
    await expectSame("daemon", [], [ask("qom-list", { path: "/" }), ask("qom-list", { path: "/objects" })]);
    await expectSame("daemon", asDaemon, [...onObjects, ask("qom-list", { path: "/objects" })]);
  });

  it("of a machine, and its devices", async () => {
    const drives = ["-drive", "if=none,id=d,file=c.raw,format=raw", "-drive", "if=none,id=e,file=a.qcow2"];
    const devices = [
      ...[
        "-device",
        "virtio-blk-pci,id=v,drive=d,share-rw=on,rerror=stop",
        "-device",
        "virtio-scsi-pci,id=vs",
      ],
      ...["-device", "scsi-hd,id=hd,drive=e,bus=vs.0", "-device", "virtio-scsi-pci"],
    ];
    const properties = [
      "type",
      "drive",
      "share-rw",
      "rerror",
      "werror",
      "hotpluggable",
      "parent_bus",
      "serial",
    ];
    await expectSame(
      "machine",
      [...objects, ...drives, ...devices],
      [
        ...onObjects,
        ask("qom-list", { path: "/machine/peripheral" }),
        ask("qom-list", { path: "/machine/peripheral-anon" }),
        ...properties.map((property) => ask("qom-get", { path: "/machine/peripheral/v", property })),
        ...["drive", "logical_block_size", "nope"].map((property) =>
          ask("qom-get", { path: "hd", property }),
        ),
        ask("qom-get", { path: "v", property: "virtio-backend" }),
        ask("qom-set", { path: "hd", property: "rerror", value: "stop" }),
        ask("qom-get", { path: "/machine", property: "type" }),
        ...["nope", "iothread", "virtio-blk"].map((typename) => ask("device-list-properties", { typename })),
      ],
    );
  });

  it.each([
    ...["pci-bridge", "floppy", "ide-cd", "ide-hd", "lsi53c895a", "scsi-cd", "scsi-hd", "virtio-blk-pci"],
    "virtio-scsi-pci",
  ])("the properties of %s", async (typename) => {
    await expectSame("machine", [], [ask("device-list-properties", { typename })]);
  });

  it("lists the types that there are with QEMU's parents", async () => {
    const lines = ["user-creatable", "chardev"].map((wanted) =>
      ask("qom-list-types", { implements: wanted }),
    );
    const { theirs, ours } = programs.daemon([]);
    const [expected, got] = await Promise.all([answers(theirs, lines), answers(ours, lines)]);
    got.forEach(({ return: rows }, at) => {
      expect((rows as unknown[]).length).toBeGreaterThan(5);
      expect(expected[at]?.["return"]).toEqual(expect.arrayContaining(rows as unknown[]));
    });
  });
});

const add = (id: string, type: string, data: object = {}): string =>
  ask("chardev-add", { id, backend: { type, data } });
const socket = (path: string, server: boolean): object => ({
  ...{ addr: { type: "unix", data: { path } }, server, ...(server ? { wait: false } : {}) },
});

const onChardevs = [
  add("n", "null"),
  add("n", "null"),
  add("r", "ringbuf", { size: 64 }),
  add("x", "ringbuf", { size: 63 }),
  ask("ringbuf-write", { device: "r", data: "hello" }),
  ask("ringbuf-read", { device: "r", size: 3 }),
  ask("ringbuf-read", { device: "r", size: 3, format: "base64" }),
  ask("ringbuf-write", { device: "r", data: "QUJD", format: "base64" }),
  ask("ringbuf-write", { device: "r", data: "0123456789".repeat(7) }),
  ask("ringbuf-read", { device: "r", size: 100 }),
  ask("ringbuf-read", { device: "n", size: 3 }),
  ask("ringbuf-read", { device: "nope", size: 3 }),
  ask("ringbuf-read", { device: "r", size: 0 }),
  add("u", "socket", socket("u.sock", true)),
  add("y", "socket", socket("nowhere/u.sock", true)),
  add("y", "socket", socket("nowhere/u.sock", false)),
  add("f", "file", { out: "f.log" }),
  add("y", "stdio"),
  add("y", "nope"),
  ask("query-chardev"),
  ask("chardev-change", { id: "n", backend: { type: "ringbuf", data: {} } }),
  ask("chardev-change", { id: "nope", backend: { type: "null", data: {} } }),
  ask("chardev-change", { id: "compat_monitor0", backend: { type: "null", data: {} } }),
  ask("chardev-send-break", { id: "r" }),
  ask("chardev-send-break", { id: "nope" }),
  ask("chardev-remove", { id: "compat_monitor0" }),
  ...["n", "n", "u", "f", "r"].map((id) => ask("chardev-remove", { id })),
  ask("query-chardev"),
  ask("qom-list", { path: "/chardevs" }),
];

describe("character devices", () => {
  it.each(["daemon", "machine"] as const)("of the %s", async (kind) => {
    const { theirs, ours } = programs[kind]([]);
    // One after the other: both make the same socket.
    const expected = await answers(theirs, onChardevs);
    const got = await answers(ours, onChardevs);
    const shown = (list: readonly Answer[]): unknown[] =>
      list.map((one, at) => [onChardevs[at], sorted(one)]);
    expect(shown(got)).toEqual(shown(expected));
  });

  it("lists kinds that QEMU has, too", async () => {
    const { theirs, ours } = programs.daemon([]);
    const lines = [ask("query-chardev-backends")];
    const [[expected], [got]] = await Promise.all([answers(theirs, lines), answers(ours, lines)]);
    expect(expected?.["return"]).toEqual(expect.arrayContaining(got?.["return"] as unknown[]));
  });
});

describe("a machine", () => {
  it("saves, loads and deletes snapshots of named disks by jobs", async () => {
    const node = (name: string, driver: string, filename: string): string[] => [
      ...["-blockdev", `driver=${driver},node-name=${name},file.driver=file,file.filename=${filename}`],
    ];
    const nodes = [
      ...node("a", "qcow2", "a.qcow2"),
      ...node("b", "qcow2", "b.qcow2"),
      ...node("c", "raw", "c.raw"),
    ];
    let count = 0;
    const job = (kind: string, tag: string, devices: string[], vmstate?: string): string =>
      ask(`snapshot-${kind}`, {
        "job-id": `j${count++}`,
        tag,
        devices,
        ...(vmstate === undefined ? {} : { vmstate }),
      });
    const lines = [
      job("save", "t", ["a"], "x"),
      job("save", "t", ["a", "b"], "a"),
      job("save", "t", ["a", "b"], "a"),
      job("save", "u", ["b"], "a"),
      job("save", "u", ["a", "c"], "a"),
      job("save", "u", [], "a"),
      job("save", "u", ["nope"], "a"),
      job("load", "nope", ["a"], "a"),
      job("load", "t", ["a", "b"], "a"),
      job("delete", "nope", ["a"]),
      job("delete", "t", ["a", "b"]),
      ask("snapshot-save", { "job-id": "j1", tag: "v", vmstate: "a", devices: ["a"] }),
      ask("query-jobs"),
      ask("job-dismiss", { id: "j1" }),
    ];
    const { theirs, ours } = programs.machine(nodes);
    const expected = await answers(theirs, lines);
    const got = await answers(ours, lines);
    expect(got.map(sorted)).toEqual(expected.map(sorted));
    const { stdout } = spawnSync("qemu-img", ["snapshot", "-l", "a.qcow2"], {
      cwd: directory,
      encoding: "utf8",
    });
    expect(stdout).not.toContain("t ");
  });

  it("keeps latency histograms where they were asked for", async () => {
    const set = (args: object): string => ask("block-latency-histogram-set", { id: "hd", ...args });
    await expectSame(
      "machine",
      [
        ...["-drive", "if=none,id=d,file=c.raw,format=raw", "-device", "virtio-blk-pci,id=v,drive=d"],
        ...[
          "-drive",
          "if=none,id=e,file=a.qcow2",
          "-device",
          "virtio-scsi-pci",
          "-device",
          "scsi-hd,id=hd,drive=e",
        ],
      ],
      [
        set({ boundaries: [10, 20], "boundaries-write": [5] }),
        set({ "boundaries-read": [20, 10] }),
        set({ "boundaries-flush": [0] }),
        set({ boundaries: [] }),
        set({ boundaries: [10, 10] }),
        ...["v", "d", "nope"].map((id) => ask("block-latency-histogram-set", { id, boundaries: [1] })),
        ask("block-latency-histogram-set", {
          id: "/machine/peripheral/v/virtio-backend",
          "boundaries-flush": [1, 2],
        }),
      ],
    );
  });

  it("has the histograms in query-blockstats, until they are taken away", async () => {
    const set = (args: object): string => ask("block-latency-histogram-set", { id: "hd", ...args });
    const lines = [
      set({ "boundaries-write": [5, 6] }),
      ask("query-blockstats"),
      set({}),
      ask("query-blockstats"),
    ];
    const options = [
      "-drive",
      "if=none,id=e,file=a.qcow2",
      "-device",
      "virtio-scsi-pci",
      "-device",
      "scsi-hd,id=hd,drive=e",
    ];
    const { theirs, ours } = programs.machine(options);
    const picked = (list: Answer[]): unknown[] =>
      list.map(({ return: rows }) =>
        Array.isArray(rows)
          ? rows.map(({ stats }: { stats: Answer }) =>
              Object.entries(stats).filter(([key]) => key.endsWith("histogram")),
            )
          : rows,
      );
    const [expected, got] = await Promise.all([answers(theirs, lines), answers(ours, lines)]);
    expect(picked(got)).toEqual(picked(expected));
  });

  it("runs nothing out of band, and takes no descriptors by QMP", async () => {
    await expectSame(
      "machine",
      [],
      [
        '{"exec-oob":"query-status","id":1}',
        '{"exec-oob":"nope","id":2}',
        '{"exec-oob":"qmp_capabilities","id":3}',
        '{"execute":"query-status","exec-oob":"x","id":4}',
        '{"exec-oob":5,"id":5}',
        ask("getfd", { fdname: "x" }),
        ask("closefd", { fdname: "x" }),
        ask("add-fd"),
        ask("remove-fd", { "fdset-id": 3 }),
        ask("remove-fd", { "fdset-id": 3, fd: 1 }),
        ask("query-fdsets"),
      ],
    );
  });

  it("says who it is, and what it is not by name", async () => {
    const lines = ["query-name", "query-uuid", "query-target", "query-block-exports", "query-iothreads"];
    const options = ["-name", "guest=box,process=p", "-uuid", "12345678-1234-1234-1234-123456789abc"];
    await expectSame(
      "machine",
      options,
      lines.map((name) => ask(name)),
    );
    const [refused, cpus, machines] = await answers(programs.machine([]).ours, [
      ask("migrate", { uri: "tcp:x:1" }),
      ask("query-cpus-fast"),
      ask("query-machines"),
    ]);
    expect(refused?.["error"]).toEqual({
      class: "CommandNotFound",
      desc: "The command migrate has not been found: migration is not supported by this machine",
    });
    expect(cpus?.["return"]).toEqual([]);
    expect((machines!["return"] as Answer[]).map(({ name, alias }) => alias ?? name)).toEqual(["none", "pc"]);
  });

  it("takes what no QEMU has where -compat says so, and refuses other words", async () => {
    const mirror = ask("blockdev-mirror", { device: "x", target: "y", sync: "bitmap", bitmap: "b" });
    const descriptions = await Promise.all(
      [[], ["-compat", "deprecated-input=reject"], ["-compat", "blockwright"]].map(async (options) => {
        const [answer] = await answers(programs.machine(options).ours, [mirror]);
        return (answer!["error"] as { desc: string }).desc;
      }),
    );
    expect(descriptions).toEqual([
      "Parameter 'bitmap' is unexpected",
      "Parameter 'bitmap' is unexpected",
      "Cannot find device='x' nor node-name='x'",
    ]);
    const [command = "", ...args] = programs.machine(["-compat", "nope"]).ours;
    const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
    expect([status, stderr]).toEqual([
      1,
      "qemu-system-x86_64: -compat nope: one of 7.2, 10.1, blockwright is expected\n",
    ]);
  });

  it("exports its disks by NBD", async () => {
    await expectSame(
      "machine",
      ["-drive", "if=none,id=d,file=c.raw,format=raw"],
      [
        ask("nbd-server-start", { addr: { type: "unix", data: { path: "m.sock" } } }),
        ask("nbd-server-stop"),
        ask("nbd-server-stop"),
        ask("block-export-add", { type: "nbd", id: "x", "node-name": "nope" }),
      ].slice(2),
    );
  });
});

interface Entry {
  readonly name: string;
  readonly "meta-type": string;
  readonly members?: readonly { name: string; type: string; default?: null }[];
  readonly "arg-type"?: string;
  readonly "ret-type"?: string;
  readonly "element-type"?: string;
}

/** A type in words, four levels deep: members of objects, without the values of enumerations. */
function shape(entries: ReadonlyMap<string, Entry>, name: string, depth = 0): string {
  const entry = entries.get(name);
  if (!entry || depth > 4) return "…";
  if (entry["element-type"] !== undefined) return `[${shape(entries, entry["element-type"], depth)}]`;
  if (entry["meta-type"] === "builtin") return entry.name;
  if (entry["meta-type"] !== "object") return entry["meta-type"];
  const members = (entry.members ?? []).map(
    (one) => `${"default" in one ? "*" : ""}${one.name}:${shape(entries, one.type, depth + 1)}`,
  );
  return `{${members.join(" ")}}`;
}

describe("query-qmp-schema", () => {
  // Commands of ours that QEMU's program lacks, and answers that tell less, since there is no guest.
  const ownWords = {
    daemon: ["stop", "cont", "query-status"],
    machine: [] as string[],
  };
  const lesser = new Set(["query-cpus-fast"]);

  it.each(["daemon", "machine"] as const)("is QEMU's for each command that the %s has", async (kind) => {
    const { theirs, ours } = programs[kind]([]);
    const lines = [ask("query-qmp-schema")];
    const [expected, got] = await Promise.all([answers(theirs, lines), answers(ours, lines)]);
    const tables = [expected, got].map(
      ([answer]) => new Map((answer!["return"] as Entry[]).map((entry) => [entry.name, entry])),
    );
    const [real, own] = tables as [Map<string, Entry>, Map<string, Entry>];
    const commands = [...own.values()].filter((entry) => entry["meta-type"] === "command");
    expect(commands.length).toBeGreaterThan(60);
    const words = (entries: ReadonlyMap<string, Entry>, name: string): string => {
      const entry = entries.get(name);
      if (!entry) return "none";
      const returned = lesser.has(name) ? "" : shape(entries, entry["ret-type"] ?? "");
      return `${shape(entries, entry["arg-type"] ?? "")} -> ${returned}`;
    };
    for (const { name } of commands)
      if (!ownWords[kind].includes(name))
        expect(`${name} ${words(own, name)}`).toBe(`${name} ${words(real, name)}`);
  });
});
