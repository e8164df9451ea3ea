// The format as the entry `./v86` has it: without what only checked.ts adds.
import { expect, test } from "vitest";
import { addBitmap } from "../../../../../src/api/bitmaps.ts";
import { createSnapshot } from "../../../../../src/api/snapshots.ts";
import { check, createEngine, createImage, openNode } from "../../../../../src/browser.ts";
import * as small from "../../../../../src/v86.ts";

const size = 1 << 20;

/** The bytes of an image, with one internal snapshot or persistent bitmap if asked for. */
async function image(extra?: "snapshot" | "bitmap"): Promise<Uint8Array> {
  await using engine = createEngine();
  await using file = await openNode({ driver: "memory", "node-name": "file", size: 0 }, { engine });
  await createImage({ driver: "qcow2", file: "file", size }, { engine });
  {
    await using disk = await openNode({ driver: "qcow2", file: "file" }, { engine });
    await disk.write(0, new Uint8Array(4096).fill(7));
    if (extra === "bitmap") addBitmap(disk, "b", { persistent: true });
    if (extra === "snapshot") await createSnapshot(disk, "s");
    await disk.write(0, new Uint8Array(512).fill(8));
  }
  return await file.read(0, file.length);
}

test("an image without snapshots is read and written, and sound for the full format", async () => {
  const buffer = await image();
  {
    await using engine = small.createEngine({ drivers: [small.qcow2, small.memory] });
    await using disk = await small.openNode(engine, {
      driver: "qcow2",
      file: { driver: "memory", buffer } as never,
    });
    await disk.write(512, new Uint8Array(512).fill(9));
    expect([...(await disk.read(511, 2))]).toEqual([8, 9]);
  }
  await using engine = createEngine();
  const report = await check({ driver: "qcow2", file: { driver: "memory", buffer } as never }, { engine });
  expect(report).toMatchObject({ corruptions: 0, leaks: 0 });
});

test.each([
  ["snapshot", "internal snapshots"],
  ["bitmap", "persistent bitmaps"],
] as const)("one with a %s can only be read", async (extra, words) => {
  const file = { driver: "memory", buffer: await image(extra) } as never;
  await using engine = small.createEngine({ drivers: [small.qcow2, small.memory] });
  await expect(small.openNode(engine, { driver: "qcow2", file })).rejects.toMatchObject({
    code: "EACCES",
    message: `Images with ${words} are read-only in this build`,
  });
  await using disk = await small.openNode(engine, { driver: "qcow2", "read-only": true, file });
  expect([...(await disk.read(511, 2))]).toEqual([8, 7]);
  await expect(engine.graph.setReadOnly(disk.blockNode, false)).rejects.toThrow("read-only in this build");
});

test("objects are made by full engines only; secrets by id everywhere", async () => {
  await using engine = small.createEngine({ drivers: [small.memory], secrets: { k: "secret" } });
  expect(engine.objects.list()).toEqual([{ name: "k", type: "child<secret>" }]);
  await expect(engine.objects.add({ "qom-type": "throttle-group", id: "t" })).rejects.toThrow(
    "Parameter 'qom-type' does not accept value 'throttle-group'",
  );
});
