// External data files, plain and raw: images of the real tools read and written by us and the other way round, with the
// data file's own bytes beside them; and what an image may not make us open.
import { readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req } from "../../src/block/model/contract.ts";
import { denyGate, fileGate } from "../../src/block/model/gate.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import { randomness } from "../support/random.ts";
import { fileGraph, inDirectory, must, openImage, type OpenImage, readDisk, tool } from "./support/qcow2.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 4 * MiB + 512;

async function expectClean(path: string): Promise<void> {
  expect((await tool("qemu-img", "check", path)).output).toContain("No errors");
}

async function contentBy(path: string): Promise<Buffer> {
  await must("qemu-img", "convert", "-O", "raw", path, `${path}.out`);
  return readFile(`${path}.out`);
}

async function changeAtRandom(
  image: OpenImage,
  disk: Uint8Array,
  random: (limit: number) => number,
): Promise<void> {
  for (let count = 1; count <= 25; count++) {
    const offset = random(disk.length / 512 - 1) * 512;
    const bytes = Math.min(disk.length - offset, (1 + random(400)) * 512);
    const kind = random(6);
    if (kind === 0) await image.disk.pwriteZeroes(offset, bytes, random(2) ? Req.mayUnmap : 0);
    else await image.disk.pwrite(offset, new Uint8Array(bytes).fill(count));
    disk.fill(kind === 0 ? 0 : count, offset, offset + bytes);
  }
}

async function create(path: string, options: Record<string, unknown>): Promise<void> {
  const graph = fileGraph();
  const context = { graph, host: graph.host };
  const data = options["data-file"] as { filename: string };
  for (const filename of [path, data.filename])
    await graph.driver("file").create!(context, { filename, size: 0 });
  await graph.driver("qcow2").create!(context, { ...options, file: { driver: "file", filename: path } });
  await graph.close();
}

for (const raw of ["off", "on"]) {
  for (const whose of ["theirs", "ours"]) {
    test(`data_file_raw=${raw}, an image of ${whose}, written by turns`, async () => {
      await inDirectory(async (directory) => {
        const path = join(directory, "a.qcow2");
        const data = join(directory, "a.data");
        if (whose === "theirs") {
          const options = `data_file=${data},data_file_raw=${raw},cluster_size=4k`;
          await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, String(SIZE));
        } else {
          const file = { driver: "file", filename: data };
          const more = { "data-file": file, "data-file-raw": raw === "on", "cluster-size": 4096 };
          await create(path, { ...more, size: SIZE });
        }
        await expectClean(path);
        const disk = new Uint8Array(SIZE);
        const random = randomness(raw.length * 7 + whose.length);
        for (let turn = 0; turn < 3; turn++) {
          const image = await openImage(path, { discard: "unmap" });
          expect(image.disk.node!.driver.formatSpecific!()!.data).toMatchObject({
            "data-file": data,
            "data-file-raw": raw === "on",
          });
          await changeAtRandom(image, disk, random);
          expect(Buffer.compare(await readDisk(image), disk)).toBe(0);
          await image.close();
          await expectClean(path);
          await must("qemu-io", "-c", `write -P 77 ${turn * 70_000} 30000`, path);
          disk.fill(77, turn * 70_000, turn * 70_000 + 30_000);
          expect(Buffer.compare(await contentBy(path), disk)).toBe(0);
          // qemu-img makes a data file of whole clusters.
          const alone = await readFile(data);
          if (raw === "on") expect(Buffer.compare(alone.subarray(0, SIZE), disk)).toBe(0);
          if (raw === "on") expect(alone.subarray(SIZE).every((byte) => byte === 0)).toBe(true);
        }
      });
    });
  }
}

test("qemu-img tells the same of images that we create, and of their maps", async () => {
  await inDirectory(async (directory) => {
    for (const raw of [false, true]) {
      const own = join(directory, `own-${raw}.qcow2`);
      const real = join(directory, `real-${raw}.qcow2`);
      const data = join(directory, "d");
      await create(own, {
        size: SIZE,
        "data-file": { driver: "file", filename: data },
        "data-file-raw": raw,
      });
      const ours = await described(own);
      const options = `data_file=${data},data_file_raw=${raw ? "on" : "off"}`;
      await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, real, String(SIZE));
      expect(ours).toEqual(await described(real));
    }
  });
});

async function described(path: string): Promise<unknown> {
  const info = JSON.parse(await must("qemu-img", "info", "--output=json", path)) as Record<string, unknown>;
  const map: unknown = JSON.parse(await must("qemu-img", "map", "--output=json", path));
  return { ...info, filename: "", "actual-size": 0, map };
}

test("growing and shrinking take the data file along", async () => {
  await inDirectory(async (directory) => {
    for (const raw of ["off", "on"]) {
      const path = join(directory, `${raw}.qcow2`);
      const data = join(directory, `${raw}.data`);
      const options = `data_file=${data},data_file_raw=${raw}`;
      await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, "1M");
      for (const size of [3 * MiB, 512 * KiB, 2 * MiB + 512]) {
        const image = await openImage(path, { discard: "unmap" });
        await image.disk.pwrite(0, new Uint8Array(Math.min(MiB, image.disk.length)).fill(5));
        await image.disk.root!.truncate(size, { exact: true, preallocation: "off" });
        await image.close();
        await expectClean(path);
        expect((await stat(data)).size).toBe(size);
      }
      const content = await contentBy(path);
      expect(content.subarray(0, 512 * KiB).every((byte) => byte === 5)).toBe(true);
      expect(content.subarray(512 * KiB).every((byte) => byte === 0)).toBe(true);
      if (raw === "on") expect(Buffer.compare(await readFile(data), content)).toBe(0);
    }
  });
});

test("the data file goes through the gate, and never through a guess at its format", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    const data = join(directory, "a.data");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", `data_file=${data}`, path, "1M");
    const graph = fileGraph();
    const spec = { driver: "qcow2", file: { driver: "file", filename: path } };
    const refused = graph.open(spec, { gate: denyGate });
    await expect(refused).rejects.toThrow(`Could not open data file: the image's data-file name '${data}'`);
    for (const policy of ["same-dir", "local"] as const) {
      const beside = await graph.open(spec, { gate: fileGate(policy, nodeHost()) });
      await graph.release(beside);
    }
    await graph.close();
    // A guest that writes a qcow2 header into its first sectors gets that back, and nothing else.
    await must("qemu-img", "create", "-q", "-f", "qcow2", join(directory, "inner.qcow2"), "1M");
    const inner = await readFile(join(directory, "inner.qcow2"));
    const image = await openImage(path);
    await image.disk.pwrite(0, inner.subarray(0, 64 * KiB));
    await image.close();
    const again = await openImage(path, { "read-only": true });
    expect(Buffer.compare((await readDisk(again)).subarray(0, 64 * KiB), inner.subarray(0, 64 * KiB))).toBe(
      0,
    );
    await again.close();
  });
});

test("json: and other protocols in the header are refused (CVE-2024-4467)", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    const data = `json${":"}{"driver":"file","filename":"a"}`;
    const name = "x".repeat(data.length);
    await must(
      "qemu-img",
      "create",
      "-q",
      "-f",
      "qcow2",
      "-o",
      `data_file=${join(directory, name)}`,
      path,
      "1M",
    );
    const image = await readFile(path);
    const at = image.indexOf(join(directory, name));
    image.fill(0, at, at + join(directory, name).length);
    image.write(data, at);
    image.writeUInt32BE(data.length, image.indexOf("DATA") + 4);
    await writeFile(path, image);
    await expect(openImage(path)).rejects.toThrow(/refused|Header extension/);
  });
});

test("refused: compressed writes, snapshots, a data file where none belongs, none where one belongs, entries elsewhere", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    const plain = join(directory, "b.qcow2");
    const data = join(directory, "a.data");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", `data_file=${data}`, path, "1M");
    await must("qemu-io", "-c", "write -P 1 0 256k", path);
    await must("qemu-img", "create", "-q", "-f", "qcow2", plain, "1M");
    const image = await openImage(path);
    await expect(image.disk.pwrite(0, new Uint8Array(64 * KiB), Req.compressed)).rejects.toMatchObject({
      code: "ENOTSUP",
    });
    const snapshots = image.disk.node!.driver.snapshots!()!;
    await expect(snapshots.create({ name: "a" })).rejects.toMatchObject({ code: "ENOTSUP" });
    await image.close();
    await expect(openImage(plain, { "data-file": { driver: "file", filename: data } })).rejects.toThrow(
      "'data-file' can only be set for images with an external data file",
    );
    const bytes = await readFile(path);
    const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffffe00n);
    bytes.writeUInt32BE(0x60000, l2 + 12);
    await writeFile(path, bytes);
    const moved = await openImage(path, { "read-only": true });
    await expect(moved.disk.pread(64 * KiB, new Uint8Array(512))).rejects.toThrow(
      "does not match guest cluster",
    );
    await moved.close();
    await truncate(data, 0);
  });
});
