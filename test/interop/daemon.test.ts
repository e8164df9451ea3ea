// The daemon's command line beside qemu-storage-daemon's: start-up errors, sockets, pid file, daemonize, signals, quit; and
// our QMP client talking to both.
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nodeSockets } from "../../src/platform/node/sockets.ts";
import { QmpClient } from "../../src/server/monitor/index.ts";
import { ours, theirs } from "../support/daemon.ts";
import { monitorClient } from "../support/monitor-client.ts";
import { HANG_MS, until } from "../support/until.ts";

let directory = "";
const running: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-daemon-"));
});

afterEach(() => {
  for (const child of running.splice(0)) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a daemon that is expected to end by itself. */
function run(program: readonly string[], ...args: string[]): Promise<Ended> {
  const [command = "", ...first] = program;
  return new Promise((resolve) => {
    execFile(command, [...first, ...args], { cwd: directory, timeout: HANG_MS }, (error, stdout, stderr) => {
      resolve({ status: error ? ((error.code as number | undefined) ?? null) : 0, stdout, stderr });
    });
  });
}

/** Starts a daemon with a monitor on a socket; resolves with the process and a client. */
async function start(
  program: readonly string[],
  ...args: string[]
): Promise<{ child: ChildProcess; client: QmpClient }> {
  const path = join(directory, "qmp.sock");
  const monitor = ["--chardev", `socket,path=${path},server=on,wait=off,id=m`, "--monitor", "chardev=m"];
  const [command = "", ...first] = program;
  const child = spawn(command, [...first, ...monitor, ...args], { cwd: directory, stdio: "ignore" });
  running.push(child);
  return { child, client: await monitorClient(path) };
}

const ended = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => (child.exitCode === null ? child.once("exit", resolve) : resolve(child.exitCode)));

/** The part of an error message behind the program's name and the option. */
const words = (stderr: string): string =>
  stderr
    .trim()
    .split("\n")[0]
    ?.replace(/^.*?: --[\w-]+ .*?: /, "") ?? "";

describe("refused options are refused in the same words", () => {
  const file = '{"driver":"file","node-name":"f","filename":"missing.raw"}';
  test.each([
    ["a missing file", ["--blockdev", file]],
    ["an unknown driver", ["--blockdev", "driver=nonsense,node-name=x"]],
    ["an unknown option", ["--blockdev", "driver=null-co,node-name=x,flavour=mint"]],
    ["a node without a name", ["--blockdev", "driver=null-co"]],
    ["a bad node name", ["--blockdev", "driver=null-co,node-name=0x"]],
    ["broken JSON", ["--blockdev", '{"driver":']],
    ["a monitor without its chardev", ["--monitor", "chardev=nope"]],
    ["an unknown object", ["--object", "nonsense,id=x"]],
    [
      "a throttle group with contradictory limits",
      ["--object", "throttle-group,id=t,limits.iops-total=1,limits.iops-read=1"],
    ],
  ])("%s", async (_what, args) => {
    const [own, real] = await Promise.all([run(ours, ...args), run(theirs, ...args)]);
    expect(words(own.stderr)).toBe(words(real.stderr));
    expect([own.status, real.status]).toEqual([1, 1]);
  });
});

test("what is not there yet is refused clearly", async () => {
  const blk = "vhost-user-blk,id=e,node-name=x,addr.type=unix,addr.path=v.sock";
  for (const type of ["fuse,id=e,node-name=x,mountpoint=m", blk, "vduse-blk,id=e,node-name=x,name=v"]) {
    const { status, stderr } = await run(ours, "--export", type);
    expect(status).toBe(1);
    expect(stderr).toContain(`Exports of type '${type.split(",")[0]}' are not supported`);
  }
  const tcp = [
    "--chardev",
    "socket,host=127.0.0.1,port=4444,server=on,wait=off,id=m",
    "--monitor",
    "chardev=m",
  ];
  expect((await run(ours, ...tcp)).stderr).toContain("A QMP monitor on TCP is refused");
  expect((await run(ours, "--gate", "open")).stderr).toContain("one of deny, same-dir, local, all");
  expect((await run(ours, "--frobnicate")).status).toBe(1);
});

test("--help and --version print and end", async () => {
  const help = await run(ours, "--help");
  for (const option of [
    "--blockdev",
    "--object",
    "--chardev",
    "--monitor",
    "--pidfile",
    "--daemonize",
    "--gate",
  ]) {
    expect(help.stdout).toContain(option);
  }
  expect(help.status).toBe(0);
  expect((await run(ours, "--version")).stdout).toMatch(/^blockwright daemon version \d+\.\d+\.\d+/);
});

describe.each([
  ["ours", ours],
  ["the real one", theirs],
])("%s, through our client", (_name, program) => {
  test("answers, sends events and ends by quit", async () => {
    const { child, client } = await start(
      program,
      "--blockdev",
      "driver=null-co,node-name=a,size=1048576",
      "--blockdev",
      "null-co,node-name=b,size=1048576",
    );
    const events: string[] = [];
    client.on("JOB_STATUS_CHANGE", ({ data }) => void events.push(data.status));
    await client.execute("blockdev-mirror", { "job-id": "j", device: "a", target: "b", sync: "full" });
    await until("the client is told that it may go on", () => events.includes("ready"));
    expect(await client.execute("query-jobs")).toMatchObject([{ id: "j", type: "mirror", status: "ready" }]);
    await expect(client.execute("blockdev-del", { "node-name": "nope" })).rejects.toThrow(
      "Failed to find node with node-name='nope'",
    );
    await client.execute("job-complete", { id: "j" });
    await until("the client has its answer", () => events.includes("null"));
    expect(events.slice(0, 3)).toEqual(["created", "running", "ready"]);
    await client.execute("quit");
    expect(await ended(child)).toBe(0);
  });

  test("ends in order on SIGTERM while a job runs", async () => {
    writeFileSync(join(directory, "src.raw"), new Uint8Array(1 << 20).fill(1));
    writeFileSync(join(directory, "dst.raw"), new Uint8Array(1 << 20));
    const { child, client } = await start(
      program,
      "--blockdev",
      "file,node-name=s,filename=src.raw",
      "--blockdev",
      "file,node-name=d,filename=dst.raw",
    );
    await client.execute("blockdev-mirror", {
      "job-id": "j",
      device: "s",
      target: "d",
      sync: "full",
      speed: 1,
    });
    child.kill("SIGTERM");
    expect(await ended(child)).toBe(0);
  });
});

test("the monitor's socket belongs to the user alone, and serves several clients", async () => {
  const { child, client } = await start(ours);
  const path = join(directory, "qmp.sock");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  const second = await QmpClient.connect(await nodeSockets.connect({ type: "unix", path }));
  expect(await second.execute("query-block-jobs")).toEqual([]);
  expect(await client.execute("query-block-jobs")).toEqual([]);
  await second.execute("quit");
  expect(await ended(child)).toBe(0);
});

test("--daemonize returns once the images are open; the pid file names the daemon and goes with it", async () => {
  const pidfile = join(directory, "pid");
  const path = join(directory, "qmp.sock");
  const monitor = ["--chardev", `socket,path=${path},server=on,wait=off,id=m`, "--monitor", "m"];
  const node = ["--blockdev", "null-co,node-name=a,size=1048576"];
  expect((await run(ours, "--daemonize", "--pidfile", pidfile, ...monitor, ...node)).status).toBe(0);
  const pid = Number(readFileSync(pidfile, "utf8"));
  expect(() => process.kill(pid, 0)).not.toThrow();
  const client = await QmpClient.connect(await nodeSockets.connect({ type: "unix", path }));
  expect(await client.execute("query-named-block-nodes", { flat: true })).toMatchObject([
    { "node-name": "a" },
  ]);
  await client.execute("quit");
  await until("the pid file is gone", () => !existsSync(pidfile));
  const failed = await run(ours, "--daemonize", "--blockdev", "file,node-name=f,filename=missing.raw");
  expect(failed.status).toBe(1);
  expect(failed.stderr).toContain("Could not open 'missing.raw'");
});
