// A backup that a guest uses at once, while a stream fills the target: from a live backup into raw and qcow2, by NBD, and the words of
// what can't be.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { until } from "../support/until.ts";

const cli = fileURLToPath(new URL("../../build/cli/main.js", import.meta.url));
const hasFio = spawnSync("fio", ["--version"]).status === 0;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-live-"));
  tool("qemu-img", "create", "-q", "-f", "qcow2", "disk.qcow2", "64G");
  const writes = ["write -P 1 0 3M", "write -P 2 20G 5M", "write -P 3 65535M 1M"];
  tool("qemu-io", ...writes.flatMap((write) => ["-c", write]), "disk.qcow2");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

function tool(program: string, ...words: string[]): string {
  return execFileSync(program, words, { cwd: folder, encoding: "utf8" });
}

function blockwright(...words: string[]): string {
  return execFileSync(process.execPath, [cli, ...words], { cwd: folder, encoding: "utf8" });
}

/** Starts the verb; resolves once it serves. */
async function restore(...words: string[]) {
  const socket = join(folder, "live.sock");
  const args = [cli, "backup", "restore", ...words, "--live", `unix:${socket}`];
  const child = spawn(process.execPath, args, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const said = { out: "", error: "" };
  child.stdout.on("data", (text: Buffer) => (said.out += text.toString()));
  child.stderr.on("data", (text: Buffer) => (said.error += text.toString()));
  const ended = once(child, "close") as Promise<[number | null]>;
  await until("it serves", () => said.out.includes("nbd+unix:") || child.exitCode !== null);
  return { child, said, ended, url: `nbd+unix:///?socket=${socket}` };
}

describe.each([
  ["chunks", "repo"],
  ["a chain", "chain:repo"],
])("out of %s", (_what, repo) => {
  it.each(["raw", "qcow2"])("a guest reads, writes and leaves, and %s is the disk", async (format) => {
    blockwright("backup", "create", "--repo", repo, "disk.qcow2");
    const live = await restore("--repo", repo, "latest", "out.img", "-O", format);
    const io = (...commands: string[]): string =>
      tool("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), live.url);
    const guest = ["read -P 1 0 3M", "write -P 9 1M 70000", "write -P 8 30G 10", "read -P 9 1M 70000"];
    expect(io(...guest, "read -P 1 2M 1M", "read -P 2 20G 5M", "flush")).not.toContain("verification failed");
    const [status] = await live.ended;
    expect([live.said.error, status]).toEqual(["", 0]);
    tool("qemu-io", "-c", "write -P 9 1M 70000", "-c", "write -P 8 30G 10", "disk.qcow2");
    tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", format, "disk.qcow2", "out.img");
    // Holes stay holes, and nothing else is left.
    expect(statSync(join(folder, "out.img")).blocks * 512).toBeLessThan(20 * 2 ** 20);
    expect(readdirSync(folder).filter((name) => name.endsWith(".new"))).toEqual([]);
  });
});

it.skipIf(!hasFio).each(["raw", "qcow2"])(
  "fio verifies what it wrote into %s while that fills",
  async (format) => {
    blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
    const live = await restore("--repo", "repo", "latest", "out.img", "-O", format, "--speed", "2M");
    const client = spawn("qemu-io", ["-f", "raw", live.url], { stdio: ["pipe", "ignore", "ignore"] });
    const load = ["--ioengine=nbd", `--uri=${live.url}`, "--rw=randwrite", "--bsrange=4k-64k", "--iodepth=8"];
    const span = ["--size=64g", "--io_size=8m", "--verify=crc32c", "--verify_fatal=1", "--thread"];
    tool("fio", "--name=v", ...load, ...span, "--output-format=terse");
    await until("the restored image", () => existsSync(join(folder, "out.img")));
    tool("fio", "--name=v", ...load, ...span, "--verify_only", "--output-format=terse");
    client.stdin.end();
    expect([(await live.ended)[0], live.said.error]).toEqual([0, ""]);
  },
);

it("has its name when it is whole, and not before", async () => {
  blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
  const live = await restore("--repo", "repo", "latest", "out.img");
  // A client that stays: the disk is filled and named beside it.
  const client = spawn("qemu-io", ["-f", "raw", live.url], { stdio: ["pipe", "ignore", "ignore"] });
  client.stdin.write("write -P 7 5M 1M\n");
  await until("the restored image", () => existsSync(join(folder, "out.img")));
  client.stdin.end("write -P 6 6M 1M\n");
  expect((await live.ended)[0]).toBe(0);
  const reads = ["read -P 7 5M 1M", "read -P 6 6M 1M", "read -P 1 0 3M"];
  const read = tool("qemu-io", "-r", "-f", "raw", ...reads.flatMap((one) => ["-c", one]), "out.img");
  expect(read).not.toContain("verification failed");
});

/** What the verb says that can't be done. */
function refusedRestore(...words: string[]): string {
  const args = [cli, "backup", "restore", "--repo", "repo", ...words, "--live", "unix:other.sock"];
  const { status, stderr } = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8" });
  expect(status).toBe(1);
  return stderr;
}

it.each(["SIGTERM", "SIGKILL"] as const)("goes on after %s, by the same command only", async (signal) => {
  blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
  const slow = await restore("--repo", "repo", "latest", "out.img", "-O", "qcow2", "--speed", "64k");
  const io = (url: string, ...commands: string[]): string =>
    tool("qemu-io", "-f", "raw", ...commands.flatMap((command) => ["-c", command]), url);
  io(slow.url, "write -P 9 1M 70000", "write -P 8 30G 10", "write -z 20G 1M", "flush");
  expect(refusedRestore("latest", "out.img", "-O", "qcow2")).toContain("lock");
  slow.child.kill(signal);
  await slow.ended;
  expect(slow.said.error.includes("the same command goes on")).toBe(signal === "SIGTERM");
  expect(existsSync(join(folder, "out.img"))).toBe(false);
  expect(refusedRestore("latest", "out.img", "-O", "raw")).toContain("restore that one to go on");
  const live = await restore("--repo", "repo", "latest", "out.img", "-O", "qcow2");
  const reads = ["read -P 9 1M 70000", "read -P 8 30G 10", "read -P 0 20G 1M", "read -P 2 20481M 4M"];
  expect(io(live.url, ...reads)).not.toContain("verification failed");
  expect([(await live.ended)[0], live.said.error]).toEqual([0, ""]);
  for (const write of ["write -P 9 1M 70000", "write -P 8 30G 10", "write -z 20G 1M"])
    tool("qemu-io", "-c", write, "disk.qcow2");
  tool("qemu-img", "compare", "-q", "disk.qcow2", "out.img");
  tool("qemu-img", "check", "-q", "out.img");
  expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
});

it("is given up by --force for another backup", async () => {
  blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
  const slow = await restore("--repo", "repo", "latest", "out.img", "--speed", "64k");
  tool("qemu-io", "-f", "raw", "-c", "write -P 9 1M 70000", "-c", "flush", slow.url);
  tool("qemu-io", "-c", "write -P 5 40G 1M", "disk.qcow2");
  blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
  // Not while somebody works on it.
  expect(refusedRestore("latest", "out.img", "--force")).toContain("lock");
  slow.child.kill("SIGKILL");
  await slow.ended;
  expect(refusedRestore("latest", "out.img")).toContain("give that up by --force");
  const live = await restore("--repo", "repo", "latest", "out.img", "--force");
  tool("qemu-io", "-r", "-f", "raw", "-c", "read -P 5 40G 1M", live.url);
  expect((await live.ended)[0]).toBe(0);
  tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", "disk.qcow2", "out.img");
  expect(readdirSync(folder).filter((name) => name.startsWith("."))).toEqual([]);
});

it("that can't be done leaves nothing", () => {
  blockwright("backup", "create", "--repo", "repo", "disk.qcow2");
  const bad = [cli, "backup", "restore", "--repo", "repo", "latest", "out.img", "--live", "nowhere"];
  const refused = spawnSync(process.execPath, bad, { cwd: folder, encoding: "utf8" });
  expect(refused.status).toBe(1);
  expect(readdirSync(folder).toSorted()).toEqual(["disk.qcow2", "repo"]);
  writeFileSync(join(folder, "other.sock"), "no socket");
  refusedRestore("latest", "out.img");
  expect(readdirSync(folder).toSorted()).toEqual(["disk.qcow2", "other.sock", "repo"]);
});
