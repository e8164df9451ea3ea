// preallocate beside the real qemu-system-x86_64: the length of the file after each command, and what is refused; then that requests which
// grow the file at the same time lose nothing.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createEngine } from "../../src/node-engine.ts";
import { loadNativeCalls } from "../../src/platform/node/native.ts";
import { program } from "./support/twins.ts";

const MiB = 1024 * 1024;
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "blockwright-preallocate-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const machine = ["-nodefaults", "-display", "none", "-S", "-qmp", "stdio"];
const theirs = ["qemu-system-x86_64", ...machine];
const ours = [process.execPath, program, "--run-as=qemu-system-x86_64", ...machine];

/** What the file is like: its length where that is what was reserved, else whether it is no longer than a small image. */
function length(): number | "small" {
  const { size } = statSync(join(folder, "t.qcow2"));
  return size < 2 * MiB ? "small" : size;
}

/** Each answer, with the length of the file after it. */
async function talk(
  [command = "", ...args]: readonly string[],
  lines: readonly string[],
): Promise<unknown[]> {
  spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", "t.qcow2", "64M"], { cwd: folder });
  const child = spawn(command, args, { cwd: folder, stdio: ["pipe", "pipe", "inherit"] });
  const queue = ['{"execute":"qmp_capabilities"}', ...lines, '{"execute":"quit"}'];
  const told: unknown[] = [];
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split("\n");
    rest = parts.pop() ?? "";
    for (const part of parts) {
      if (!part.startsWith("{")) continue;
      const message = JSON.parse(part) as Record<string, unknown>;
      if ("event" in message) continue;
      told.push([message["return"] ?? message["error"] ?? "QMP", length()]);
      const line = queue.shift();
      if (line !== undefined) child.stdin.write(`${line}\n`);
    }
  });
  await new Promise((resolve) => child.on("close", resolve));
  return [...told.slice(1, lines.length + 1), length()];
}

const ask = (execute: string, args: object): string => JSON.stringify({ execute, arguments: args });
const io = (line: string): string =>
  ask("human-monitor-command", { "command-line": `qemu-io -d d "${line}"` });
const file = { driver: "file", "node-name": "f", filename: "t.qcow2" };
const disk = (options: object): object => ({
  ...{ driver: "qcow2", "node-name": "q", discard: "unmap" },
  file: { driver: "preallocate", "node-name": "p", ...options, file },
});
const add = (options: object): string => ask("blockdev-add", disk(options));
const small = { "prealloc-size": MiB, "prealloc-align": 4 * MiB };
const device = ask("device_add", { driver: "virtio-blk-pci", id: "d", drive: "q" });

it.skipIf(!loadNativeCalls())(
  "reserves, cuts off and refuses as QEMU does",
  async () => {
    const lines = [
      add({ "prealloc-align": 1000 }),
      add({ "prealloc-size": -1 }),
      add({ "prealloc-sizes": 1 }),
      add(small),
      device,
      io("write 0 64k"),
      io("write 64k 1M"),
      ask("blockdev-reopen", { options: [disk({ "prealloc-size": 5 * MiB, "prealloc-align": 8 * MiB })] }),
      io("write 2M 6M"),
      ask("blockdev-reopen", { options: [disk({ "prealloc-size": 5 * MiB, "prealloc-align": 1000 })] }),
      io("write -z 8M 4M"),
      io("discard 0 1M"),
      io("flush"),
      ask("blockdev-snapshot-sync", {
        "node-name": "q",
        "snapshot-file": "o.qcow2",
        "snapshot-node-name": "o",
      }),
      ask("block-stream", { "job-id": "s", device: "o" }),
      ask("block_resize", { "node-name": "f", size: 128 * MiB }),
      ask("blockdev-add", { driver: "raw", "node-name": "r", file: "f" }),
    ];
    const strip = (text: string): string =>
      text.replaceAll(/, .* ops.*?sec\)/g, "").replaceAll(/\d+ bytes, .*|\d+ \w+, \d.*/g, "");
    const clean = (told: unknown[]): unknown => JSON.parse(strip(JSON.stringify(told)));
    const [mine, real] = [await talk(ours, lines), await talk(theirs, lines)];
    expect(clean(mine)).toEqual(clean(real));
  },
  120_000,
);

it("loses nothing of writes that grow the file together, and leaves it as long as it must be", async () => {
  spawnSync("qemu-img", ["create", "-q", "-f", "qcow2", "t.qcow2", "64M"], { cwd: folder });
  const engine = createEngine();
  const filename = join(folder, "t.qcow2");
  const storage = { driver: "preallocate", "prealloc-size": 256 * 1024, file: { driver: "file", filename } };
  await engine.graph.add({ driver: "qcow2", "node-name": "q", file: storage });
  const at = (index: number): number => ((index * 37) % 64) * MiB;
  await engine.graph.withRoot(engine.graph.node("q"), { perm: 3, shared: 15 }, async (root) => {
    const writes = Array.from({ length: 64 }, async (_, index) => {
      const bytes = new Uint8Array(200_000).fill(index + 1);
      await root.pwrite(at(index), bytes);
      await root.pwriteZeroes(at(index) + 100_000, 50_000);
    });
    await Promise.all(writes);
  });
  await engine.close();
  const commands = Array.from({ length: 64 }, (_, index) => {
    const reads = [
      `read -P ${index + 1} ${at(index)} 100000`,
      `read -P 0 ${at(index) + 100_000} 50000`,
      `read -P ${index + 1} ${at(index) + 150_000} 50000`,
    ];
    return reads.flatMap((line) => ["-c", line]);
  }).flat();
  const read = spawnSync("qemu-io", ["-f", "qcow2", ...commands, filename], { encoding: "utf8" });
  expect(read.stdout).not.toContain("Pattern verification failed");
  expect(read.status).toBe(0);
  const check = spawnSync("qemu-img", ["check", filename], { encoding: "utf8" });
  expect(check.stdout).toContain("No errors were found");
  expect(statSync(filename).size).toBeLessThan(20 * MiB);
});
