// Servers that do not answer stop only what needs them: other jobs and monitors go on, a node that is being opened is in nobody's
// way, and the daemon ends.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, type Server, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { QmpClient } from "../../src/server/monitor/index.ts";
import { ours } from "../support/daemon.ts";
import { monitorClient } from "../support/monitor-client.ts";

const MiB = 2 ** 20;
let directory = "";
let silent: Server;
let running: ChildProcess[] = [];
const path = (name: string): string => join(directory, name);

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-silent-"));
  for (const name of ["source", "target", "other"]) writeFileSync(path(name), Buffer.alloc(4 * MiB, 5));
  // It takes connections and what comes over them, and says nothing.
  silent = createServer((socket) => socket.on("error", () => undefined).resume());
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
});

afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
  running = [];
  silent.close();
  rmSync(directory, { recursive: true, force: true });
});

function start(command: string, words: readonly string[]): ChildProcess {
  const child = spawn(command, words, { cwd: directory, stdio: "ignore" });
  running.push(child);
  return child;
}

const port = (): string => String((silent.address() as AddressInfo).port);
const raw = (name: string) =>
  ({ driver: "raw", "node-name": name, file: { driver: "file", filename: path(name) } }) as const;

type Nodes = readonly [read: object | undefined, write: object | undefined];

/** A server of NBD that stops after the handshake, as one whose machine hangs. */
async function nbd(client: QmpClient): Promise<Nodes> {
  execFileSync("truncate", ["-s", "4M", path("far")]);
  const server = start("qemu-nbd", ["-t", "-f", "raw", "-x", "", "-k", path("nbd.sock"), "far"]);
  while (!existsSync(path("nbd.sock"))) await setTimeout(20);
  const address = { type: "unix", path: path("nbd.sock") } as const;
  // The socket is there a moment before somebody listens.
  const far = { driver: "nbd", "node-name": "far", server: address, "open-timeout": 60 } as const;
  await client.execute("blockdev-add", far);
  server.kill("SIGSTOP");
  const another = { type: "inet", host: "127.0.0.1", port: port() } as const;
  void client.execute("blockdev-add", { driver: "nbd", "node-name": "late", server: another }).catch(() => 0);
  return [undefined, { device: "source", target: "far" }];
}

async function http(client: QmpClient): Promise<Nodes> {
  const server = { driver: "http", url: `http://127.0.0.1:${port()}/x`, "read-only": true } as const;
  // Its length is given, so that nothing is asked for at opening.
  const far = { ...server, "node-name": "far", size: 4 * MiB };
  await client.execute("blockdev-add", far);
  void client.execute("blockdev-add", { ...server, "node-name": "late" }).catch(() => 0);
  return [{ device: "far", target: "target" }, undefined];
}

test.each([
  ["NBD", nbd],
  ["HTTP", http],
])("%s: jobs between other disks end, monitors answer, and quit ends the daemon", async (_what, prepare) => {
  const [command = "", ...first] = ours;
  const sockets = ["m", "n"].flatMap((id) => [
    "--chardev",
    `socket,id=${id},path=${id}.sock,server=on,wait=off`,
    "--monitor",
    `chardev=${id}`,
  ]);
  const child = start(command, [...first, ...sockets]);
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const client = await monitorClient(path("m.sock"));
  for (const name of ["source", "target", "other"]) await client.execute("blockdev-add", raw(name));
  const [read, write] = await prepare(client);
  // The first monitor waits for the node that is being opened, so the job comes by another one.
  const monitor = await monitorClient(path("n.sock"));
  const stuck = { "job-id": "stuck", sync: "full" } as const;
  await monitor.execute("blockdev-mirror", { ...stuck, ...(read ?? write) } as never);
  const names = (await monitor.execute("query-named-block-nodes", {})).map((node) => node["node-name"]);
  expect(names).toContain("far");
  expect(names).not.toContain("late");
  await expect(monitor.execute("blockdev-del", { "node-name": "late" })).rejects.toThrow(
    "Failed to find node",
  );
  const done = new Promise<object>((resolve) =>
    monitor.on("BLOCK_JOB_COMPLETED", ({ data }) => data.device === "healthy" && resolve(data)),
  );
  writeFileSync(path("copy"), Buffer.alloc(4 * MiB));
  await monitor.execute("blockdev-add", raw("copy"));
  const healthy = { "job-id": "healthy", device: "other", target: "copy", sync: "full" } as const;
  await monitor.execute("blockdev-backup", healthy);
  expect(await done).not.toHaveProperty("error");
  await monitor.execute("quit");
  // What was not written is told by the status; a signal would be the end of one that hangs.
  expect([0, 1]).toContain(await exited);
});
