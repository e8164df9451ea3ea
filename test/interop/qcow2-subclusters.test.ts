// Extended L2 entries: images of the real tools and ours, written by turns at random, clean after each turn and equal
// wherever they are read; with backing files, snapshots, data files and compressed clusters.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req } from "../../src/block/model/contract.ts";
import { randomness } from "../support/random.ts";
import { fileGraph, inDirectory, must, openImage, type OpenImage, readDisk, tool } from "./support/qcow2.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

async function create(path: string, options: Record<string, unknown>): Promise<void> {
  const graph = fileGraph();
  const context = { graph, host: graph.host };
  const more = options["data-file"] as { filename: string } | undefined;
  for (const filename of more ? [path, more.filename] : [path])
    await graph.driver("file").create!(context, { filename, size: 0 });
  await graph.driver("qcow2").create!(context, { ...options, file: { driver: "file", filename: path } });
  await graph.close();
}

interface Kind {
  readonly name: string;
  readonly clusterSize: number;
  readonly backing?: boolean;
  readonly dataFile?: boolean;
  readonly snapshots?: boolean;
  readonly compress?: boolean;
}

const kinds: Kind[] = [
  { name: "16k clusters, compressed ones too", clusterSize: 16 * KiB, compress: true },
  { name: "64k clusters over a backing file", clusterSize: 64 * KiB, backing: true, compress: true },
  { name: "2M clusters", clusterSize: 2 * MiB },
  {
    name: "snapshots over a backing file",
    clusterSize: 32 * KiB,
    backing: true,
    snapshots: true,
    compress: true,
  },
  { name: "a data file", clusterSize: 64 * KiB, dataFile: true },
];

class Story {
  readonly kind: Kind;
  readonly path: string;
  readonly random: (limit: number) => number;
  readonly disk: Uint8Array;
  #value = 1;

  constructor(init: { kind: Kind; path: string; disk: Uint8Array; random: (limit: number) => number }) {
    this.kind = init.kind;
    this.path = init.path;
    this.disk = init.disk;
    this.random = init.random;
  }

  /** A range in sectors or subclusters, small or large. */
  #range(): { offset: number; bytes: number } {
    const { disk, kind, random } = this;
    const unit = random(2) ? 512 : kind.clusterSize / 32;
    const offset = random(Math.floor(disk.length / unit)) * unit;
    const most = Math.ceil((random(3) ? kind.clusterSize : 4 * kind.clusterSize) / unit);
    return { offset, bytes: Math.min(disk.length - offset, (1 + random(most)) * unit) };
  }

  async ours(image: OpenImage): Promise<void> {
    const { disk, kind, random } = this;
    let { offset, bytes } = this.#range();
    const what = random(8);
    if (what < 2) {
      await image.disk.pwriteZeroes(offset, bytes, what ? Req.mayUnmap : 0);
      disk.fill(0, offset, offset + bytes);
      return;
    }
    const value = 1 + (this.#value++ % 255);
    if (what === 2 && kind.compress) {
      offset -= offset % kind.clusterSize;
      bytes = Math.min(kind.clusterSize, disk.length - offset);
      await image.disk.pwrite(offset, new Uint8Array(bytes).fill(value), Req.compressed);
    } else if (what === 3) {
      offset -= offset % kind.clusterSize;
      bytes = Math.min(kind.clusterSize, disk.length - offset);
      await image.disk.pdiscard(offset, bytes);
      disk.fill(0, offset, offset + bytes);
      return;
    } else {
      await image.disk.pwrite(offset, new Uint8Array(bytes).fill(value));
    }
    disk.fill(value, offset, offset + bytes);
  }

  /** Commands for qemu-io. */
  theirs(): string[] {
    const words: string[] = [];
    for (let count = 0; count < 8; count++) {
      const { offset, bytes } = this.#range();
      const value = this.random(4) ? 1 + (this.#value++ % 255) : 0;
      this.disk.fill(value, offset, offset + bytes);
      words.push("-c", value ? `write -P ${value} ${offset} ${bytes}` : `write -z -u ${offset} ${bytes}`);
    }
    return words;
  }

  async check(step: string): Promise<void> {
    const { output } = await tool("qemu-img", "check", this.path);
    expect(`${step}: ${output}`).toContain("No errors");
    await must("qemu-img", "convert", "-O", "raw", this.path, `${this.path}.raw`);
    const theirs = await readFile(`${this.path}.raw`);
    const difference = this.disk.findIndex((byte, index) => byte !== theirs[index]);
    expect(`${step}: ${difference}`).toBe(`${step}: -1`);
  }
}

async function prepare(
  kind: Kind,
  whose: string,
  directory: string,
): Promise<{ path: string; disk: Uint8Array }> {
  const disk = new Uint8Array(5 * MiB + 512);
  const path = join(directory, "a.qcow2");
  const base = join(directory, "base.raw");
  const data = join(directory, "a.data");
  if (kind.backing) {
    disk.fill(200, 0, 3 * MiB + 512);
    await writeFile(base, disk.subarray(0, 3 * MiB + 512));
  }
  if (whose === "ours") {
    await create(path, {
      size: disk.length,
      "cluster-size": kind.clusterSize,
      "extended-l2": true,
      ...(kind.backing ? { "backing-file": base, "backing-fmt": "raw" } : {}),
      ...(kind.dataFile ? { "data-file": { driver: "file", filename: data } } : {}),
    });
  } else {
    const options = [
      `extended_l2=on,cluster_size=${kind.clusterSize}`,
      ...(kind.backing ? [`backing_file=${base},backing_fmt=raw`] : []),
      ...(kind.dataFile ? [`data_file=${data}`] : []),
    ];
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", options.join(","), path, String(disk.length));
  }
  return { path, disk };
}

for (const kind of kinds) {
  for (const whose of ["theirs", "ours"]) {
    test(`${kind.name}: an image of ${whose}, written by turns`, async () => {
      await inDirectory(async (directory) => {
        const { path, disk } = await prepare(kind, whose, directory);
        const random = randomness(kind.clusterSize + whose.length);
        const story = new Story({ kind, path, disk, random });
        const kept: Uint8Array[] = [];
        for (let turn = 0; turn < 4; turn++) {
          const image = await openImage(path, { discard: "unmap" });
          for (let count = 0; count < 15; count++) await story.ours(image);
          expect(Buffer.compare(await readDisk(image), disk)).toBe(0);
          if (kind.snapshots && turn < 2) {
            await image.disk.node!.driver.snapshots!()!.create({ name: `s${turn}` });
            kept.push(disk.slice());
          }
          await image.close();
          await story.check(`ours ${turn}`);
          await must("qemu-io", "-f", "qcow2", ...story.theirs(), path);
          await story.check(`theirs ${turn}`);
        }
        const last = await openImage(path, { "read-only": true });
        expect(Buffer.compare(await readDisk(last), disk)).toBe(0);
        await last.close();
        for (const [index, content] of kept.entries()) {
          await must("qemu-img", "convert", "-l", `s${index}`, "-O", "raw", path, `${path}.raw`);
          expect(Buffer.compare(await readFile(`${path}.raw`), content)).toBe(0);
        }
      });
    });
  }
}

const created: [name: string, ours: Record<string, unknown>, theirs: string][] = [
  ["defaults", {}, "extended_l2=on"],
  ["2M clusters", { "cluster-size": 2 * MiB }, "extended_l2=on,cluster_size=2M"],
  ["metadata", { preallocation: "metadata" }, "extended_l2=on,preallocation=metadata"],
];

test.each(created)("qemu-img tells the same of an image that we create: %s", async (_name, ours, theirs) => {
  await inDirectory(async (directory) => {
    const own = join(directory, "own.qcow2");
    const real = join(directory, "real.qcow2");
    await create(own, { ...ours, size: 6 * MiB, "extended-l2": true });
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", theirs, real, "6M");
    const described = async (path: string): Promise<unknown> => {
      const info = JSON.parse(await must("qemu-img", "info", "--output=json", path)) as Record<
        string,
        unknown
      >;
      const map: unknown = JSON.parse(await must("qemu-img", "map", "--output=json", path));
      return { ...info, filename: "", "actual-size": 0, map };
    };
    expect(await described(own)).toEqual(await described(real));
    expect((await tool("qemu-img", "check", own)).output).toContain("No errors");
  });
});

test("block status follows subclusters as qemu-img map does", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", path, "1M");
    await must("qemu-io", "-c", "write 3k 5k", "-c", "write -z 20k 6k", "-c", "write 100k 300k", path);
    const theirs = JSON.parse(await must("qemu-img", "map", "--output=json", path)) as {
      start: number;
      length: number;
      zero: boolean;
      data: boolean;
    }[];
    const image = await openImage(path, { "read-only": true });
    for (const { start, length, zero, data } of theirs) {
      for (let at = start; at < start + length;) {
        const status = await image.disk.node!.driver.blockStatus!(at, start + length - at, true);
        expect({ at, data: status.data }).toEqual({ at, data });
        if (status.allocated) expect({ at, zero: status.zero }).toEqual({ at, zero });
        at += status.bytes;
      }
    }
    await image.close();
  });
});

test("bits that contradict each other are corruption", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", path, "1M");
    await must("qemu-io", "-c", "write 0 64k", path);
    const bytes = await readFile(path);
    const l2 = Number(bytes.readBigUInt64BE(Number(bytes.readBigUInt64BE(40))) & 0xfffffffffffe00n);
    bytes.writeUInt32BE(0xff, l2 + 8);
    await writeFile(path, bytes);
    const image = await openImage(path, { "read-only": true });
    await expect(image.disk.pread(0, new Uint8Array(512))).rejects.toThrow("Invalid cluster entry found");
    await image.close();
  });
});
