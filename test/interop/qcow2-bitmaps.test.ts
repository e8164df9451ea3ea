// Persistent dirty bitmaps, written by the real tools and by us in turn: names, granularities, flags and bits survive, and
// an image that was not closed shows its bitmaps as in use.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { addBitmap, clearBitmap, mergeBitmaps, removeBitmap } from "../../src/block/bitmap/commands.ts";
import { dirtyBitmapInfo, findDirtyBitmap } from "../../src/block/model/dirty-bitmap.ts";
import { patchFile } from "./support/bad-images.ts";
import { inDirectory, must, openImage } from "./support/qcow2.ts";

const CLUSTER = 65536;

interface BitmapInfo {
  name: string;
  granularity: number;
  flags: string[];
}

async function bitmapsOf(path: string): Promise<BitmapInfo[]> {
  const text = await must("qemu-img", "info", "-U", "-f", "qcow2", "--output=json", path);
  const info = JSON.parse(text) as { "format-specific": { data: { bitmaps?: BitmapInfo[] } } };
  return info["format-specific"].data.bitmaps ?? [];
}

/** The dirty ranges that qemu-nbd or a map would show, by way of our own reader of the same file. */
async function dirtyRanges(path: string, name: string): Promise<{ offset: number; bytes: number }[]> {
  const image = await openImage(path, { "read-only": true });
  try {
    const bitmap = findDirtyBitmap(image.graph.node("disk"), name);
    return bitmap ? bitmap.bitmap.extents(0, image.disk.length, 100) : [];
  } finally {
    await image.close();
  }
}

test("bitmaps of qemu-img record our writes and stay readable for it", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
    await must("qemu-img", "bitmap", "--add", "-g", "4096", path, "fine");
    await must("qemu-img", "bitmap", "--add", "--disable", path, "off");
    await must("qemu-io", "-f", "qcow2", "-c", "write -P 1 1M 8k", path);
    const image = await openImage(path);
    expect(dirtyBitmapInfo(image.graph.node("disk"))).toMatchObject([
      { name: "off", granularity: CLUSTER, recording: false, count: 0 },
      { name: "fine", granularity: 4096, recording: true, count: 8192 },
    ]);
    expect((await bitmapsOf(path)).map(({ flags }) => flags.includes("in-use"))).toEqual([true, true]);
    await image.disk.pwrite(4 * 2 ** 20, new Uint8Array(4096).fill(7));
    await image.close();
    expect(await bitmapsOf(path)).toEqual([
      { name: "fine", granularity: 4096, flags: ["auto"] },
      { name: "off", granularity: CLUSTER, flags: [] },
    ]);
    await must("qemu-img", "check", "-q", path);
    await must("qemu-io", "-f", "qcow2", "-c", "write -P 2 6M 4k", path);
    expect(await dirtyRanges(path, "fine")).toEqual([
      { offset: 2 ** 20, bytes: 8192 },
      { offset: 4 * 2 ** 20, bytes: 4096 },
      { offset: 6 * 2 ** 20, bytes: 4096 },
    ]);
  });
});

test("a bitmap that we add is merged by qemu-img bit for bit", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "64M");
    const image = await openImage(path);
    addBitmap(image.graph, { node: "disk", name: "ours", granularity: 512, persistent: true });
    for (const at of [0, 5_000_192, 40_000_000]) await image.disk.pwrite(at, new Uint8Array(1024).fill(1));
    const before = findDirtyBitmap(image.graph.node("disk"), "ours")?.bitmap.extents(
      0,
      image.disk.length,
      100,
    );
    await image.close();
    await must("qemu-img", "bitmap", "--add", "-g", "512", "--disable", path, "copy");
    await must("qemu-img", "bitmap", "--merge", "ours", path, "copy");
    expect(await dirtyRanges(path, "copy")).toEqual(before);
    expect(before?.length).toBe(3);
    await must("qemu-img", "check", "-q", path);
  });
});

test("after a kill bitmaps without a journal are inconsistent, and a backup refuses them", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
    await must("qemu-img", "bitmap", "--add", path, "b0");
    const killed = join(directory, "killed.qcow2");
    const image = await openImage(path, { "bitmap-journal": false });
    await image.disk.pwrite(0, new Uint8Array(CLUSTER).fill(3));
    await must("cp", path, killed);
    await image.close();
    const again = await openImage(killed);
    const bitmap = findDirtyBitmap(again.graph.node("disk"), "b0");
    expect(bitmap).toMatchObject({ inconsistent: true, enabled: false });
    expect(() => bitmap?.check()).toThrow("Bitmap 'b0' is inconsistent and cannot be used");
    await again.close();
    expect((await bitmapsOf(killed))[0]?.flags).toContain("in-use");
  });
});

test("bitmaps are stored and frozen when their node becomes read-only, in use again when it is written to", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
    await must("qemu-img", "bitmap", "--add", path, "old");
    const image = await openImage(path);
    const { graph } = image;
    const node = graph.node("disk");
    addBitmap(graph, { node: "disk", name: "new", persistent: true });
    addBitmap(graph, { node: "disk", name: "memory" });
    await image.disk.pwrite(2 ** 20, new Uint8Array(4096).fill(7));
    await image.disk.close();
    await graph.setReadOnly(node, true);
    expect(await bitmapsOf(path)).toEqual([
      { name: "old", granularity: CLUSTER, flags: ["auto"] },
      { name: "new", granularity: CLUSTER, flags: ["auto"] },
    ]);
    expect(await dirtyRanges(path, "new")).toEqual([{ offset: 2 ** 20, bytes: CLUSTER }]);
    const readonly = "is readonly and cannot be modified";
    for (const name of ["old", "new"]) {
      expect(() => clearBitmap(graph, { node: "disk", name })).toThrow(`Bitmap '${name}' ${readonly}`);
      expect(() => removeBitmap(graph, { node: "disk", name })).toThrow(`Bitmap '${name}' ${readonly}`);
      const merge = { node: "disk", target: name, bitmaps: ["memory"] };
      expect(() => mergeBitmaps(graph, merge)).toThrow(`Bitmap '${name}' ${readonly}`);
    }
    clearBitmap(graph, { node: "disk", name: "memory" });
    await graph.setReadOnly(node, false);
    expect((await bitmapsOf(path)).map(({ flags }) => flags)).toEqual([
      ["in-use", "auto"],
      ["in-use", "auto"],
    ]);
    clearBitmap(graph, { node: "disk", name: "new" });
    await graph.close();
    expect(await dirtyRanges(path, "new")).toEqual([]);
    expect((await bitmapsOf(path)).map(({ flags }) => flags)).toEqual([["auto"], ["auto"]]);
    await must("qemu-img", "check", "-q", path);
  });
});

test.each([2 ** 27, 2 ** 30, 2 ** 31])(
  "granularities up to what the format allows: %i",
  async (granularity) => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      await must("qemu-img", "create", "-q", "-f", "qcow2", path, "8G");
      await must("qemu-img", "bitmap", "--add", "-g", String(granularity), path, "b");
      const image = await openImage(path);
      await image.disk.pwrite(5 * 2 ** 30 + 4096, new Uint8Array(4096).fill(7));
      await image.close();
      expect(await bitmapsOf(path)).toEqual([{ name: "b", granularity, flags: ["auto"] }]);
      const offset = 5 * 2 ** 30 - ((5 * 2 ** 30) % granularity);
      expect(await dirtyRanges(path, "b")).toEqual([{ offset, bytes: granularity }]);
    });
  },
);

test("an image whose bitmaps can't be loaded stays as it is", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
    await must("qemu-img", "bitmap", "--add", path, "good");
    await must("qemu-img", "bitmap", "--add", path, "bad");
    const header = readFileSync(path);
    // The directory's place is in the extension; the last entry's table gets an entry that is on no cluster.
    const magic = Buffer.from([0x23, 0x85, 0x28, 0x75]);
    const directoryAt = Number(header.readBigUInt64BE(header.indexOf(magic) + 24));
    const table = Number(header.readBigUInt64BE(directoryAt + 32));
    patchFile(path, [table, 8, 4096n]);
    const before = readFileSync(path);
    await expect(openImage(path)).rejects.toThrow(
      "Could not read bitmap_table table from image for bitmap 'bad'",
    );
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});

test("a disk without length keeps no bitmaps: an image that would hold one of no bits opens nowhere", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "8M");
    await must("qemu-img", "bitmap", "--add", path, "b0");
    const image = await openImage(path);
    await image.disk.root!.truncate(0, { exact: true, preallocation: "off" });
    await image.close();
    expect(await bitmapsOf(path)).toEqual([]);
    await must("qemu-img", "check", "-q", path);
    const empty = await openImage(path);
    const add = (): unknown => addBitmap(empty.graph, { node: "disk", name: "b1", persistent: true });
    expect(add).toThrow("Can't make bitmap 'b1' persistent in 'disk': The disk has no length");
    await empty.close();
    await must("qemu-img", "check", "-q", path);
  });
});
