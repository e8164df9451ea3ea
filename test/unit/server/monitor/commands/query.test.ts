// The queries: rows as the schema has them, and the values that clients look at.
import { describe, expect, test } from "vitest";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;
type Row = Record<string, unknown>;

async function mirroring(): Promise<Daemon> {
  const daemon = new Daemon();
  await daemon.disk("src-file", 4 * MiB);
  await daemon.disk("dst-file", 4 * MiB);
  await daemon.run("blockdev-add", { driver: "raw", "node-name": "src", file: "src-file" });
  await daemon.run("blockdev-add", { driver: "raw", "node-name": "dst", file: "dst-file" });
  await daemon.run("blockdev-mirror", {
    "job-id": "j",
    device: "src",
    target: "dst",
    sync: "full",
    "filter-node-name": "flt",
  });
  for (let i = 0; i < 20; i++) await daemon.host.clock.step();
  return daemon;
}

describe("query-named-block-nodes", () => {
  test("newest first; flat leaves the backing images out", async () => {
    const daemon = new Daemon();
    await daemon.image("base");
    await daemon.image("top", MiB, "base");
    const rows = (await daemon.run("query-named-block-nodes")) as Row[];
    expect(rows.map((row) => row["node-name"])).toEqual(daemon.nodes);
    const top = rows.find((row) => row["node-name"] === "top")!;
    expect(top).toMatchObject({ drv: "qcow2", backing_file_depth: 1, ro: false, detect_zeroes: "off" });
    expect(top["image"]).toMatchObject({
      format: "qcow2",
      "virtual-size": MiB,
      "cluster-size": 65536,
      "backing-image": { format: "qcow2" },
    });
    const flat = (await daemon.run("query-named-block-nodes", { flat: true })) as Row[];
    expect(flat.find((row) => row["node-name"] === "top")!["image"]).not.toHaveProperty("backing-image");
  });

  test("bitmaps and thresholds show", async () => {
    const daemon = new Daemon();
    await daemon.disk("n");
    await daemon.run("block-dirty-bitmap-add", { node: "n", name: "b", granularity: 4096 });
    await daemon.run("block-set-write-threshold", { "node-name": "n", "write-threshold": 4096 });
    const [row] = (await daemon.run("query-named-block-nodes")) as Row[];
    expect(row).toMatchObject({
      write_threshold: 4096,
      "dirty-bitmaps": [
        { name: "b", count: 0, granularity: 4096, recording: true, busy: false, persistent: false },
      ],
    });
  });
});

test("query-block: a device's io-status shows when it keeps one", async () => {
  const daemon = new Daemon();
  await daemon.disk("one");
  await daemon.disk("two");
  await daemon.guest("d0", "one", { rerror: "stop" });
  await daemon.guest("d1", "two", { rerror: "report", werror: "report" });
  const rows = (await daemon.run("query-block")) as Row[];
  expect(rows.map((row) => [row["device"], row["io-status"], row["locked"], row["removable"]])).toEqual([
    ["d0", "ok", false, false],
    ["d1", undefined, false, false],
  ]);
  expect(rows[0]!["inserted"]).toMatchObject({ "node-name": "one" });
});

test("query-blockstats: devices, or nodes", async () => {
  const daemon = new Daemon();
  await daemon.image("n");
  const device = await daemon.guest("d0", "n");
  await device.write(4096, new Uint8Array(512).fill(1));
  const [row] = (await daemon.run("query-blockstats")) as Row[];
  expect(row).toMatchObject({ device: "d0", "node-name": "n", stats: { wr_highest_offset: 4608 } });
  expect(await daemon.run("query-blockstats", { "query-nodes": true })).toHaveLength(2);
});

test("x-debug-query-block-graph: nodes, jobs, backends and what they take", async () => {
  const daemon = await mirroring();
  const { nodes, edges } = (await daemon.run("x-debug-query-block-graph")) as unknown as {
    nodes: { id: number; type: string; name: string }[];
    edges: { parent: number; child: number; name: string; perm: string[]; "shared-perm": string[] }[];
  };
  const nameOf = (id: number): string => nodes.find((node) => node.id === id)!.name || "(backend)";
  const rows = edges.map(
    (edge) =>
      `${nameOf(edge.parent)} -${edge.name}-> ${nameOf(edge.child)} [${edge.perm.join()}] [${edge["shared-perm"].join()}]`,
  );
  const readers = "write-unchanged,write,consistent-read";
  // As the real program answers.
  expect(rows.toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    "(backend) -root-> dst [write] [write-unchanged]",
    "dst -file-> dst-file [write] [write-unchanged]",
    `flt -backing-> src [consistent-read] [${readers}]`,
    `j -main node-> flt [consistent-read] [${readers}]`,
    `j -source-> src [] [${readers}]`,
    "j -target-> dst [] [resize,write-unchanged,write,consistent-read]",
    `src -file-> src-file [consistent-read] [${readers}]`,
  ]);
  expect(nodes.map(({ type }) => type).toSorted((a, b) => (a < b ? -1 : 1))).toEqual([
    "block-backend",
    ...Array<string>(5).fill("block-driver"),
    "block-job",
  ]);
});

test("query-jobs and query-block-jobs", async () => {
  const daemon = await mirroring();
  expect(await daemon.run("query-block-jobs")).toEqual([
    {
      "auto-finalize": true,
      "io-status": "ok",
      device: "j",
      "auto-dismiss": true,
      busy: false,
      len: 4 * MiB,
      offset: 4 * MiB,
      status: "ready",
      paused: false,
      speed: 0,
      ready: true,
      type: "mirror",
    },
  ]);
  expect(await daemon.run("query-jobs")).toEqual([
    { "current-progress": 4 * MiB, status: "ready", "total-progress": 4 * MiB, type: "mirror", id: "j" },
  ]);
});

test("run state, objects, version", async () => {
  const daemon = new Daemon();
  await daemon.run("stop");
  expect(await daemon.run("query-status")).toEqual({ status: "paused", running: false, singlestep: false });
  await daemon.run("cont");
  await daemon.run("object-add", { "qom-type": "iothread", id: "i" });
  expect(await daemon.run("qom-list", { path: "/objects" })).toEqual([
    { name: "type", type: "string" },
    { name: "i", type: "child<iothread>" },
  ]);
  await daemon.run("object-del", { id: "i" });
  await expect(daemon.run("qom-list", { path: "/x" })).rejects.toMatchObject({
    message: "Device '/x' not found",
    qmpClass: "DeviceNotFound",
  });
  expect(await daemon.run("query-version")).toMatchObject({ qemu: { major: 7 } });
  await daemon.run("quit");
  expect(daemon.quits).toBe(1);
});

describe("while a mirror runs, the real program's refusals", () => {
  const busy = (name: string): string =>
    `Node '${name}' is busy: block device is in use by block job: mirror`;

  test.each([
    [
      "blockdev-mirror",
      { "job-id": "k", device: "src", target: "dst", sync: "full" },
      "Need a root block node",
    ],
    ["blockdev-backup", { "job-id": "k", device: "src", target: "dst", sync: "full" }, busy("src")],
    ["blockdev-del", { "node-name": "flt" }, busy("flt")],
    ["blockdev-del", { "node-name": "src" }, busy("src")],
    ["block_resize", { "node-name": "src", size: 8 * MiB }, "Device '(null)' is in use"],
  ])("%s %o", async (name, args, message) => {
    const daemon = await mirroring();
    await expect(daemon.run(name, args)).rejects.toThrow(message);
    const [row] = (await daemon.run("query-block-jobs")) as Row[];
    expect(row).toMatchObject({ status: "ready", "io-status": "ok" });
  });

  test("a refused backup flips the mirror's readiness twice", async () => {
    const daemon = await mirroring();
    daemon.events.length = 0;
    const args = { "job-id": "k", device: "src", target: "dst", sync: "full" };
    await expect(daemon.run("blockdev-backup", args)).rejects.toThrow(busy("src"));
    expect(daemon.events.map(({ data }) => data["status"])).toEqual(["standby", "ready", "standby", "ready"]);
  });
});
