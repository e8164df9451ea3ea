// Clients of QMP that others wrote: qemu.qmp, qemu.machine, qmp-shell and qmp-shell -H of QEMU's source tree, and node-qemu of npm. Each drives a
// mirror whose target has no space once, with our machine as with the real one.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { root } from "../support/root.ts";
import { ourPrograms } from "./programs.ts";
import { iotestsSource } from "./source.ts";
import { HANG_MS } from "../support/until.ts";

const source = iotestsSource();
const folder = mkdtempSync(join(tmpdir(), "bwc-"));
const { QEMU_PROG: ours = "" } = ourPrograms(folder);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(folder, "s-"));
});

/** What a client saw, line by line; it is ended after a minute of silence on a busy machine. */
function saw(command: string, words: readonly string[]): unknown[] {
  const { stdout, stderr, status } = spawnSync(command, words, { encoding: "utf8", timeout: 300_000 });
  expect(status, stderr).toBe(0);
  return stdout
    .trimEnd()
    .split("\n")
    .map((text) => JSON.parse(text) as unknown);
}

const PAUSED = [["m", "paused", "nospace"]];
const REFUSED = "Job 'm' in state 'paused' cannot accept command verb 'complete'";
const story = [
  ["BLOCK_JOB_ERROR", "stop", "write"],
  PAUSED,
  REFUSED,
  "BLOCK_JOB_READY",
  ["BLOCK_JOB_COMPLETED", null],
];

describe.skipIf("missing" in source)(
  `QEMU's clients of QMP${"missing" in source ? `: ${source.missing}` : ""}`,
  () => {
    const python = "path" in source ? join(source.path, "..", "..", "python") : "";
    const script = join(root, "test", "iotests", "clients.py");
    it.each([
      ["qmp", story],
      ["machine", story],
      ["shell", [[true, PAUSED], REFUSED, true]],
      ["human", ["Type mirror", `Error: ${REFUSED}`, "", "", "Error: Block job 'm' not found"]],
    ])("%s", (client, expected) => {
      const words = (program: string): string[] => [script, client, python, program, scratch];
      expect(saw("python3", words(ours))).toEqual(expected);
      scratch = mkdtempSync(join(folder, "s-"));
      expect(saw("python3", words("/usr/bin/qemu-system-x86_64"))).toEqual(expected);
    });
  },
);

/** node-qemu, fetched once; undefined where the registry can't be reached. */
function nodeQemu(): string | undefined {
  const home = join(root, "build", "test", "clients");
  const entry = join(home, "node_modules", "node-qemu", "dist", "index.mjs");
  if (existsSync(entry)) return entry;
  mkdirSync(home, { recursive: true });
  const words = ["install", "--prefix", home, "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"];
  spawnSync("npm", [...words, "node-qemu@1.3.0"], { stdio: "ignore", timeout: 2 * HANG_MS });
  return existsSync(entry) ? entry : undefined;
}

const entry = nodeQemu();

/** What is used of it. */
interface Client {
  connect(): Promise<void>;
  execute(command: string, args?: object): Promise<unknown>;
  once(event: string, listener: (data: Record<string, unknown>) => void): unknown;
  close(): Promise<void>;
}

interface NodeQemu {
  readonly QMPClient: new (options: { socketPath: string }) => Client;
}

/** Whether somebody listens: the socket is there a moment before. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(path, () => probe.end(() => resolve(true)));
    probe.on("error", () => resolve(false));
  });
}

async function drive(client: Client): Promise<unknown[]> {
  const told = (name: string): Promise<Record<string, unknown>> =>
    new Promise((resolve) => client.once(name, resolve));
  const fails = (iotype: string): object => ({ event: "none", iotype, errno: 28, once: true });
  const jobs = async (): Promise<unknown[][]> =>
    ((await client.execute("query-block-jobs")) as Record<string, unknown>[]).map((job) => [
      ...[job["device"], job["status"], job["io-status"]],
    ]);
  const refused = (error: unknown): string => String(error).replace(/^.*\]: /, "");
  const complete = (): Promise<unknown> => client.execute("block-job-complete", { device: "m" });
  const size = 1 << 20;
  await client.execute("blockdev-add", { driver: "null-co", "node-name": "src", size, "read-zeroes": true });
  await client.execute("blockdev-add", {
    ...{ driver: "blkdebug", "node-name": "dst", image: { driver: "null-co", size } },
    "inject-error": [fails("write"), fails("write-zeroes")],
  });
  const [failed, ready, completed] = ["ERROR", "READY", "COMPLETED"].map((word) => told(`BLOCK_JOB_${word}`));
  await client.execute("blockdev-mirror", {
    ...{ "job-id": "m", device: "src", target: "dst", sync: "full", "on-target-error": "enospc" },
  });
  const error = await failed;
  while ((await jobs())[0]?.[1] !== "paused");
  const paused = await jobs();
  const refusal = await complete().catch(refused);
  await client.execute("block-job-resume", { device: "m" });
  await ready;
  await complete();
  const end = await completed;
  return [
    ["BLOCK_JOB_ERROR", error?.["action"], error?.["operation"]],
    paused,
    refusal,
    "BLOCK_JOB_READY",
    ["BLOCK_JOB_COMPLETED", end?.["error"] ?? null],
  ];
}

describe.skipIf(entry === undefined)(
  `node-qemu${entry === undefined ? ": the package can't be fetched" : ""}`,
  () => {
    it.each([
      ["ours", ours],
      ["QEMU's", "/usr/bin/qemu-system-x86_64"],
    ])("drives %s", async (_, program) => {
      const { QMPClient } = (await import(entry ?? "")) as NodeQemu;
      const socketPath = join(scratch, "q");
      const words = [
        "-nodefaults",
        "-display",
        "none",
        "-S",
        "-qmp",
        `unix:${socketPath},server=on,wait=off`,
      ];
      const machine = spawn(program, words, { stdio: "ignore" });
      const ended = new Promise((resolve) => machine.once("close", resolve));
      while (machine.exitCode === null && !(await answers(socketPath)))
        await new Promise((resolve) => setTimeout(resolve, 20));
      const client = new QMPClient({ socketPath });
      try {
        await client.connect();
        expect(await drive(client)).toEqual(story);
      } finally {
        await client.close();
        machine.kill("SIGTERM");
        await ended;
      }
    });
  },
);
