// The daemon's life: a client on standard input that goes away, stops reading or says quit with a job under way, its pid
// file, and a parent with a channel of its own.
import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { takePidfile } from "../../src/cli/daemon/pidfile.ts";
import type { QmpClient } from "../../src/server/monitor/index.ts";
import { ours, theirs } from "../support/daemon.ts";
import { monitorClient } from "../support/monitor-client.ts";
import { until } from "../support/until.ts";

const MiB = 2 ** 20;
let directory = "";
const running: ChildProcess[] = [];
const path = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-life-"));
});

afterEach(() => {
  for (const child of running.splice(0)) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

function ended(child: ChildProcess): Promise<number | string | null> {
  if (child.exitCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => child.once("exit", (code, signal) => resolve(code ?? signal)));
}

const stdio = ["--chardev", "stdio,id=s", "--monitor", "chardev=s"];
const socket = (name: string): string[] => [
  "--chardev",
  `socket,id=${name},path=${name}.sock,server=on,wait=off`,
  "--monitor",
  `chardev=${name}`,
];

interface Started {
  child: ChildProcess;
  /** What it wrote to standard output and standard error. */
  said: { out: string; err: string };
}

function start(...args: string[]): Started {
  const [command = "", ...first] = ours;
  const child = spawn(command, [...first, ...args], { cwd: directory, stdio: "pipe" });
  running.push(child);
  const said = { out: "", err: "" };
  child.stdin.on("error", () => undefined);
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said.out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (said.err += text));
  return { child, said };
}

const client = (name: string): Promise<QmpClient> => monitorClient(path(`${name}.sock`));

const command = (execute: string, args: object = {}): string =>
  `${JSON.stringify({ execute, arguments: args })}\n`;

describe("a client on standard input", () => {
  test("that goes away ends its monitor only: the job and the other monitor go on", async () => {
    writeFileSync(path("s"), new Uint8Array(4 * MiB).fill(7));
    writeFileSync(path("t"), new Uint8Array(4 * MiB));
    const { child, said } = start("--pidfile", "pid", ...stdio, ...socket("m"));
    const other = await client("m");
    for (const name of ["s", "t"])
      await other.execute("blockdev-add", { driver: "file", "node-name": name, filename: path(name) });
    const heard = (event: "BLOCK_JOB_READY" | "BLOCK_JOB_COMPLETED"): Promise<object> =>
      new Promise((resolve) => other.on(event, ({ data }) => resolve(data)));
    const ready = heard("BLOCK_JOB_READY");
    const job = { "job-id": "j", device: "s", target: "t", sync: "full", speed: MiB } as const;
    await other.execute("blockdev-mirror", job);
    await until("a greeting", () => said.out.includes("QMP"));
    child.stdin!.write(command("qmp_capabilities"));
    await until("an answer", () => said.out.includes("return"));
    child.stdout!.destroy();
    for (let turn = 0; turn < 10; turn++) {
      child.stdin!.write(command("query-version"));
      await other.execute("query-version");
    }
    await other.execute("block-job-set-speed", { device: "j", speed: 0 });
    await ready;
    const completed = heard("BLOCK_JOB_COMPLETED");
    await other.execute("block-job-complete", { device: "j" });
    expect(await completed).not.toHaveProperty("error");
    await other.execute("quit");
    expect(await ended(child)).toBe(0);
    expect(said.err).toBe("");
    expect(existsSync(path("pid"))).toBe(false);
    expect(readFileSync(path("t")).equals(readFileSync(path("s")))).toBe(true);
  });

  test("that does not read keeps nobody else waiting", async () => {
    const { child } = start(...stdio, ...socket("m"));
    child.stdout!.pause();
    child.stdin!.write(command("qmp_capabilities"));
    // More than a pipe holds.
    for (let turn = 0; turn < 200; turn++) child.stdin!.write(command("query-qmp-schema"));
    const other = await client("m");
    for (let turn = 0; turn < 20; turn++) await other.execute("query-version");
    await other.execute("quit");
    expect(await ended(child)).toBe(0);
  });

  test.each(["with its input at its end", "with its input open"])(
    "that says quit with a job under way hears of its end before the reply, as from QEMU: %s",
    async (how) => {
      execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "base", "1M"], { cwd: directory });
      execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", "top"], {
        cwd: directory,
      });
      const nodes = ["file,node-name=f,filename=top", "qcow2,node-name=n,file=f"];
      const args = [...nodes.flatMap((node) => ["--blockdev", node]), ...stdio];
      const lines = [
        command("qmp_capabilities"),
        command("block-commit", { device: "n", "job-id": "j" }),
        command("quit"),
      ].join("");
      const heard = async ([program = "", ...first]: readonly string[]): Promise<string[]> => {
        const child = spawn(program, [...first, ...args], { cwd: directory, stdio: "pipe" });
        running.push(child);
        let text = "";
        child.stdout.setEncoding("utf8").on("data", (more: string) => (text += more));
        child.stdin.on("error", () => undefined);
        child.stdin.write(lines);
        if (how === "with its input at its end") child.stdin.end();
        await new Promise((resolve) => child.once("close", resolve));
        const kinds = text
          .trim()
          .split(/\r?\n/)
          .map((line) => {
            const { event, data } = JSON.parse(line) as { event?: string; data?: { status?: string } };
            return event === undefined
              ? Object.keys(JSON.parse(line) as object).join()
              : (data?.status ?? event);
          });
        // What happens before quit is heard, and the drain's own pauses, is a matter of moments.
        const end = kinds.indexOf("aborting");
        return [`${kinds.filter((kind) => kind === "return").length} answers`, ...kinds.slice(end)];
      };
      const answer = await heard(ours);
      expect(answer).toEqual(["3 answers", "aborting", "BLOCK_JOB_CANCELLED", "concluded", "null", "return"]);
      expect(answer).toEqual(await heard(theirs));
    },
  );
});

describe("the pid file", () => {
  const named = (): string => readFileSync(path("pid"), "utf8").trim();

  test("is one daemon's: another one is refused, and does not touch it", async () => {
    const one = start("--pidfile", "pid", ...socket("m"));
    const monitor = await client("m");
    expect(named()).toBe(String(one.child.pid));
    const two = start("--pidfile", "pid", ...socket("n"));
    expect(await ended(two.child)).toBe(1);
    expect(two.said.err).toMatch(/^blockwright daemon: cannot create PID file: Cannot lock pid file: /);
    expect(named()).toBe(String(one.child.pid));
    await monitor.execute("quit");
    expect(await ended(one.child)).toBe(0);
    expect(existsSync(path("pid"))).toBe(false);
  });

  test("of a daemon that was killed is taken over, and one that was replaced is left alone", async () => {
    const killed = start("--pidfile", "pid", ...socket("m"));
    await client("m");
    killed.child.kill("SIGKILL");
    await ended(killed.child);
    const next = start("--pidfile", "pid", ...socket("n"));
    const monitor = await client("n");
    expect(named()).toBe(String(next.child.pid));
    rmSync(path("pid"));
    writeFileSync(path("pid"), "somebody else's");
    await monitor.execute("quit");
    expect(await ended(next.child)).toBe(0);
    expect(named()).toBe("somebody else's");
  });

  test.each(["symlink", "directory"])("is never written through a name of another kind: %s", async (kind) => {
    writeFileSync(path("victim"), "precious");
    if (kind === "symlink") symlinkSync("victim", path("pid"));
    const { child, said } = start("--pidfile", kind === "symlink" ? "pid" : ".", ...socket("m"));
    expect(await ended(child)).toBe(1);
    expect(said.err).toContain("cannot create PID file: ");
    expect(readFileSync(path("victim"), "utf8")).toBe("precious");
  });

  test("without locks: it is refused while the process runs that it names, and taken over after", () => {
    const sleeper = spawn("sleep", ["60"]);
    running.push(sleeper);
    writeFileSync(path("pid"), `${sleeper.pid}\n`);
    expect(() => takePidfile(path("pid"), undefined)).toThrow(`process ${sleeper.pid} is running`);
    writeFileSync(path("pid"), "4194305\n");
    const mine = takePidfile(path("pid"), undefined);
    expect(named()).toBe(String(process.pid));
    mine.remove();
    expect(existsSync(path("pid"))).toBe(false);
  });
});

test("a daemon with a parent's channel of messages, not asked to go to the background, keeps its standard error", async () => {
  const [, program = "", ...first] = ours;
  const child = fork(program, [...first, ...socket("m")], { cwd: directory, silent: true });
  running.push(child);
  const messages: unknown[] = [];
  let closed = false;
  child.on("message", (message) => messages.push(message));
  child.stderr!.on("close", () => (closed = true));
  child.stderr!.resume();
  const monitor = await client("m");
  await monitor.execute("query-version");
  expect({ closed, messages }).toEqual({ closed: false, messages: [] });
  await monitor.execute("quit");
  expect(await ended(child)).toBe(0);
});
