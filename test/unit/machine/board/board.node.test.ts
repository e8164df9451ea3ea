// Drives and devices of a machine without a CPU: what a device that goes takes along, and what queries see below a job's filter.
import { expect, test } from "vitest";
import { createEngine } from "../../../../src/node.ts";
import { startMirror } from "../../../../src/job/mirror/mirror.ts";
import { Board } from "../../../../src/machine/board/board.ts";
import { driveRow } from "../../../../src/machine/board/query.ts";

const place = { interface: "none", bus: 0, unit: 0, isCdrom: false } as const;

async function plugged(): Promise<{ board: Board; events: string[] }> {
  const engine = createEngine();
  const { graph } = engine;
  const board = new Board(engine);
  for (const name of ["disk", "target"])
    await graph.add({ driver: "memory", "node-name": name, size: 4 << 20 });
  const drive = board.addDrive({ name: "d", place });
  await drive.insert(graph.node("disk"));
  await board.addDevice({ driver: "virtio-scsi-pci", properties: {} });
  await board.addDevice({ driver: "scsi-hd", id: "x", properties: { drive: "d" } });
  await startMirror(graph, { device: "d", target: "target", sync: "full", speed: 1 });
  const events: string[] = [];
  graph.events.subscribe(({ event }) => void events.push(event));
  return { board, events };
}

test("a drive goes with its device, and the jobs on it end", async () => {
  const { board, events } = await plugged();
  const { engine } = board;
  await board.removeDevice("x");
  while (!events.includes("BLOCK_JOB_CANCELLED") || !events.includes("DEVICE_DELETED"))
    await engine.graph.host.clock.turn();
  expect(board.drive("d")).toBeUndefined();
  expect(engine.jobs.jobs).toEqual([]);
  expect(engine.graph.node("disk").parents.size).toBe(0);
  await expect(board.removeDevice("x")).rejects.toThrow("Device 'x' not found");
  await engine.close();
});

test("what a guest would have to let go of leaves at a reset, the device within a proxy first", async () => {
  const engine = createEngine();
  const board = new Board(engine);
  await engine.graph.add({ driver: "memory", "node-name": "n", size: 4096 });
  await board.addDevice({ driver: "virtio-blk", id: "v", properties: { drive: "n" } });
  const paths: string[] = [];
  board.events.subscribe(({ event, data }) => {
    if (event === "DEVICE_DELETED") paths.push(data.path);
  });
  await board.removeDevice("v");
  await expect(board.removeDevice("v")).rejects.toThrow("Device v is already in the process of unplug");
  expect(board.device("v")).toBeDefined();
  await board.reset();
  while (paths.length < 2) await engine.graph.host.clock.turn();
  expect(paths).toEqual(["/machine/peripheral/v/virtio-backend", "/machine/peripheral/v"]);
  expect(engine.graph.node("n").parents.size).toBe(0);
  await engine.close();
});

test("query-block tells of the disk below a job's filter", async () => {
  const { board } = await plugged();
  const row = await driveRow(board.drive("d")!);
  expect(row).toMatchObject({ device: "d", qdev: "x", inserted: { "node-name": "disk", drv: "memory" } });
  await board.engine.close();
});
