// zstd clusters: images of the real tools are read by us and ours by them, and damaged frames end in EIO.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req } from "../../src/block/model/contract.ts";
import { randomness } from "../support/random.ts";
import { fileGraph, inDirectory, must, openImage, readDisk, tool } from "./support/qcow2.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

/** Pieces of all kinds: text-like, random, runs, zeroes. */
function content(size: number, seed: number): Uint8Array {
  const random = randomness(seed);
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size;) {
    const end = Math.min(size, at + 512 + random(100_000));
    const kind = random(4);
    if (kind === 1) bytes.fill(random(256), at, end);
    for (let index = at; kind > 1 && index < end; index++) bytes[index] = random(kind === 2 ? 4 : 256);
    at = end;
  }
  return bytes;
}

async function create(path: string, options: Record<string, unknown>): Promise<void> {
  const graph = fileGraph();
  const context = { graph, host: graph.host };
  await graph.driver("file").create!(context, { filename: path, size: 0 });
  await graph.driver("qcow2").create!(context, { ...options, file: { driver: "file", filename: path } });
  await graph.close();
}

for (const clusterSize of [4 * KiB, 64 * KiB, 2 * MiB]) {
  test(`clusters of ${clusterSize / KiB} KiB, there and back`, async () => {
    await inDirectory(async (directory) => {
      const disk = content(4 * MiB + 1024, clusterSize);
      const raw = join(directory, "a.raw");
      const theirs = join(directory, "theirs.qcow2");
      const ours = join(directory, "ours.qcow2");
      await writeFile(raw, disk);
      const options = `compression_type=zstd,cluster_size=${clusterSize}`;
      await must("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, raw, theirs);
      const image = await openImage(theirs);
      expect(image.disk.node!.driver.formatSpecific!()!.data).toMatchObject({ "compression-type": "zstd" });
      expect(Buffer.compare(await readDisk(image), disk)).toBe(0);
      await image.disk.pwrite(clusterSize / 2, new Uint8Array(1000).fill(9));
      disk.fill(9, clusterSize / 2, clusterSize / 2 + 1000);
      await image.close();
      await create(ours, { size: disk.length, "cluster-size": clusterSize, "compression-type": "zstd" });
      const target = await openImage(ours);
      for (let at = 0; at < disk.length; at += clusterSize) {
        await target.disk.pwrite(at, disk.slice(at, Math.min(at + clusterSize, disk.length)), Req.compressed);
      }
      expect(Buffer.compare(await readDisk(target), disk)).toBe(0);
      await target.close();
      for (const path of [theirs, ours]) {
        expect((await tool("qemu-img", "check", path)).output).toContain("No errors");
        await must("qemu-img", "convert", "-O", "raw", path, `${path}.raw`);
        expect(Buffer.compare(await readFile(`${path}.raw`), disk)).toBe(0);
      }
      const checked = JSON.parse(await must("qemu-img", "check", "--output=json", ours)) as Record<
        string,
        number
      >;
      expect(checked["compressed-clusters"]).toBeGreaterThan(0);
    });
  });
}

test("qemu-img tells the same of an image that we create", async () => {
  await inDirectory(async (directory) => {
    const own = join(directory, "own.qcow2");
    const real = join(directory, "real.qcow2");
    await create(own, { size: MiB, "compression-type": "zstd" });
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", real, "1M");
    const info = async (path: string): Promise<Record<string, unknown>> => ({
      ...(JSON.parse(await must("qemu-img", "info", "--output=json", path)) as Record<string, unknown>),
      filename: "",
      "actual-size": 0,
    });
    expect(await info(own)).toEqual(await info(real));
    await expect(
      create(join(directory, "v2"), { size: MiB, version: "v2", "compression-type": "zstd" }),
    ).rejects.toThrow("Non-zlib compression type is only supported with compatibility level 1.1 and above");
  });
});

test("damaged frames give EIO or other bytes, never a hang, a crash or too much memory", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    const raw = join(directory, "a.raw");
    await writeFile(raw, content(256 * KiB, 3));
    await must("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "compression_type=zstd", raw, path);
    const good = await readFile(path);
    const frame = good.indexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
    expect(frame).toBeGreaterThan(0);
    const random = randomness(8);
    let refused = 0;
    for (let count = 0; count < 60; count++) {
      const bad = Buffer.from(good);
      const reach = count % 2 ? 12 : 400;
      for (let change = 0; change < 3; change++) bad[frame + random(reach)] = random(256);
      await writeFile(path, bad);
      const image = await openImage(path, { "read-only": true });
      const read = image.disk.pread(0, new Uint8Array(256 * KiB));
      await Promise.resolve(read).catch((error: { code: string }) => {
        expect(error.code).toBe("EIO");
        refused += 1;
      });
      await image.close();
    }
    expect(refused).toBeGreaterThan(30);
  });
});
