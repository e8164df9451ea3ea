// The journal of dirty bitmaps beside the real tools: after a crash they take the bitmaps for inconsistent and the image for sound;
// ours says what was written, unless somebody else has written to the image since.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { addBitmap, enableBitmap } from "../../src/block/bitmap/commands.ts";
import { settleBitmaps } from "../../src/block/bitmap/persistence.ts";
import type { NodeSpec } from "../../src/block/model/contract.ts";
import { findDirtyBitmap } from "../../src/block/model/dirty-bitmap.ts";
import { nodeOf } from "../../src/block/model/node.ts";
import { Daemon } from "../support/daemon.ts";
import { program } from "../support/verb-client.ts";
import { inDirectory, must, openImage, tool } from "./support/qcow2.ts";

const MiB = 2 ** 20;

/** The autoclear bits of the image's header. */
function autoclear(path: string): number {
  return Number(readFileSync(path).readBigUInt64BE(88));
}

interface Seen {
  inconsistent: boolean;
  recording: boolean;
  dirty: { offset: number; bytes: number }[];
}

/** What a reader of ours sees of a bitmap. */
async function seen(path: string, name: string): Promise<Seen | undefined> {
  const image = await openImage(path, { "read-only": true });
  try {
    const bitmap = findDirtyBitmap(image.graph.node("disk"), name);
    if (!bitmap) return undefined;
    const dirty = bitmap.bitmap.extents(0, image.disk.length, 100);
    return { inconsistent: bitmap.inconsistent, recording: bitmap.recording, dirty };
  } finally {
    await image.close();
  }
}

/** An image with a bitmap that records and one that does not, as it is left by a crash after two writes. */
async function crashed(
  directory: string,
  options: Partial<NodeSpec> = {},
  create = "cluster_size=64k",
): Promise<string> {
  const path = join(directory, "a.qcow2");
  const killed = join(directory, "killed.qcow2");
  await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", create, path, "64M");
  await must("qemu-img", "bitmap", "--add", path, "on");
  await must("qemu-img", "bitmap", "--add", "--disable", path, "off");
  await must("qemu-io", "-f", "qcow2", "-c", "write -P 1 63M 64k", path);
  const image = await openImage(path, options);
  await image.disk.pwrite(5 * MiB + 4096, new Uint8Array(4096).fill(3));
  await image.disk.pwrite(20 * MiB, new Uint8Array(4096).fill(3));
  await image.disk.flush();
  await must("cp", path, killed);
  await image.close();
  return killed;
}

const lost: Seen = { inconsistent: true, recording: false, dirty: [] };
/** What was stored, and the regions of what was written. */
const kept = [
  { offset: 5 * MiB, bytes: MiB },
  { offset: 20 * MiB, bytes: MiB },
  { offset: 63 * MiB, bytes: 65536 },
];

async function qemuFlags(path: string): Promise<string[][]> {
  const info = JSON.parse(await must("qemu-img", "info", "--output=json", path)) as {
    "format-specific": { data: { bitmaps?: { flags: string[] }[] } };
  };
  return (info["format-specific"].data.bitmaps ?? []).map(({ flags }) => flags);
}

test.each([
  "cluster_size=64k",
  "cluster_size=4k",
  "cluster_size=2M",
  "compat=1.1,backing_fmt=raw,backing_file=base",
])(
  "after a crash ours says what was written, and QEMU that the bitmaps are inconsistent: %s",
  async (create) => {
    await inDirectory(async (directory) => {
      await must("qemu-img", "create", "-q", "-f", "raw", join(directory, "base"), "64M");
      const path = await crashed(directory, {}, create);
      expect(autoclear(path) & (2 ** 30)).not.toBe(0);
      expect(await qemuFlags(path)).toEqual([["in-use", "auto"], ["in-use"]]);
      const merge = await tool("qemu-img", "bitmap", "--merge", "on", path, "off");
      expect(merge.code).not.toBe(0);
      // That was an open for writing, which takes the journal's bit.
      expect(autoclear(path) & (2 ** 30)).toBe(0);
      expect(await seen(path, "on")).toEqual(lost);
    });
    await inDirectory(async (directory) => {
      await must("qemu-img", "create", "-q", "-f", "raw", join(directory, "base"), "64M");
      const path = await crashed(directory, {}, create);
      await must("qemu-img", "check", "-q", path);
      expect(await seen(path, "on")).toEqual({ inconsistent: false, recording: true, dirty: kept });
      expect(await seen(path, "off")).toEqual({ inconsistent: false, recording: false, dirty: [] });
      // Whoever goes on closes it as ever.
      const image = await openImage(path);
      await image.disk.pwrite(40 * MiB, new Uint8Array(4096).fill(4));
      await image.close();
      expect(autoclear(path)).toBe(1);
      expect(await qemuFlags(path)).toEqual([["auto"], []]);
      await must("qemu-img", "check", "-q", path);
      await must("qemu-img", "bitmap", "--merge", "on", path, "off");
      expect((await seen(path, "off"))?.dirty.map(({ offset }) => offset / MiB)).toEqual([5, 20, 40, 63]);
    });
  },
);

test.each(["qemu-io -f qcow2 -c", "qemu-img amend -f qcow2 -o"])(
  "what %s does to the image ends the journal",
  async (words) => {
    await inDirectory(async (directory) => {
      const path = await crashed(directory);
      const [program = "", ...rest] = words.split(" ");
      const change = program === "qemu-io" ? "write -P 9 30M 4k" : "lazy_refcounts=on";
      await must(program, ...rest, change, path);
      expect(await seen(path, "on")).toEqual(lost);
      const image = await openImage(path);
      await image.disk.pwrite(0, new Uint8Array(512).fill(1));
      await image.close();
      expect(await seen(path, "on")).toEqual(lost);
      await must("qemu-img", "check", "-q", path);
    });
  },
);

test("without a journal a crash leaves bitmaps inconsistent, also where one was left", async () => {
  await inDirectory(async (directory) => {
    const path = await crashed(directory, { "bitmap-journal": false });
    expect(autoclear(path)).toBe(1);
    expect(await seen(path, "on")).toEqual(lost);
  });
  await inDirectory(async (directory) => {
    const path = await crashed(directory);
    const image = await openImage(path, { "bitmap-journal": false });
    await image.disk.pwrite(0, new Uint8Array(512).fill(1));
    await image.disk.flush();
    const again = join(directory, "again.qcow2");
    await must("cp", path, again);
    // What was recovered is stored if it comes to that.
    await image.close();
    expect((await seen(path, "on"))?.dirty.map(({ offset }) => offset / MiB)).toEqual([0, 5, 20, 63]);
    expect(await seen(again, "on")).toEqual(lost);
  });
});

test.each([
  { first: ["io"], inconsistent: false },
  { first: ["--run-as=qemu-io"], inconsistent: true },
])("a program under QEMU's name leaves an image as QEMU does, one of ours more: $first", async (how) => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "64M");
    await must("qemu-img", "bitmap", "--add", path, "on");
    const words = [...how.first, "-f", "qcow2", "-c", "write -q 0 64k", "-c", "abort", path];
    const { signal } = spawnSync(process.execPath, [program, ...words], { stdio: "ignore" });
    expect(signal).toBe("SIGABRT");
    expect(await seen(path, "on")).toMatchObject({ inconsistent: how.inconsistent });
  });
});

test("clusters that are too small have none", async () => {
  await inDirectory(async (directory) => {
    const path = await crashed(directory, {}, "cluster_size=2k");
    expect(autoclear(path)).toBe(1);
    expect(await seen(path, "on")).toEqual(lost);
  });
});

test("a crash of who goes on after a crash loses nothing either", async () => {
  await inDirectory(async (directory) => {
    const path = await crashed(directory);
    const image = await openImage(path);
    await image.disk.pwrite(33 * MiB, new Uint8Array(4096).fill(5));
    await image.disk.flush();
    const again = join(directory, "again.qcow2");
    await must("cp", path, again);
    await image.close();
    expect((await seen(again, "on"))?.dirty).toEqual([
      ...kept.slice(0, 2),
      { offset: 33 * MiB, bytes: MiB },
      kept[2],
    ]);
  });
});

test("a bitmap that is made, or switched, while the image is open is there after a crash", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "64M");
    const image = await openImage(path);
    await image.disk.pwrite(0, new Uint8Array(4096).fill(1));
    addBitmap(image.graph, { node: "disk", name: "new", persistent: true });
    await settleBitmaps([nodeOf(image.graph.node("disk"))]);
    await image.disk.pwrite(9 * MiB, new Uint8Array(4096).fill(1));
    const first = join(directory, "first.qcow2");
    await must("cp", path, first);
    enableBitmap(image.graph, { node: "disk", name: "new" }, false);
    await image.disk.pwrite(12 * MiB, new Uint8Array(4096).fill(1));
    await image.disk.flush();
    const second = join(directory, "second.qcow2");
    await must("cp", path, second);
    await image.close();
    const dirty = [{ offset: 9 * MiB, bytes: MiB }];
    expect(await seen(first, "new")).toEqual({ inconsistent: false, recording: true, dirty });
    // Stored when it was switched: what it held then, to the bit.
    const exact = [{ offset: 9 * MiB, bytes: 65536 }];
    expect(await seen(second, "new")).toEqual({ inconsistent: false, recording: false, dirty: exact });
    await must("qemu-img", "check", "-q", second);
  });
});

test("our check finds nothing wrong in what a crash leaves, and repairs nothing away", async () => {
  await inDirectory(async (directory) => {
    const path = await crashed(directory);
    const program = join(import.meta.dirname, "../../build/cli/main.js");
    expect(await must(process.execPath, program, "check", "-r", "all", path)).toContain("No errors");
    expect((await seen(path, "on"))?.dirty).toEqual(kept);
    // Merging what was recovered: the verb goes on from the journal.
    await must(process.execPath, program, "bitmap", "--merge", "on", path, "off");
    expect((await seen(path, "off"))?.dirty).toEqual(kept);
    expect(await qemuFlags(path)).toEqual([["auto"], []]);
  });
});

test.each([
  { args: [], asked: {}, isRight: false },
  { args: ["--compat", "10.1"], asked: {}, isRight: false },
  { args: [], asked: { "bitmap-journal": true }, isRight: true },
  { args: ["--compat", "blockwright"], asked: {}, isRight: true },
  { args: ["--compat", "blockwright"], asked: { "bitmap-journal": false }, isRight: false },
])("a daemon that is killed, %o: as QEMU's, or right", async ({ args, asked, isRight }) => {
  await inDirectory(async (directory) => {
    const filename = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", filename, "4M");
    await must("qemu-img", "bitmap", "--add", filename, "on");
    const daemon = await Daemon.start({ args });
    await daemon.execute("blockdev-add", {
      ...asked,
      driver: "qcow2",
      "node-name": "disk",
      file: { driver: "file", filename },
    });
    await daemon.kill();
    expect((await seen(filename, "on"))?.inconsistent).toBe(!isRight);
  });
});
