// Disks that do not answer stop only themselves: other files, keys, compression and names go on, and the daemon ends.
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadNativeCalls } from "../../src/platform/node/native.ts";
import type { QmpClient } from "../../src/server/monitor/index.ts";
import { ours } from "../support/daemon.ts";
import { program as verbProgram } from "../support/verb-client.ts";
import { stallingEnvironment, whyNoStall } from "./support/stall.ts";
import { monitorClient } from "../support/monitor-client.ts";

const MiB = 2 ** 20;
const reason = whyNoStall();
if (reason !== undefined) console.warn(`stalled-disk.test.ts is skipped: ${reason}`);

let directory = "";
const running: ChildProcess[] = [];
const path = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-stalled-"));
});

afterEach(() => {
  for (const child of running.splice(0)) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

/** A daemon with a monitor and files that never answer. */
async function startDaemon(): Promise<{ child: ChildProcess; client: QmpClient; said: () => string }> {
  const [command = "", ...first] = ours;
  const monitor = ["--chardev", "socket,id=m,path=m.sock,server=on,wait=off", "--monitor", "chardev=m"];
  const child = spawn(command, [...first, ...monitor, "--pidfile", "pid"], {
    cwd: directory,
    env: stallingEnvironment(directory),
    stdio: ["ignore", "ignore", "pipe"],
  });
  running.push(child);
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (more: string) => (errors += more));
  const client = await monitorClient(path("m.sock"));
  return { child, client, said: () => errors };
}

/** Three disks that do not answer with 300 writes each; then everything else that this library does on threads. */
const program = `
import { lookup } from "node:dns/promises";
import { pbkdf2 } from "node:crypto";
import { promisify } from "node:util";
import { deflateRaw } from "node:zlib";
const { createEngine, createImage, openNode, convert } = await import(process.env.ENTRY);
const engine = createEngine();
const open = (filename, driver = "raw") => openNode({ driver, file: { driver: "file", filename } }, { engine });
const piece = new Uint8Array(4096).fill(7);
for (const name of ["stalled1", "stalled2", "stalled3"]) {
  const disk = await open(name);
  for (let turn = 0; turn < 300; turn++) disk.write(turn * 4096, piece).catch(() => undefined);
}
const source = await open("source");
await createImage({ driver: "qcow2", file: { driver: "file", filename: "target" }, size: source.length }, { engine });
const target = await open("target", "qcow2");
await convert(source, target, { compress: true });
await target.flush();
await target.close();
const back = await open("target", "qcow2");
const [a, b] = [await source.read(0, source.length), await back.read(0, source.length)];
console.log("copied", Buffer.compare(a, b) === 0);
await promisify(pbkdf2)("secret", "salt", 1000, 32, "sha256");
await promisify(deflateRaw)(piece);
await lookup("localhost");
console.log("all");
process.kill(process.pid, "SIGKILL");
`;

describe.skipIf(reason !== undefined)("disks that do not answer", () => {
  test("keep nothing else from a library's threads: three with 300 writes each", async () => {
    writeFileSync(
      path("source"),
      new Uint8Array(4 * MiB).map((_, at) => (at * 31 + (at >> 12)) & 255),
    );
    for (const name of ["stalled1", "stalled2", "stalled3"]) {
      writeFileSync(path(name), "");
      truncateSync(path(name), 2 * MiB);
    }
    const entry = fileURLToPath(new URL("../../build/node.js", import.meta.url));
    const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
      cwd: directory,
      env: { ...stallingEnvironment(directory), ENTRY: entry },
      stdio: ["ignore", "pipe", "inherit"],
    });
    running.push(child);
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
    await new Promise((resolve) => child.once("close", resolve));
    expect(existsSync(path("stall.log"))).toBe(true);
    expect(text).toBe("copied true\nall\n");
  });

  test("let the daemon's other jobs end, and the daemon too, which closes its other images", async () => {
    const data = new Uint8Array(8 * MiB).fill(5);
    const sources = ["source1", "source2", "source3", "source"];
    for (const name of sources) writeFileSync(path(name), data);
    for (const name of ["stalled1", "stalled2", "stalled3", "target"]) {
      writeFileSync(path(name), "");
      truncateSync(path(name), 8 * MiB);
    }
    const { child, client, said } = await startDaemon();
    const add = (name: string, readOnly: boolean): Promise<unknown> =>
      client.execute("blockdev-add", {
        driver: "raw",
        "node-name": name,
        "read-only": readOnly,
        file: { driver: "file", filename: path(name) },
      });
    for (const name of sources) await add(name, true);
    for (const name of ["stalled1", "stalled2", "stalled3", "target"]) await add(name, false);
    for (const n of [1, 2, 3]) {
      const [device, target] = [`source${n}`, `stalled${n}`];
      await client.execute("blockdev-mirror", { "job-id": target, device, target, sync: "full" });
    }
    while (!existsSync(path("stall.log"))) await client.execute("query-version");
    const done = new Promise<object>((resolve) =>
      client.on("BLOCK_JOB_COMPLETED", ({ data: what }) => resolve(what)),
    );
    const nodes = { device: "source", target: "target" };
    await client.execute("blockdev-backup", { "job-id": "healthy", ...nodes, sync: "full" });
    expect(await done).not.toHaveProperty("error");
    expect(readFileSync(path("target")).equals(data)).toBe(true);
    const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
    await client.execute("quit");
    // Without native calls the end of a process with stuck threads is a signal.
    expect([1, "SIGKILL"]).toContain(await exited);
    expect(said()).toContain("the disk does not answer");
    expect(existsSync(path("pid"))).toBe(false);
  });

  test.runIf(loadNativeCalls())(
    "which do not tell their holes leave the monitor and other jobs alone",
    async () => {
      for (const name of ["holes", "source"]) writeFileSync(path(name), new Uint8Array(4 * MiB).fill(5));
      for (const name of ["target1", "target2"]) {
        writeFileSync(path(name), "");
        truncateSync(path(name), 4 * MiB);
      }
      const { client } = await startDaemon();
      for (const name of ["holes", "source", "target1", "target2"]) {
        const file = { driver: "file", filename: path(name) } as const;
        await client.execute("blockdev-add", { driver: "raw", "node-name": name, file });
      }
      const stuck = { device: "holes", target: "target1", sync: "full" } as const;
      await client.execute("blockdev-backup", { "job-id": "stuck", ...stuck });
      while (!existsSync(path("stall.log"))) await client.execute("query-version");
      const done = new Promise<object>((resolve) =>
        client.on("BLOCK_JOB_COMPLETED", ({ data: what }) => resolve(what)),
      );
      const healthy = { device: "source", target: "target2", sync: "full" } as const;
      await client.execute("blockdev-backup", { "job-id": "healthy", ...healthy });
      expect(await done).not.toHaveProperty("error");
    },
  );

  test("let a job of the command line end at the second signal, which waits for nothing", async () => {
    writeFileSync(path("source"), new Uint8Array(4 * MiB).fill(5));
    const words = ["mirror", "-f", "raw", "source", "stalled"];
    const child = spawn(process.execPath, [verbProgram, ...words], {
      cwd: directory,
      env: stallingEnvironment(directory),
      stdio: ["ignore", "ignore", "inherit"],
    });
    running.push(child);
    const exited = new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
    while (!existsSync(path("stall.log"))) {
      expect(child.exitCode).toBeNull();
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect(child.exitCode).toBeNull();
    child.kill("SIGINT");
    expect([130, "SIGKILL"]).toContain(await exited);
  });
});
