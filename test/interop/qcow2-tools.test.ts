// Our images and errors beside those of the real tools: what qemu-img says of images that we make, dirty and foreign
// images, and the words of refusals.
import { open as openFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req } from "../../src/block/model/contract.ts";
import type { Qcow2 } from "../../src/drivers/format/qcow2/index.ts";
import { fileGraph, inDirectory, must, openImage, readDisk, tool } from "./support/qcow2.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

async function create(path: string, options: Record<string, unknown>): Promise<void> {
  const graph = fileGraph();
  const context = { graph, host: graph.host };
  await graph.driver("file").create!(context, { filename: path, size: 0 });
  await graph.driver("qcow2").create!(context, { ...options, file: { driver: "file", filename: path } });
  await graph.close();
}

const created: { name: string; ours: Record<string, unknown>; theirs: string }[] = [
  { name: "defaults", ours: {}, theirs: "size=0" },
  { name: "v2", ours: { version: "v2" }, theirs: "compat=0.10" },
  { name: "small clusters", ours: { "cluster-size": 512 }, theirs: "cluster_size=512" },
  { name: "large clusters", ours: { "cluster-size": 2 * MiB }, theirs: "cluster_size=2M" },
  { name: "lazy refcounts", ours: { "lazy-refcounts": true }, theirs: "lazy_refcounts=on" },
  { name: "1-bit refcounts", ours: { "refcount-bits": 1 }, theirs: "refcount_bits=1" },
  { name: "64-bit refcounts", ours: { "refcount-bits": 64 }, theirs: "refcount_bits=64" },
  { name: "metadata", ours: { preallocation: "metadata" }, theirs: "preallocation=metadata" },
  { name: "falloc", ours: { preallocation: "falloc" }, theirs: "preallocation=falloc" },
  { name: "full", ours: { preallocation: "full" }, theirs: "preallocation=full" },
];

for (const { name, ours, theirs } of created) {
  test(`qemu-img tells the same of an image that we create: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const own = join(directory, "own.qcow2");
      const real = join(directory, "real.qcow2");
      const options = theirs === "size=0" ? [] : ["-o", theirs];
      await create(own, { ...ours, size: 20 * MiB });
      await must("qemu-img", "create", "-q", "-f", "qcow2", ...options, real, "20M");
      const info = async (path: string): Promise<Record<string, unknown>> => {
        const output = JSON.parse(await must("qemu-img", "info", "--output=json", path)) as Record<
          string,
          unknown
        >;
        return { ...output, filename: "", "actual-size": 0 };
      };
      expect(await info(own)).toEqual(await info(real));
      expect((await tool("qemu-img", "check", own)).output).toContain("No errors");
      const map = async (path: string): Promise<unknown> =>
        (JSON.parse(await must("qemu-img", "map", "--output=json", path)) as { offset?: number }[]).map(
          (extent) => ({ ...extent, offset: extent.offset === undefined ? "none" : "some" }),
        );
      expect(await map(own)).toEqual(await map(real));
    });
  });
}

test("an image that a killed writer left dirty is repaired when it is opened for writing", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", path, "20M");
    await tool(
      "qemu-io",
      "-c",
      "write -P 1 0 3M",
      "-c",
      "write -P 2 9M 100k",
      "-c",
      "flush",
      "-c",
      "sigraise 9",
      path,
    );
    const before = await tool("qemu-img", "check", path);
    expect(before.output).toContain("ERROR");
    const image = await openImage(path);
    const buffer = new Uint8Array(100 * KiB);
    await image.disk.pread(9 * MiB, buffer);
    expect(buffer.every((byte) => byte === 2)).toBe(true);
    await image.disk.pwrite(5 * MiB, new Uint8Array(MiB).fill(3));
    await image.close();
    expect((await tool("qemu-img", "check", path)).output).toContain("No errors");
    const raw = join(directory, "a.raw");
    await must("qemu-img", "convert", "-O", "raw", path, raw);
    const content = await readFile(raw);
    expect([content[0], content[3 * MiB - 1], content[3 * MiB], content[5 * MiB]]).toEqual([1, 1, 0, 3]);
  });
});

test("snapshots survive what is written later", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", path, "8M");
    await must("qemu-io", "-c", "write -P 1 0 4M", path);
    await must("qemu-img", "snapshot", "-c", "one", path);
    const image = await openImage(path, { discard: "unmap" });
    await image.disk.pwrite(1000, new Uint8Array(MiB).fill(2));
    await image.disk.pwriteZeroes(2 * MiB, MiB, Req.mayUnmap);
    await image.disk.pdiscard(3 * MiB, MiB / 2);
    await image.close();
    expect((await tool("qemu-img", "check", path)).output).toContain("No errors");
    const raw = join(directory, "one.raw");
    await must("qemu-img", "convert", "-l", "one", "-O", "raw", path, raw);
    const content = await readFile(raw);
    expect(content.subarray(0, 4 * MiB).every((byte) => byte === 1)).toBe(true);
  });
});

test("the backing link that we write is the one that qemu-img reads", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "top.qcow2");
    await must("qemu-img", "create", "-q", "-f", "raw", join(directory, "a.raw"), "1M");
    await must("qemu-img", "create", "-q", "-f", "qcow2", join(directory, "other.qcow2"), "1M");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-b", "a.raw", "-F", "raw", path);
    const info = async (): Promise<Record<string, unknown>> =>
      JSON.parse(await must("qemu-img", "info", "--output=json", path)) as Record<string, unknown>;
    const links: [{ filename: string; format?: string } | null, Record<string, unknown>][] = [
      [
        { filename: "other.qcow2", format: "qcow2" },
        { "backing-filename": "other.qcow2", "backing-filename-format": "qcow2" },
      ],
      [
        { filename: "./a.raw", format: "raw" },
        { "backing-filename": "./a.raw", "backing-filename-format": "raw" },
      ],
      [null, {}],
      [
        { filename: "a.raw", format: "raw" },
        { "backing-filename": "a.raw", "backing-filename-format": "raw" },
      ],
    ];
    for (const [link, expected] of links) {
      const image = await openImage(path, { backing: null });
      await image.disk.node!.driver.headerBacking!.change(link);
      await image.close();
      const found = await info();
      expect(found).toMatchObject(expected);
      expect("backing-filename" in found).toBe(link !== null);
      expect((await tool("qemu-img", "check", path)).code).toBe(0);
    }
  });
});

test("compressed writes are smaller, read back here and there, and say so in block status", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await create(path, { size: 4 * MiB });
    const image = await openImage(path);
    const content = new Uint8Array(4 * MiB);
    for (let at = 0; at < content.length; at++) content[at] = (at >> 9) & 255;
    for (let at = 0; at < content.length; at += MiB) {
      await image.disk.pwrite(at, content.subarray(at, at + MiB), Req.compressed);
    }
    expect(await image.disk.root!.blockStatus(0, 64 * KiB)).toMatchObject({ compressed: true, data: true });
    expect(Buffer.compare(await readDisk(image), content)).toBe(0);
    expect(await (image.disk.node!.driver as Qcow2).check()).toEqual({ corruptions: [], leaks: 0 });
    await image.close();
    const raw = join(directory, "a.raw");
    await writeFile(raw, content);
    await must("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", path, raw);
    expect((await tool("qemu-img", "check", path)).output).toContain("100.00% compressed");
  });
});

const broken: [string, number, number[]][] = [
  ["magic", 0, [1]],
  ["version", 7, [9]],
  ["cluster bits", 23, [30]],
  ["crypt method", 35, [7]],
  ["L1 size", 36, [1]],
  ["small L1", 39, [0]],
  ["L1 offset", 46, [1, 1]],
  ["refcount table offset", 55, [1]],
  ["refcount table clusters", 59, [0]],
  ["snapshots", 60, [1]],
  ["snapshot offset", 71, [1]],
  ["unknown feature", 72, [0x80]],
  ["named feature bits", 78, [1]],
  ["corrupt bit", 79, [2]],
  ["refcount order", 99, [7]],
  ["header length", 103, [0x48]],
  ["header length beyond the cluster", 101, [2]],
  ["backing offset", 11, [1]],
  ["extension", 116, [0x7f]],
];

for (const [name, at, bytes] of broken) {
  test(`refused in qemu-io's words: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      await must("qemu-img", "create", "-q", "-f", "qcow2", path, "10M");
      const file = await openFile(path, "r+");
      await file.write(Uint8Array.from(bytes), 0, bytes.length, at);
      await file.close();
      const real = (await tool("qemu-io", "-f", "qcow2", "-c", "read 0 512", path)).output;
      const error = await openImage(path).then(
        () => new Error("opened"),
        (reason: unknown) => reason as Error,
      );
      expect(real).toContain(error.message);
    });
  });
}
