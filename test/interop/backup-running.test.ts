// Backups of the disks of a running machine, QEMU's own: a guest's writes (by qemu-io of the human monitor) go on, the disks are as
// of one moment, and whatever becomes of the tool, no change is lost and nothing of it is left over there.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { QmpClient } from "../../src/node.ts";
import { until } from "../support/until.ts";
import { cli, type Made, RunningMachine } from "./support/running-machine.ts";

let folder: string;
let machine: RunningMachine;
let qmp: QmpClient;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-running-"));
  machine = new RunningMachine(folder);
  machine.makeDisks();
  await machine.start();
  ({ qmp } = machine);
  await guest("a", "write -P 1 0 4M");
  await guest("b", "write -P 2 8M 1M");
});

afterEach(async () => {
  await machine.stop();
  rmSync(folder, { recursive: true, force: true });
});

const guest = (node: string, command: string): Promise<void> => machine.guest(node, command);
const qemu = (tool: string, ...words: string[]): string => machine.qemu(tool, ...words);

const CREATE = "backup create --repo repo --qmp tools --node a --node b --bitmap nightly --name vm --json";

function create(line = CREATE): Made[] {
  const { status, stdout, stderr } = machine.run(line);
  expect(`${stderr}${status}`).toBe("0");
  return JSON.parse(stdout) as Made[];
}

function restore(name: string, out: string): void {
  const words = [cli, "backup", "restore", "--repo", "repo", name, out, "-O", "qcow2"];
  execFileSync(process.execPath, words, { cwd: folder });
}

it("reads what changed of all disks, and the next one what changed since", async () => {
  const first = create();
  expect(first).toMatchObject([
    { name: "vm/a", kind: "full", "read-bytes": 4 << 20 },
    { name: "vm/b", kind: "full", "read-bytes": 1 << 20 },
  ]);
  expect(first[0]!.time).toBe(first[1]!.time);
  expect(await machine.leftovers()).toEqual([]);
  await guest("a", "write -P 3 1M 100k");
  await guest("b", "write -z 8M 64k");
  expect(create()).toMatchObject([
    { name: "vm/a", kind: "incremental", "read-bytes": 2 * 65536 },
    { name: "vm/b", kind: "incremental", "read-bytes": 0 },
  ]);
  expect(create()).toMatchObject([{ "read-bytes": 0 }, { "read-bytes": 0 }]);
  await machine.stop();
  for (const name of ["a", "b"]) {
    restore(`vm/${name}@latest`, `out-${name}.qcow2`);
    expect(qemu("img", "compare", `${name}.qcow2`, `out-${name}.qcow2`)).toBe("Images are identical.\n");
    qemu("img", "check", "-q", `${name}.qcow2`);
  }
});

it("keeps the disks as they were while the guest writes on", async () => {
  for (let at = 0; at < 16; at += 1) await guest("a", `write -P ${at + 10} ${at * 4}M 4M`);
  await guest("a", "flush");
  qemu("img", "convert", "-U", "-O", "raw", "a.qcow2", "before.raw");
  const words = [cli, ...CREATE.split(" ")];
  const tool = spawn(process.execPath, words, {
    cwd: folder,
    env: machine.env,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const ended = once(tool, "exit");
  // From when the job is there on nothing that is written is in the backup.
  while (((await qmp.executeRaw("query-jobs")) as unknown[]).length < 2) await wait(1);
  for (let at = 0; at < 64; at += 1) await guest("a", `write -P 99 ${at}M 64k`);
  expect((await ended)[0]).toBe(0);
  restore("vm/a@latest", "out.qcow2");
  expect(qemu("img", "compare", "-F", "qcow2", "before.raw", "out.qcow2")).toBe("Images are identical.\n");
  expect(create()[0]!["read-bytes"]).toBe(64 * 65536);
  await machine.stop();
  restore("vm/a@latest", "now.qcow2");
  expect(qemu("img", "compare", "a.qcow2", "now.qcow2")).toBe("Images are identical.\n");
});

it("loses no change and leaves nothing, at whatever moment it is killed", async () => {
  create();
  for (let round = 0; round < 12; round += 1) {
    await guest("a", `write -P ${round + 20} ${round}M 64k`);
    const tool = spawn(process.execPath, [cli, ...CREATE.split(" ")], {
      cwd: folder,
      env: machine.env,
      stdio: "ignore",
    });
    const ended = once(tool, "exit");
    const timer = setTimeout(() => tool.kill("SIGKILL"), 120 + 40 * round);
    await ended;
    clearTimeout(timer);
    await guest("b", `write -P ${round + 20} ${round}M 64k`);
  }
  expect(create()).toMatchObject([{ kind: "incremental" }, { kind: "incremental" }]);
  expect(await machine.leftovers()).toEqual([]);
  await machine.stop();
  for (const name of ["a", "b"]) {
    restore(`vm/${name}@latest`, `out-${name}.qcow2`);
    expect(qemu("img", "compare", `${name}.qcow2`, `out-${name}.qcow2`)).toBe("Images are identical.\n");
  }
});

it("gives the bitmap back what it had, where a backup fails", async () => {
  create();
  await guest("a", "write -P 3 1M 64k");
  const words = [cli, ...CREATE.replace("--repo repo", "--repo /proc/none").split(" ")];
  const { status, stderr } = spawnSync(process.execPath, words, {
    cwd: folder,
    env: machine.env,
    encoding: "utf8",
  });
  expect([status, stderr]).toEqual([1, expect.stringContaining("'repository.json'") as string]);
  expect(create()[0]).toMatchObject({ kind: "incremental", "read-bytes": 65536 });
});

it.each([
  ["--qmp tools", "--qmp needs one --node at least"],
  ["--node a", "Expecting an image file name, or --qmp and --node"],
  ["a.qcow2 --qmp tools --node a", "Expecting an image file name, or --qmp and --node"],
  ["--qmp tools --node nobody", "'tools' has no node 'nobody'"],
  ["--qmp nowhere --node a", "Could not connect to 'nowhere': "],
  ["--qmp tools --node a --nbd somewhere", "'somewhere' is no address: unix:PATH or HOST:PORT"],
])("refuses '%s'", async (line, words) => {
  const all = [cli, "backup", "create", "--repo", "repo", ...line.split(" ")];
  const { status, stderr } = spawnSync(process.execPath, all, {
    cwd: folder,
    env: machine.env,
    encoding: "utf8",
  });
  expect(stderr).toContain(words);
  expect(status).toBe(1);
  expect(await machine.leftovers()).toEqual([]);
});

it("uses an NBD server that runs already, and says so where it is not told of", async () => {
  const path = join(folder, "nbd.sock");
  await qmp.executeRaw("nbd-server-start", { addr: { type: "unix", data: { path } } });
  const words = [cli, ...CREATE.split(" ")];
  const { status, stderr } = spawnSync(process.execPath, words, {
    cwd: folder,
    env: machine.env,
    encoding: "utf8",
  });
  expect([status, stderr]).toEqual([1, expect.stringContaining("say where it listens with --nbd") as string]);
  expect(create(`${CREATE} --nbd unix:${path}`)).toHaveLength(2);
  expect(await machine.leftovers()).toEqual([]);
  expect(existsSync(path)).toBe(true);
});

/** Of three tools at once each is alone, or gives way. */
async function threeAtOnce(line: string): Promise<void> {
  const { env } = machine;
  const tools = [1, 2, 3].map(() => spawn(process.execPath, [cli, ...line.split(" ")], { cwd: folder, env }));
  const outcomes = await Promise.all(
    tools.map(async (tool) => {
      const closed = once(tool, "close") as Promise<[number | null]>;
      const said = Buffer.concat((await tool.stderr.toArray()) as Buffer[]).toString();
      return { said, status: (await closed)[0] };
    }),
  );
  const failed = outcomes.filter(({ status }) => status !== 0);
  expect(failed.length).toBeLessThan(3);
  for (const { said } of failed)
    expect(said).toMatch(/^blockwright: a backup by process \d+ is under way there\n$/);
}

it("pulls backups out of our own daemon, whose guest writes through an export without pause", async () => {
  qemu("img", "create", "-q", "-f", "qcow2", "c.qcow2", "64M");
  const own = [cli, "daemon", "--blockdev", "driver=file,node-name=c-file,filename=c.qcow2"];
  own.push("--blockdev", "driver=qcow2,node-name=c,file=c-file");
  own.push(
    "--nbd-server",
    "addr.type=unix,addr.path=nbd",
    "--export",
    "nbd,id=g,node-name=c,name=g,writable=on",
  );
  own.push("--chardev", "socket,id=m,path=own,server=on,wait=off", "--monitor", "m");
  const daemon = spawn(process.execPath, own, { cwd: folder, stdio: ["ignore", "ignore", "inherit"] });
  await until("the daemon's monitor", () => existsSync(join(folder, "own")));
  const write = (...commands: string[]): string =>
    qemu(
      "io",
      "-f",
      "raw",
      ...commands.flatMap((one) => ["-c", one]),
      `nbd+unix:///g?socket=${join(folder, "nbd")}`,
    );
  const line =
    "backup create --repo repo --qmp own --nbd unix:nbd --node c --bitmap nightly --name vm --json";
  write("write -P 1 0 32M");
  expect(create(line)).toMatchObject([{ name: "vm", kind: "full", "read-bytes": 32 << 20 }]);
  for (let turn = 0; turn < 3; turn += 1) {
    write(`write -P ${turn + 2} ${turn}M 64k`, "flush");
    qemu("img", "convert", "-U", "-O", "raw", `nbd+unix:///g?socket=${join(folder, "nbd")}`, "before.raw");
    const tool = spawn(process.execPath, [cli, ...line.split(" ")], {
      cwd: folder,
      env: machine.env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    const said = tool.stdout.toArray();
    const ended = once(tool, "exit");
    expect((await ended)[0]).toBe(0);
    const [made] = JSON.parse(Buffer.concat((await said) as Buffer[]).toString()) as [Made];
    // What was written while the backup before was read is in this one.
    expect(made["read-bytes"]).toBe(turn === 0 ? 65536 : 2 * 65536);
    restore(made.id, `out-${turn}.qcow2`);
    expect(qemu("img", "compare", "-F", "qcow2", "before.raw", `out-${turn}.qcow2`)).toBe(
      "Images are identical.\n",
    );
    write(`write -P 99 ${40 + turn}M 64k`);
  }
  // What was written before tools come at once is in one of their backups.
  write("write -P 98 45M 64k", "flush");
  qemu("img", "convert", "-U", "-O", "raw", `nbd+unix:///g?socket=${join(folder, "nbd")}`, "before.raw");
  await threeAtOnce(line);
  restore("vm@latest", "last.qcow2");
  expect(qemu("img", "compare", "-F", "qcow2", "before.raw", "last.qcow2")).toBe("Images are identical.\n");
  write("write -P 97 46M 64k");
  daemon.kill("SIGTERM");
  await once(daemon, "exit");
  qemu("img", "check", "-q", "c.qcow2");
  expect(create("backup create --repo repo c.qcow2 --bitmap nightly --name vm --json")).toMatchObject({
    kind: "incremental",
    "read-bytes": 65536,
  });
});
