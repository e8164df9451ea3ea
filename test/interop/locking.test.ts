// Image locks and holes against the real programs: who uses an image keeps the other out, in both directions, and both
// see the same holes. Skipped (as a whole, visibly) where qemu or the optional native calls are missing.
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createInterface } from "node:readline";
import { afterEach, describe, expect, test } from "vitest";
import type { Child, ChildParent } from "../../src/block/model/node.ts";
import { BlockGraph } from "../../src/block/graph/graph.ts";
import { Perm } from "../../src/block/model/permissions.ts";
import { file } from "../../src/drivers/protocol/file.ts";
import { program } from "../support/verb-client.ts";
import { loadKernels } from "../../src/kernels/load.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { hasNative, pattern, temporaryDirectory } from "../unit/platform/node/support.ts";
import { until } from "../support/until.ts";

const path = temporaryDirectory();
const hasQemu = ["qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"].every(
  (program) => spawnSync(program, ["--version"]).status === 0,
);
const kernels = loadKernels({ arenaBytes: 1 << 20 });
const host = nodeHost();
const parent: ChildParent = {
  describe: () => "the test",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};
const writing = Perm.consistentRead | Perm.write | Perm.resize;
const notWriting = Perm.consistentRead | Perm.writeUnchanged;

const closing: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function image(name: string): string {
  execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", path(name), "1M"]);
  return path(name);
}

/** Our file node on the image, and an edge with these permissions. */
async function ours(
  filename: string,
  { perm, shared, options = {} }: { perm: number; shared: number; options?: Record<string, unknown> },
): Promise<{ graph: BlockGraph; child: Child }> {
  const graph = new BlockGraph({ host, kernels });
  graph.register(file);
  closing.push(() => graph.close());
  const node = await graph.add({ driver: "file", "node-name": "f", filename, ...options });
  const child = await graph.attach(parent, node, { name: "test", perm, shared });
  closing.push(() => graph.detach(child));
  return { graph, child };
}

/** A qemu-storage-daemon that holds the image open as qcow2. */
async function theirs(filename: string, readOnly = false): Promise<void> {
  const spec = {
    driver: "qcow2",
    "node-name": "n",
    "read-only": readOnly,
    file: { driver: "file", filename },
  };
  const daemon: ChildProcess = spawn(
    "qemu-storage-daemon",
    ["--chardev", "stdio,id=m", "--monitor", "m", "--blockdev", JSON.stringify(spec)],
    { stdio: ["pipe", "pipe", "inherit"] },
  );
  const ended = new Promise<void>((resolve) => daemon.once("exit", () => resolve()));
  closing.push(() => {
    daemon.kill();
    return ended;
  });
  // The greeting comes when the command line was carried out.
  for await (const line of createInterface({ input: daemon.stdout as NodeJS.ReadableStream })) {
    if (line.includes('"QMP"')) return;
  }
  throw new Error("qemu-storage-daemon did not start");
}

/** A qemu-nbd that serves the raw disk to writers. */
async function theirWriter(disk: string): Promise<void> {
  const socket = path("nbd");
  const server = spawn("qemu-nbd", ["-t", "-f", "raw", "-k", socket, disk], { stdio: "inherit" });
  const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
  closing.push(() => {
    server.kill();
    return ended;
  });
  await until("qemu-nbd listens", () => fs.existsSync(socket) || server.exitCode !== null);
  expect(server.exitCode).toBe(null);
}

function qemuIo(...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync("qemu-io", args, { encoding: "utf8" });
  return { status, output: stdout + stderr };
}

describe.skipIf(!hasQemu || !hasNative)("image locks beside qemu", () => {
  test("a qemu that writes keeps our writers out, and who can't stand writers", async () => {
    const filename = image("their-writer");
    await theirs(filename);
    await expect(ours(filename, { perm: writing, shared: Perm.all })).rejects.toThrow(
      'Failed to get "write" lock',
    );
    await expect(ours(filename, { perm: Perm.consistentRead, shared: notWriting })).rejects.toThrow(
      'Failed to get shared "write" lock',
    );
    await ours(filename, { perm: Perm.consistentRead, shared: Perm.all });
    await ours(filename, {
      perm: Perm.consistentRead,
      shared: notWriting,
      options: { "read-only": true, "force-share": true },
    });
    await expect(host.files.create(filename, { size: 0 })).rejects.toThrow('Failed to get "write" lock');
    expect(fs.statSync(filename).size).toBeGreaterThan(0);
  });

  test("a qemu that only reads lets our readers in and keeps our writers out", async () => {
    const filename = image("their-reader");
    await theirs(filename, true);
    await ours(filename, { perm: Perm.consistentRead, shared: notWriting });
    await expect(ours(filename, { perm: writing, shared: Perm.all })).rejects.toThrow(
      'Failed to get "write" lock',
    );
  });

  test("our writer keeps qemu out until it lets go, also after the file was reopened", async () => {
    const filename = image("our-writer");
    const { graph, child } = await ours(filename, {
      perm: writing,
      shared: notWriting,
      options: { "auto-read-only": true },
    });
    const refused = qemuIo("-f", "qcow2", "-c", "write 0 64k", filename);
    expect(refused.status).not.toBe(0);
    expect(refused.output).toContain('Failed to get "write" lock');
    expect(refused.output).toContain(`Is another process using the image [${filename}]?`);
    const info = spawnSync("qemu-img", ["info", filename], { encoding: "utf8" });
    expect(info.stderr).toContain('Failed to get shared "write" lock');
    expect(spawnSync("qemu-img", ["info", "-U", filename]).status).toBe(0);

    // The writer leaves: the file is reopened read-only, and qemu may read but still not write.
    await graph.setPermissions(child, { perm: Perm.consistentRead, shared: notWriting });
    expect(spawnSync("qemu-img", ["info", filename]).status).toBe(0);
    expect(qemuIo("-f", "qcow2", "-c", "write 0 64k", filename).output).toContain(
      'Failed to get "write" lock',
    );

    await graph.setPermissions(child, { perm: 0, shared: Perm.all });
    expect(qemuIo("-f", "qcow2", "-c", "write 0 64k", filename).status).toBe(0);
  });

  test("locking=off leaves the image to qemu", async () => {
    const filename = image("unlocked");
    await ours(filename, { perm: writing, shared: Perm.consistentRead, options: { locking: "off" } });
    expect(qemuIo("-f", "qcow2", "-c", "write 0 64k", filename).status).toBe(0);
  });

  test.each([
    ["convert", "-f", "raw", "-O", "raw"],
    ["resize", "-f", "raw"],
    ["bench", "-w", "-c", "1", "-f", "raw"],
    ["bench", "-c", "1", "-f", "raw"],
    ["info", "-f", "raw"],
    ["dd", "-f", "raw", "-O", "raw", "bs=64k", "count=1"],
  ])("%s of a raw disk that a guest writes to: as qemu-img", async (...args) => {
    const disk = path("guests.raw");
    fs.writeFileSync(disk, new Uint8Array(1 << 20));
    await theirWriter(disk);
    const named: Record<string, string[]> = { convert: [disk, path("copy.raw")], resize: [disk, "2M"] };
    const names = named[args[0]] ?? (args[0] === "dd" ? [`if=${disk}`, `of=${path("part.raw")}`] : [disk]);
    const [real, own] = [["qemu-img"], [process.execPath, program]].map(([command, ...before]) => {
      const { status, stdout, stderr } = spawnSync(command!, [...before, ...args, ...names], {
        encoding: "utf8",
      });
      return {
        status,
        said: (stderr + stdout).replace(/\d+\.\d+ seconds/, "").replaceAll("blockwright: ", "qemu-img: "),
      };
    });
    expect(own).toEqual(real);
  });
});

describe.skipIf(!hasQemu || !hasNative)("holes beside qemu-img map", () => {
  interface MapEntry {
    start: number;
    length: number;
    data: boolean;
    zero: boolean;
  }

  /** Extents of the file, adjacent ones of one kind joined. */
  function joined(entries: MapEntry[]): MapEntry[] {
    const result: MapEntry[] = [];
    for (const { start, length, data, zero } of entries) {
      const last = result.at(-1);
      if (last && last.data === data && last.zero === zero) last.length += length;
      else result.push({ start, length, data, zero });
    }
    return result;
  }

  test("we see the holes that qemu sees, after writes and discards by either", async () => {
    const MiB = 1 << 20;
    const filename = path("holes.raw");
    await host.files.create(filename, { size: 16 * MiB });
    const { graph, child } = await ours(filename, {
      perm: writing,
      shared: Perm.all,
      options: { discard: "unmap" },
    });
    await child.pwrite(MiB, pattern(3 * MiB));
    await child.pwrite(9 * MiB, pattern(65_536));
    await child.pdiscard(2 * MiB, MiB);
    await child.pwriteZeroes(9 * MiB + 4096, 8192, 4);
    await child.flush();
    execFileSync("qemu-io", ["-f", "raw", "-c", "write 12M 64k", filename]);
    const map: MapEntry[] = [];
    for (let start = 0; start < child.length;) {
      const { bytes, data, zero } = await child.blockStatus(start, child.length - start);
      map.push({ start, length: bytes, data, zero });
      start += bytes;
    }
    const output = execFileSync("qemu-img", ["map", "-U", "--output=json", "-f", "raw", filename], {
      encoding: "utf8",
    });
    expect(joined(map)).toEqual(joined(JSON.parse(output) as MapEntry[]));
    expect(map.length).toBeGreaterThan(6);
    expect(graph.node("f").length).toBe(16 * MiB);
  });
});
