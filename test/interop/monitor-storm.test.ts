// Monitors under fire: connections that are dropped anywhere, and lines with bytes changed on two monitors at once, while a job runs.
// Nothing is lost: the job goes on, the nodes are those from before, no descriptor is left, and no fault is told. BLOCKWRIGHT_MONITOR_STORM=1 has
// 1000 connections and 10 000 lines; a seed in BLOCKWRIGHT_MONITOR_SEED repeats one run.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { randomness } from "../support/random.ts";
import { program } from "./support/twins.ts";

const isLong = process.env["BLOCKWRIGHT_MONITOR_STORM"] === "1";
const seed = Number(process.env["BLOCKWRIGHT_MONITOR_SEED"] ?? 7);
const LINES_AT_ONCE = 20;

type Random = (limit: number) => number;

function pick<T>(random: Random, from: readonly T[]): T {
  return from[random(from.length)]!;
}

let folder = "";
let machine: ChildProcess;
let complaints = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bws-"));
  const monitors = ["a", "b"].flatMap((name) => ["-qmp", `unix:${join(folder, name)},server=on,wait=off`]);
  const words = [program, "--run-as=qemu-system-x86_64", "-nodefaults", "-display", "none", ...monitors];
  complaints = "";
  machine = spawn(process.execPath, words, { stdio: ["ignore", "ignore", "pipe"] });
  machine.stderr?.setEncoding("utf8").on("data", (text: string) => (complaints += text));
});
afterEach(async () => {
  const ended = new Promise((resolve) => machine.once("close", resolve));
  machine.kill("SIGKILL");
  await ended;
  rmSync(folder, { recursive: true, force: true });
});

/** A connection, as soon as somebody listens. */
async function connected(name: string): Promise<Socket> {
  for (;;) {
    const socket = createConnection(join(folder, name));
    const isOpen = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    if (isOpen) return socket.on("error", () => undefined);
    expect(machine.exitCode, complaints).toBe(null);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const line = (execute: string, args: object = {}): string =>
  `${JSON.stringify({ execute, arguments: args })}\n`;
const greeting = line("qmp_capabilities");

/** The answers to commands, over a connection of their own. */
async function asked(...lines: readonly string[]): Promise<Record<string, unknown>[]> {
  const socket = await connected("a");
  const answers: Record<string, unknown>[] = [];
  let rest = "";
  const all = new Promise<void>((resolve, reject) => {
    socket.setEncoding("utf8").on("data", (text: string) => {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      for (const part of parts) {
        const message = JSON.parse(part) as Record<string, unknown>;
        if ("return" in message || "error" in message) answers.push(message);
      }
      if (answers.length > lines.length) resolve();
    });
    socket.once("close", () => reject(new Error(`closed after ${answers.length} answers: ${complaints}`)));
  });
  socket.write([greeting, ...lines].join(""));
  await all;
  socket.destroy();
  return answers.slice(1);
}

async function returned(command: string): Promise<Record<string, unknown>[]> {
  const [answer] = await asked(line(command));
  return answer?.["return"] as Record<string, unknown>[];
}

const nodeNames = async (): Promise<string[]> =>
  (await returned("query-named-block-nodes")).map((node) => String(node["node-name"])).toSorted();

/** The devices that were added, with and without a name. */
async function devicePaths(): Promise<string[]> {
  const folders = ["/machine/peripheral", "/machine/peripheral-anon"];
  const lists = await asked(...folders.map((path) => line("qom-list", { path })));
  return lists.flatMap(({ return: members = [] }, at) =>
    (members as { name: string; type: string }[]).flatMap(({ name, type }) =>
      type.startsWith("child<") ? [`${folders[at]}/${name}`] : [],
    ),
  );
}

const descriptors = (): number => readdirSync(`/proc/${machine.pid}/fd`).length;

/** A job that goes on for as long as nobody ends it. */
async function guarded(): Promise<void> {
  const disk = { driver: "null-co", size: 1 << 30 };
  const answers = await asked(
    line("blockdev-add", { ...disk, "node-name": "guarded-source" }),
    line("blockdev-add", { ...disk, "node-name": "guarded-target" }),
    line("blockdev-mirror", {
      ...{ "job-id": "guarded-job", device: "guarded-source", target: "guarded-target" },
      ...{ sync: "full", speed: 1, "filter-node-name": "guarded-filter" },
    }),
  );
  expect(answers).toEqual([{ return: {} }, { return: {} }, { return: {} }]);
}

/** Waits until all that was is again, and nothing else: what the lines made is taken away first. */
async function expectWhole(before: { nodes: readonly string[]; descriptors: number }): Promise<void> {
  for (let rounds = 0; ; rounds++) {
    expect(rounds, "what the lines made goes away").toBeLessThan(100);
    const jobs = (await returned("query-jobs")).map((job) => String(job["id"]));
    const others = jobs.filter((id) => id !== "guarded-job");
    const nodes = (await nodeNames()).filter((name) => !before.nodes.includes(name));
    if (others.length + nodes.length === 0) break;
    const away = [
      ...others.flatMap((id) => [line("job-cancel", { id }), line("job-dismiss", { id })]),
      ...nodes.map((name) => line("blockdev-del", { "node-name": name })),
    ];
    // No guest lets go of a device: a reset does.
    const devices = (await devicePaths()).map((id) => line("device_del", { id }));
    await asked(...devices, line("system_reset"), ...away);
  }
  expect(await nodeNames()).toEqual(before.nodes);
  const jobs = await returned("query-block-jobs");
  expect(jobs.map((job) => [job["device"], job["status"], job["io-status"]])).toEqual([
    ["guarded-job", "running", "ok"],
  ]);
  while (descriptors() > before.descriptors) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(complaints).toBe("");
}

async function whole(): Promise<{ nodes: string[]; descriptors: number }> {
  await guarded();
  const nodes = await nodeNames();
  // What is opened once, at the first use, is open by now.
  await asked(...corpus.slice(0, 8));
  await asked(line("blockdev-del", { "node-name": "t0" }), line("blockdev-del", { "node-name": "t1" }));
  let count = descriptors();
  for (let same = 0; same < 5; same++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (descriptors() !== count) same = 0;
    count = descriptors();
  }
  return { nodes, descriptors: count };
}

const disk = (name: string): object => ({ driver: "null-co", "node-name": name, size: 1 << 20 });
/** Whole conversations; nothing in them names the guarded job, a file, or the end. */
const corpus: readonly string[] = [
  line("blockdev-add", disk("t0")),
  line("query-named-block-nodes", { flat: true }),
  line("blockdev-add", { driver: "raw", "node-name": "t1", file: disk("t2"), cache: { direct: false } }),
  line("query-qmp-schema"),
  line("blockdev-del", { "node-name": "t1" }),
  line("query-block"),
  line("object-add", { "qom-type": "throttle-group", id: "tg", limits: { "iops-total": 100 } }),
  line("object-del", { id: "tg" }),
  line("blockdev-add", { driver: "throttle", "node-name": "t3", "throttle-group": "tg", file: "t0" }),
  line("block-dirty-bitmap-add", { node: "t0", name: "b", granularity: 65536 }),
  line("blockdev-mirror", { "job-id": "tj", device: "t0", target: "t1", sync: "full", speed: 4096 }),
  line("block-job-set-speed", { device: "tj", speed: 0 }),
  line("job-pause", { id: "tj" }),
  line("job-resume", { id: "tj" }),
  line("job-cancel", { id: "tj" }),
  line("query-jobs"),
  line("device_add", { driver: "virtio-blk-pci", id: "td", drive: "t0" }),
  line("qom-get", { path: "/machine/peripheral/td", property: "drive" }),
  line("device_del", { id: "td" }),
  line("human-monitor-command", { "command-line": 'qemu-io t0 "read 0 64k"' }),
  line("human-monitor-command", { "command-line": "info block" }),
  line("transaction", {
    actions: [
      { type: "block-dirty-bitmap-add", data: { node: "t0", name: "c" } },
      { type: "abort", data: {} },
    ],
  }),
  line("blockdev-reopen", { options: [{ ...disk("t0"), "read-only": true }] }),
  line("block_resize", { "node-name": "t0", size: 4096 }),
  line("query-blockstats", { "query-nodes": true }),
];

/** Bytes of a line changed, taken out, put in, or doubled. */
function mutated(random: Random, text: string): Buffer {
  const bytes = [...Buffer.from(text.trimEnd())];
  for (let changes = 1 + random(3); changes > 0; changes--) {
    const at = random(bytes.length + 1);
    const piece = bytes.slice(at, at + 1 + random(12));
    const kind = random(5);
    if (kind === 0) bytes[at] = random(256);
    else if (kind === 1) bytes.splice(at, 1 + random(12));
    else if (kind === 2) bytes.splice(at, 0, random(256));
    else if (kind === 3) bytes.splice(at, 0, ...piece);
    else
      bytes.splice(
        at,
        piece.length,
        ...Buffer.from(pick(random, ['"', "{", "[", "9223372036854775808", "null", "\\u0000"])),
      );
  }
  return Buffer.from([...bytes.filter((byte) => byte !== undefined), 10]);
}

it("goes on where connections are dropped anywhere", async () => {
  const random = randomness(seed);
  const before = await whole();
  for (let count = isLong ? 1000 : 60; count > 0; count--) {
    const socket = await connected(pick(random, ["a", "b"]));
    const conversation = Buffer.from([greeting, ...corpus, ...corpus].join(""));
    const start = random(3) === 0 ? random(conversation.length) : 0;
    const bytes = conversation.subarray(start, start + random(conversation.length - start));
    if (random(2) === 0) await new Promise((resolve) => socket.once("data", resolve));
    const isWritten = new Promise((resolve) => socket.write(bytes, resolve));
    if (random(2) === 0) await isWritten;
    socket.destroy();
  }
  await expectWhole(before);
});

it("goes on whatever two monitors are sent", async () => {
  const random = randomness(seed + 1);
  const before = await whole();
  const sent = async (name: string, lines: readonly Buffer[]): Promise<void> => {
    const socket = await connected(name);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    socket.resume();
    socket.end(Buffer.concat([Buffer.from(greeting), ...lines]));
    await closed;
  };
  for (let count = isLong ? 10_000 : 600; count > 0; count -= 2 * LINES_AT_ONCE) {
    const some = (): Buffer[] =>
      Array.from({ length: LINES_AT_ONCE }, () => mutated(random, pick(random, corpus)));
    await Promise.all([sent("a", some()), sent("b", some())]);
  }
  await expectWhole(before);
});
