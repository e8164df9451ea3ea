// The names that nodes have in answers, and in the headers of overlays: as the real daemon's. An option that says how a node is used
// (a cache's size, locking) is no part of its name, or the overlay of an ordinary image would name a description that no gate lets in.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Daemon, ours, theirs, withDaemon } from "../support/daemon.ts";
import { must } from "../support/tools.ts";

let directory: string;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-names-"));
  await must("qemu-img", "create", "-q", "-f", "qcow2", join(directory, "disk"), "1M");
  await must("qemu-img", "create", "-q", "-f", "raw", join(directory, "flat"), "1M");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const disk = { driver: "file", filename: "disk", locking: "off" };
const flat = { driver: "file", filename: "flat", locking: "off", aio: "threads" };

/** Nodes, and whether a plain name says what they show. */
const nodes: [options: Record<string, unknown>, isPlain: boolean][] = [
  [{ driver: "qcow2", "lazy-refcounts": true, file: { driver: "file", filename: "disk" } }, true],
  [{ driver: "qcow2", "l2-cache-size": 1 << 20, "overlap-check": "all", file: disk }, true],
  [{ driver: "qcow2", "pass-discard-request": true, "cache-clean-interval": 5, file: disk }, true],
  [{ driver: "raw", file: flat }, true],
  [{ driver: "raw", offset: 512, size: 1024, file: flat }, false],
  [{ driver: "raw", file: { driver: "blkdebug", align: 4096, image: flat } }, false],
  [{ driver: "compress", file: { driver: "qcow2", "lazy-refcounts": true, file: disk } }, false],
  [{ driver: "blkverify", raw: flat, test: { driver: "raw", file: flat } }, true],
  [{ driver: "null-co", size: 65_536, "latency-ns": 5 }, false],
  [{ driver: "null-co", "latency-ns": 5 }, true],
  [
    {
      driver: "copy-before-write",
      "on-cbw-error": "break-snapshot",
      file: { driver: "null-co" },
      target: { driver: "null-co" },
    },
    true,
  ],
];

async function add(daemon: Daemon): Promise<void> {
  for (const [index, [options]] of nodes.entries()) {
    const writable = index === 0 || options["driver"] === "copy-before-write";
    const node = { ...options, "node-name": `n${index}`, ...(writable ? {} : { "read-only": true }) };
    await daemon.execute("blockdev-add", node);
  }
}

test("nodes are named as the real daemon names them", async () => {
  const names = (program: readonly string[]): Promise<Map<string, unknown>> =>
    withDaemon({ program, cwd: directory }, async (daemon) => {
      await add(daemon);
      const all = await daemon.execute("query-named-block-nodes", { flat: true });
      const rows = all as { "node-name": string; file: string; image: { filename: string } }[];
      const own = rows.filter((row) => /^n\d+$/.test(row["node-name"]));
      return new Map(own.map((row) => [row["node-name"], [row.file, row.image.filename]]));
    });
  const here = await names(ours);
  expect(here).toEqual(await names(theirs));
  for (const [index, [, isPlain]] of nodes.entries()) {
    const [file] = here.get(`n${index}`) as [string];
    expect(file.startsWith("json:"), file).toBe(!isPlain);
  }
});

test("an overlay over a node with options of its use names the file, and opens", async () => {
  await withDaemon({ cwd: directory }, async (daemon) => {
    await daemon.execute("blockdev-add", { ...nodes[0]![0], "node-name": "n", "l2-cache-size": 1 << 20 });
    const how = { "node-name": "n", "snapshot-file": "over", "snapshot-node-name": "over" };
    await daemon.execute("blockdev-snapshot-sync", how);
  });
  const info = execFileSync("qemu-img", ["info", "--output=json", "over"], { cwd: directory });
  expect(JSON.parse(String(info))).toMatchObject({ "backing-filename": "disk" });
  const [program, main] = ours;
  const map = execFileSync(program!, [main!, "map", "--output=json", "over"], { cwd: directory });
  expect(JSON.parse(String(map))).toHaveLength(1);
});
