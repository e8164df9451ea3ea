// Jobs that are refused for the nodes that they name, and what some of them do where there is nothing to do.
import { describe, expect, test } from "vitest";
import type { DriverType } from "../../../../../src/block/model/contract.ts";
import { Daemon } from "./daemon.ts";

const MiB = 1 << 20;

/** Names without a protocol are its; nothing opens. */
const file: DriverType = {
  name: "file",
  kind: "protocol",
  open: () => Promise.reject(new Error("it was opened")),
};

/** A chain top → cor (a filter) → base, and a disk beside it. */
async function chain(): Promise<Daemon> {
  const daemon = new Daemon({ instead: [file] });
  for (const name of ["base", "other"]) await daemon.image(name);
  await daemon.run("blockdev-add", { driver: "copy-on-read", "node-name": "cor", file: "base" });
  await daemon.image("top", MiB, "cor");
  return daemon;
}

describe("refused", () => {
  const mirror = { "job-id": "j", device: "top", target: "other", sync: "full" };
  const stream = { "job-id": "j", device: "top" };
  const commit = { "job-id": "j", device: "top" };
  test.each([
    ["blockdev-mirror", { ...mirror, replaces: "nope" }, "Failed to find node with node-name='nope'"],
    [
      "blockdev-mirror",
      { ...mirror, replaces: "base" },
      "Cannot replace 'base' by a node mirrored from 'top', because it cannot be guaranteed that doing so would not lead " +
        "to an abrupt change of visible data",
    ],
    [
      "blockdev-mirror",
      { ...mirror, granularity: 100 },
      "Parameter 'granularity' expects a value in range [512B, 64MB]",
    ],
    ["blockdev-mirror", { ...mirror, granularity: 1000 }, "Parameter 'granularity' expects a power of 2"],
    [
      "block-stream",
      { ...stream, bottom: "cor" },
      "Node 'cor' is a filter, use a non-filter node as 'bottom'",
    ],
    ["block-stream", { ...stream, bottom: "other" }, "Node 'other' is not in a chain starting from 'top'"],
    ["block-stream", { ...stream, "base-node": "other" }, "Node 'other' is not a backing image of 'top'"],
    ["block-commit", { ...commit, top: "nope.qcow2" }, "Top image file nope.qcow2 not found"],
    ["block-commit", { ...commit, "top-node": "other" }, "'other' is not in this backing file chain"],
    [
      "block-commit",
      { ...commit, "top-node": "base", "base-node": "base" },
      "cannot commit an image into itself",
    ],
    [
      "block-commit",
      { ...commit, "top-node": "cor", "base-node": "base" },
      "Invalid files for merge: top and base are the same",
    ],
    [
      "block-commit",
      { ...commit, "backing-file": "x" },
      "'backing-file' specified, but 'top' is the active layer",
    ],
    [
      "drive-backup",
      { "job-id": "j", device: "top", target: "x", sync: "full", format: "throttle" },
      "Format driver 'throttle' does not support image creation",
    ],
    [
      "drive-mirror",
      { "job-id": "j", device: "top", target: "x", sync: "full", format: "frob" },
      "Unknown file format 'frob'",
    ],
    [
      "drive-mirror",
      { "job-id": "j", device: "top", target: "x", sync: "top", format: "raw" },
      "Backing file not supported for file format 'raw'",
    ],
    [
      "transaction",
      { actions: [{ type: "blockdev-snapshot-sync", data: { "node-name": "top", "snapshot-file": "x" } }] },
      "New overlay node-name missing",
    ],
    [
      "transaction",
      { actions: [{ type: "drive-backup", data: { device: "nope", target: "x", sync: "full" } }] },
      "Cannot find device='nope' nor node-name='nope'",
    ],
    ["block-stream", { device: "top" }, "Invalid job ID ''"],
  ])("%s %j", async (name, args, message) => {
    const daemon = await chain();
    await daemon.guest("d0", "other");
    await expect(daemon.run(name, args)).rejects.toThrow(message);
    expect(daemon.engine.jobs.find("j")).toBeUndefined();
    expect(daemon.engine.graph.node("top").backing?.node.name).toBe("cor");
  });
});

describe("nothing to do", () => {
  test("a stream down to the image below the top changes no data", async () => {
    const daemon = await chain();
    await daemon.run("block-stream", { "job-id": "j", device: "top", "base-node": "base" });
    await daemon.engine.jobs.find("j")?.done;
    await daemon.host.clock.idle();
    const { backing } = daemon.engine.graph.node("top");
    expect(backing?.node.name).toMatch(/^(cor|base)$/);
  });

  test("a mirror of the top of a disk without a backing file copies all of it", async () => {
    const daemon = new Daemon();
    await daemon.disk("a");
    await daemon.disk("b");
    const node = (name: string) => daemon.engine.graph.node(name).driver;
    await node("a").pwrite!(65_536, new Uint8Array(4096).fill(9), 0);
    const job = { "job-id": "j", device: "a", target: "b", sync: "top" };
    await daemon.run("blockdev-mirror", job);
    const ready = (): boolean => daemon.engine.jobs.find("j")?.status === "ready";
    while (!ready()) await daemon.host.clock.step();
    await daemon.run("job-complete", { id: "j" });
    const copied = new Uint8Array(MiB);
    await node("b").pread(0, copied, 0);
    expect([copied[65_535], copied[65_536], copied[69_631], copied[69_632]]).toEqual([0, 9, 9, 0]);
  });
});
