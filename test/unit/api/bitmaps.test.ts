// Dirty bitmaps through the library: recording, refusals, and an incremental backup that copies what they say.
import { expect, test } from "vitest";
import {
  type Node,
  addBitmap,
  backup,
  bitmaps,
  clearBitmap,
  dirtyRanges,
  enableBitmap,
  mergeBitmaps,
  removeBitmap,
  createEngine,
  createImage,
  openNode,
} from "../../../src/browser.ts";

const MiB = 2 ** 20;

test("a bitmap records writes, and an incremental backup copies just those", async () => {
  const engine = createEngine({ arenaBytes: 16 * MiB });
  const disk = await openNode({ driver: "memory", size: 4 * MiB }, { engine });
  const copy = await openNode({ driver: "memory", size: 4 * MiB }, { engine });
  await disk.write(0, new Uint8Array(MiB).fill(1));
  addBitmap(disk, "b0", { granularity: 65536 });
  expect(dirtyRanges(disk, "b0")).toEqual([]);
  await disk.write(2 * MiB, new Uint8Array(1000).fill(2));
  await disk.write(3 * MiB + 70_000, new Uint8Array(1000).fill(3));
  expect(bitmaps(disk)).toMatchObject([
    { name: "b0", granularity: 65536, dirtyBytes: 131072, recording: true, busy: false },
  ]);
  expect(dirtyRanges(disk, "b0")).toEqual([
    { offset: 2 * MiB, bytes: 65536 },
    { offset: 3 * MiB + 65536, bytes: 65536 },
  ]);
  const job = await backup(disk, copy, { sync: "incremental", bitmap: "b0" });
  expect(() => clearBitmap(disk, "b0")).toThrow("Bitmap 'b0' is currently in use by another operation");
  await job.done;
  expect(await copy.read(0, 1000)).toEqual(new Uint8Array(1000));
  expect(await copy.read(2 * MiB, 1000)).toEqual(new Uint8Array(1000).fill(2));
  expect(await copy.read(3 * MiB + 70_000, 1000)).toEqual(new Uint8Array(1000).fill(3));
  expect(dirtyRanges(disk, "b0")).toEqual([]);
  await engine.close();
});

test("bitmaps are switched, merged, cleared and removed", async () => {
  const engine = createEngine({ arenaBytes: 16 * MiB });
  const disk = await openNode({ driver: "memory", size: MiB }, { engine });
  addBitmap(disk, "a", { disabled: true, granularity: 512 });
  addBitmap(disk, "b", { granularity: 512 });
  await disk.write(512, new Uint8Array(512));
  expect(dirtyRanges(disk, "a")).toEqual([]);
  enableBitmap(disk, "a");
  enableBitmap(disk, "b", false);
  await disk.write(4096, new Uint8Array(512));
  mergeBitmaps(disk, "a", ["b"]);
  expect(dirtyRanges(disk, "a")).toEqual([
    { offset: 512, bytes: 512 },
    { offset: 4096, bytes: 512 },
  ]);
  expect(dirtyRanges(disk, "a", { offset: 1024, most: 1 })).toEqual([{ offset: 4096, bytes: 512 }]);
  clearBitmap(disk, "a");
  expect(dirtyRanges(disk, "a")).toEqual([]);
  removeBitmap(disk, "a");
  expect(dirtyRanges(disk, "a")).toBeUndefined();
  expect(() => removeBitmap(disk, "a")).toThrow("Dirty bitmap 'a' not found");
  expect(() => addBitmap(disk, "b")).toThrow("Bitmap already exists: b");
  expect(() => addBitmap(disk, "c", { granularity: 1000 })).toThrow(
    "Granularity must be power of 2 and at least 512",
  );
  expect(() => addBitmap(disk, "c", { persistent: true })).toThrow("Can't store persistent bitmaps to");
  await engine.close();
});

test("a persistent bitmap is kept in its qcow2 image", async () => {
  const engine = createEngine({ arenaBytes: 16 * MiB });
  const store = await openNode({ driver: "memory", size: 0, "node-name": "store" }, { engine });
  await createImage({ driver: "qcow2", file: "store", size: 4 * MiB }, { engine });
  const open = (): Promise<Node> => openNode({ driver: "qcow2", file: "store" }, { engine });
  const disk = await open();
  addBitmap(disk, "kept", { persistent: true, granularity: 65536 });
  addBitmap(disk, "lost", { granularity: 65536 });
  await disk.write(MiB, new Uint8Array(512).fill(1));
  await disk.close();
  const again = await open();
  expect(bitmaps(again).map(({ name }) => name)).toEqual(["kept"]);
  expect(dirtyRanges(again, "kept")).toEqual([{ offset: MiB, bytes: 65536 }]);
  await again.write(3 * MiB, new Uint8Array(512).fill(2));
  expect(dirtyRanges(again, "kept")).toHaveLength(2);
  await again.close();
  await store.close();
  await engine.close();
});
