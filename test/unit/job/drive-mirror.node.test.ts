// drive-mirror and blockdev-snapshot-sync make their images themselves: real files in a directory of their own.
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fileGate } from "../../../src/block/model/gate.ts";
import { prepareSnapshotSync } from "../../../src/block/graph/change.ts";
import { startDriveMirror } from "../../../src/job/mirror/drive-mirror.ts";
import type { MirrorJob } from "../../../src/job/mirror/job.ts";
import { GuestDevice } from "../../../src/machine/device.ts";
import type { Engine } from "../../../src/machine/engine.ts";
import { createEngine, nodeHost } from "../../../src/node.ts";

const KiB = 1024;
const SIZE = 512 * KiB;
let dir: string;
let engine: Engine;
const path = (name: string): string => join(dir, name);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "drive-mirror-"));
  engine = createEngine({ arenaBytes: 16 * 1024 * KiB, gate: fileGate("local", nodeHost()) });
  await writeFile(path("src.raw"), Buffer.alloc(SIZE, 7));
  await add({ driver: "raw", "node-name": "src", file: { driver: "file", filename: path("src.raw") } });
});

afterEach(async () => {
  await engine.close();
  await rm(dir, { recursive: true });
});

async function add(spec: { driver: string; "node-name": string; [option: string]: unknown }): Promise<void> {
  await engine.graph.add(spec);
}

/** An overlay over src, with 64 KiB of its own at 128 KiB. */
async function overlay(): Promise<GuestDevice> {
  const guest = await GuestDevice.plug({
    machine: engine.machine,
    name: "d0",
    node: engine.graph.node("src"),
  });
  const change = await prepareSnapshotSync(engine.graph, {
    device: "d0",
    "snapshot-file": path("top.qcow2"),
    format: "qcow2",
  });
  await change.commit();
  await guest.write(128 * KiB, new Uint8Array(64 * KiB).fill(9));
  return guest;
}

function ready(job: MirrorJob): Promise<void> {
  return new Promise((resolve, reject) => {
    const unsubscribe = engine.graph.events.subscribe(({ event }) => {
      if (event !== "BLOCK_JOB_READY") return;
      unsubscribe();
      resolve();
    });
    job.done.catch(reject);
    if (job.isReady) resolve();
  });
}

describe("blockdev-snapshot-sync", () => {
  test("makes the overlay and puts it under the guest; its header names the file below", async () => {
    const guest = await overlay();
    const node = guest.backend.node!;
    expect([node.type.name, node.backing?.node.name, node.length]).toEqual(["qcow2", "src", SIZE]);
    expect([node.driver.headerBacking?.filename(), node.driver.headerBacking?.format()]).toEqual([
      path("src.raw"),
      "raw",
    ]);
    expect((await readFile(path("src.raw"))).every((byte) => byte === 7)).toBe(true);
  });

  test.each([
    [{ "node-name": "src", "snapshot-file": "x" }, "New overlay node-name missing"],
    [
      { "node-name": "src", "snapshot-file": "x", "snapshot-node-name": "src" },
      "New overlay node-name already in use",
    ],
    [{ device: "nope", "snapshot-file": "x" }, "Cannot find device='nope'"],
  ])("%o is refused", async (args, message) => {
    await expect(prepareSnapshotSync(engine.graph, args)).rejects.toThrow(message);
    expect(engine.graph.nodes).toHaveLength(2);
  });
});

describe("drive-mirror", () => {
  test("makes an image like the source, and the guest goes on there", async () => {
    const guest = await GuestDevice.plug({
      machine: engine.machine,
      name: "d0",
      node: engine.graph.node("src"),
    });
    const job = await startDriveMirror(engine.graph, { device: "d0", target: path("dst.raw"), sync: "full" });
    expect(job.id).toBe("d0");
    await ready(job);
    await guest.write(0, new Uint8Array(512).fill(1));
    await job.complete();
    await job.done;
    await guest.write(512, new Uint8Array(512).fill(2));
    await guest.flush();
    const [copy, source] = [await readFile(path("dst.raw")), await readFile(path("src.raw"))];
    expect([copy[0], copy[512], copy[1024], copy.byteLength]).toEqual([1, 2, 7, SIZE]);
    expect(source[512]).toBe(7);
  });

  test("sync=top makes an overlay of the same backing file, which is in place after the pivot", async () => {
    const guest = await overlay();
    const job = await startDriveMirror(engine.graph, {
      device: "d0",
      "job-id": "j",
      target: path("copy.qcow2"),
      format: "qcow2",
      "node-name": "copy",
      sync: "top",
    });
    await ready(job);
    await job.complete();
    await job.done;
    const node = guest.backend.node!;
    expect([node.name, node.backing?.node.name]).toEqual(["copy", "src"]);
    expect(node.driver.headerBacking?.filename()).toBe(path("src.raw"));
    const buffer = new Uint8Array(64 * KiB);
    await guest.read(128 * KiB, buffer);
    expect(buffer.every((byte) => byte === 9)).toBe(true);
    await guest.read(0, buffer);
    expect(buffer.every((byte) => byte === 7)).toBe(true);
    expect((await stat(path("copy.qcow2"))).size).toBeLessThan(SIZE);
  });

  test("mode=existing writes into the image that is there, and zeroes what it held", async () => {
    await writeFile(path("old.raw"), Buffer.alloc(SIZE, 0xee));
    const guest = await GuestDevice.plug({
      machine: engine.machine,
      name: "d0",
      node: engine.graph.node("src"),
    });
    await guest.writeZeroes(0, 64 * KiB);
    const job = await startDriveMirror(engine.graph, {
      device: "src",
      "job-id": "j",
      target: path("old.raw"),
      format: "raw",
      sync: "full",
      mode: "existing",
    });
    await ready(job);
    await job.cancel({ force: false });
    await job.done;
    expect((await readFile(path("old.raw"))).equals(await readFile(path("src.raw")))).toBe(true);
    expect(engine.graph.nodes.map((node) => node.name)).toHaveLength(2);
  });

  test("an existing target whose format is guessed to be raw does not become another format's image", async () => {
    await writeFile(path("guessed.raw"), Buffer.alloc(SIZE));
    const header = Buffer.alloc(512);
    header.write("QFI\xfb\0\0\0\x03", "latin1");
    const disk = { driver: "raw", "node-name": "bad", file: { driver: "memory", size: SIZE } };
    await add(disk);
    const guest = await GuestDevice.plug({
      machine: engine.machine,
      name: "d1",
      node: engine.graph.node("bad"),
    });
    await guest.write(0, header);
    const job = await startDriveMirror(engine.graph, {
      device: "bad",
      "job-id": "j",
      target: path("guessed.raw"),
      sync: "full",
      mode: "existing",
    });
    await expect(job.done).rejects.toThrow("Operation not permitted");
    expect((await readFile(path("guessed.raw"))).subarray(0, 512).equals(Buffer.alloc(512))).toBe(true);
  });

  test("an existing image of another size fails the job", async () => {
    await writeFile(path("short.raw"), Buffer.alloc(4096));
    const job = await startDriveMirror(engine.graph, {
      device: "src",
      "job-id": "j",
      target: path("short.raw"),
      format: "raw",
      sync: "full",
      mode: "existing",
    });
    await expect(job.done).rejects.toThrow("Source and target image have different sizes");
  });

  test.each([
    [{ device: "nope" }, "Cannot find device='nope' nor node-name='nope'"],
    [{ replaces: "src" }, "a node-name must be provided when replacing a named node of the graph"],
    [{ mode: "existing" as const, target: "/nonexistent/x" }, "No such file or directory"],
    [{ target: "/nonexistent/x" }, "No such file or directory"],
    [{ format: "nope" }, "nope"],
    [{ sync: "bitmap" as const }, "Sync mode 'bitmap' not supported"],
  ])("%o is refused, and no node is left", async (args, message) => {
    const all = { device: "src", "job-id": "j", target: path("dst.raw"), sync: "full" as const, ...args };
    await expect(startDriveMirror(engine.graph, all)).rejects.toThrow(message);
    expect(engine.graph.nodes).toHaveLength(2);
    expect(engine.jobs.jobs).toEqual([]);
  });
});
