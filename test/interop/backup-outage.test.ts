// What becomes of backups of a running machine where the machine itself ends in the middle, well or by a power cut, where one of its disks
// can't be read, and where somebody touches the bitmaps: no change is lost, and the next run goes on.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { cli, type Made, RunningMachine } from "./support/running-machine.ts";

let machine: RunningMachine;

beforeEach(async () => {
  machine = new RunningMachine(mkdtempSync(join(tmpdir(), "blockwright-outage-")));
  machine.makeDisks();
  await machine.start();
  await machine.guest("a", "write -P 1 0 4M");
});

afterEach(async () => {
  await machine.stop();
  rmSync(machine.folder, { recursive: true, force: true });
});

const RUNNING = "backup create --repo repo --qmp tools --node a --node b --bitmap nightly --name vm --json";
const OFFLINE = "backup create --repo repo a.qcow2 --bitmap nightly --name vm/a --json";

function create(line = RUNNING, warns = ""): Made[] {
  const { status, stdout, stderr } = machine.run(line);
  expect([status, stderr]).toEqual([0, warns === "" ? "" : (expect.stringContaining(warns) as string)]);
  return [JSON.parse(stdout)].flat() as Made[];
}

/** Kills the tool once the disks' moment is past, while it waits for what it reads. */
async function killedInTheMiddle(line = RUNNING): Promise<void> {
  await machine.hold();
  const { folder: cwd, env } = machine;
  const tool = spawn(process.execPath, [cli, ...line.split(" ")], { cwd, env, stdio: "ignore" });
  const ended = once(tool, "exit");
  const exports = async (): Promise<number> =>
    ((await machine.qmp.executeRaw("query-block-exports")) as unknown[]).length;
  await until("the tool's exports", async () => (await exports()) === 2 || tool.exitCode !== null);
  tool.kill("SIGKILL");
  expect(await ended).toEqual([null, "SIGKILL"]);
  await machine.release();
}

async function isRestored(): Promise<void> {
  const { status, stderr } = machine.run("backup restore --repo repo vm/a@latest out.qcow2 -O qcow2 --force");
  expect([status, stderr]).toEqual([0, ""]);
  expect(machine.qemu("img", "compare", "a.qcow2", "out.qcow2")).toBe("Images are identical.\n");
}

it("a machine that ends after the tool was killed: the next backup, of the image, has what both bitmaps know", async () => {
  create();
  await machine.guest("a", "write -P 7 1M 64k");
  await killedInTheMiddle();
  await machine.guest("a", "write -P 8 20M 64k");
  await machine.stop();
  expect(create(OFFLINE)).toMatchObject([{ kind: "incremental" }]);
  await isRestored();
  expect(create(OFFLINE)).toMatchObject([{ kind: "incremental", "read-bytes": 0 }]);
});

it.each(["the machine", "its image"])(
  "a power cut after the tool was killed: the next backup, of %s, reads everything",
  async (what) => {
    create();
    await machine.guest("a", "write -P 7 1M 64k");
    await killedInTheMiddle();
    await machine.guest("a", "write -P 8 20M 64k");
    await machine.stop();
    await machine.start();
    await machine.guest("a", "write -P 9 30M 64k");
    await machine.guest("a", "flush");
    await machine.stop("SIGKILL");
    const isRunning = what === "the machine";
    if (isRunning) await machine.start();
    const line = isRunning ? RUNNING : OFFLINE;
    expect(create(line, "is inconsistent: the image was not closed well")[0]).toMatchObject({ kind: "full" });
    expect(create(line)[0]).toMatchObject({ kind: "incremental", "read-bytes": 0 });
    if (isRunning) expect(await machine.leftovers()).toEqual([]);
    await machine.stop();
    await isRestored();
  },
);

it("a bitmap that somebody took away or switched off is not relied on, also where the tool is killed", async () => {
  create();
  const name = { node: "a", name: "nightly" };
  for (const how of ["remove", "disable"]) {
    await machine.qmp.executeRaw(`block-dirty-bitmap-${how}`, name);
    await machine.guest("a", `write -P 7 ${how === "remove" ? 1 : 2}M 64k`);
    await killedInTheMiddle();
    expect(create(RUNNING, "this is a full backup")[0]).toMatchObject({ kind: "full" });
    expect(create()[0]).toMatchObject({ kind: "incremental", "read-bytes": 0 });
  }
  await machine.stop();
  machine.qemu("img", "bitmap", "--disable", "a.qcow2", "nightly");
  machine.qemu("io", "-c", "write -P 9 3M 64k", "a.qcow2");
  expect(create(OFFLINE, "bitmap 'nightly' was switched off")).toMatchObject([{ kind: "full" }]);
  machine.qemu("io", "-c", "write -P 10 3M 64k", "a.qcow2");
  expect(create(OFFLINE)).toMatchObject([{ kind: "incremental", "read-bytes": 65536 }]);
  await isRestored();
});

it("a disk that can't be read leaves the others their backups", async () => {
  create(RUNNING.replace("--node a ", ""));
  await machine.guest("b", "write -P 7 1M 64k");
  writeFileSync(join(machine.folder, "c.raw"), new Uint8Array(2 ** 20).fill(1));
  await machine.qmp.executeRaw("blockdev-add", {
    ...{ driver: "blkdebug", "node-name": "broken", image: { driver: "file", filename: "c.raw" } },
    "inject-error": [{ event: "none", iotype: "read", once: false, errno: 5 }],
  });
  const { status, stdout, stderr } = machine.run(
    `${RUNNING.replace("a --node b --bitmap nightly", "broken --node b")}`,
  );
  expect(stderr).toContain("blockwright: 'broken': ");
  expect([status, JSON.parse(stdout)]).toMatchObject([1, [{ name: "vm/b" }]]);
  expect(await machine.leftovers()).toEqual([]);
});

it("a server that was there before the tool was killed is there after the next run", async () => {
  const path = join(machine.folder, "nbd.sock");
  await machine.qmp.executeRaw("nbd-server-start", { addr: { type: "unix", data: { path } } });
  const line = `${RUNNING} --nbd unix:${path}`;
  create(line);
  await machine.guest("a", "write -P 7 1M 64k");
  await killedInTheMiddle(line);
  expect(create(line)).toHaveLength(2);
  expect(await machine.leftovers()).toEqual([]);
  expect(existsSync(path)).toBe(true);
});
