// The map of the demo: what a cell shows while a mirror stands still at an error, and when it is over.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Cell, DiskMap, drawMap } from "../../../../src/cli/verbs/demo/disk-map.ts";
import {
  type Engine,
  type MapExtent,
  type MirrorJob,
  type Node,
  createEngine,
  mirror,
  openNode,
  whenReady,
} from "../../../../src/node.ts";
import { KiB, MiB, pattern } from "../../support/graph.ts";

let engine: Engine;

beforeEach(() => {
  engine = createEngine({ arenaBytes: 8 * MiB });
});

afterEach(() => engine.close());

async function setUp(): Promise<{ source: Node; job: MirrorJob; map: DiskMap }> {
  const disk = { driver: "memory", size: MiB, discard: "unmap" } as const;
  const source = await openNode({ ...disk, "node-name": "source" }, { engine });
  await source.write(128 * KiB, pattern(512 * KiB, 1));
  await openNode({ ...disk, "node-name": "memory" }, { engine });
  const rule = { event: "none", iotype: "write", errno: 28, sector: (256 * KiB) / 512, once: true } as const;
  const target = await openNode(
    { driver: "blkdebug", "node-name": "target", image: "memory", discard: "unmap", "inject-error": [rule] },
    { engine },
  );
  const extents: MapExtent[] = [];
  for await (const extent of source.map()) extents.push(extent);
  const map = new DiskMap({ length: MiB, count: 16, extents });
  const options = { granularity: 64 * KiB, bufferBytes: 64 * KiB, speedBytesPerSecond: MiB };
  const job = await mirror(source, target, { ...options, onTargetError: "enospc" });
  return { source, job, map };
}

function counts(map: DiskMap): Record<string, number> {
  const names = Object.entries(Cell).map(([name, kind]) => [
    name,
    map.cells.filter((cell) => cell === kind).length,
  ]);
  return Object.fromEntries(names) as Record<string, number>;
}

describe("the map of a disk", () => {
  it("shows what the source holds before anything is copied", async () => {
    const { job, map } = await setUp();
    expect(map.cellBytes).toBe(64 * KiB);
    expect(counts(map)).toMatchObject({ data: 8, copied: 0, dirty: 0, failed: 0 });
    await job.cancel();
    await job.done.catch(() => undefined);
  });

  it("shows the failed range, what is copied and what is left; in the end all is copied", async () => {
    const { job, map } = await setUp();
    await engine.graph.changes.until(() => job.paused && job.ioStatus !== "ok");
    map.update(job);
    const stopped = counts(map);
    expect(stopped["failed"]).toBeGreaterThan(0);
    const settled: readonly number[] = [Cell.copied, Cell.dirty, Cell.failed];
    expect([...map.cells.subarray(2, 10)].every((cell) => settled.includes(cell))).toBe(true);
    expect(map.cells[2]).toBe(Cell.copied);
    expect(map.cells[4]).toBe(Cell.failed);
    job.setSpeed(0);
    job.resume();
    await whenReady(job);
    await job.complete();
    await job.done;
    map.update(job);
    expect(counts(map)).toMatchObject({ copied: 8, dirty: 0, failed: 0 });
  });

  it("is drawn in rows, with colours only if they are wanted", () => {
    const extents = [
      { offset: 0, bytes: 128 * KiB, data: true, zero: false, present: true, depth: 0 },
      { offset: 128 * KiB, bytes: 128 * KiB, data: false, zero: true, present: false, depth: 0 },
    ];
    const map = new DiskMap({ length: 256 * KiB, count: 4, extents });
    const plain = drawMap(map, { columns: 3, colours: false });
    expect(plain.slice(0, 2)).toEqual(["▒▒·", "·"]);
    expect(plain[2]).toContain("✖ failed");
    expect(drawMap(map, { columns: 4, colours: true })[0]).toBe("▒▒\u001B[90m··\u001B[0m");
  });
});
