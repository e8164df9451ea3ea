// Internal snapshots, ours and those of the real tools by turns: every image is clean for qemu-img check after each step,
// and the disk and each snapshot hold what they held when it was taken, wherever they are read.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { Req, type SnapshotStore } from "../../src/block/model/contract.ts";
import { randomness } from "../support/random.ts";
import { inDirectory, must, type OpenImage, openImage, readDisk, tool } from "./support/qcow2.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

function store(image: OpenImage): SnapshotStore {
  return image.disk.node!.driver.snapshots!()!;
}

async function withImage<T>(path: string, body: (image: OpenImage) => Promise<T>): Promise<T> {
  const image = await openImage(path, { discard: "unmap" });
  try {
    return await body(image);
  } finally {
    await image.close();
  }
}

/** What `qemu-img snapshot -l` lists: ids and names. */
async function listed(path: string): Promise<string[]> {
  const lines = (await must("qemu-img", "snapshot", "-l", path)).trim().split("\n").slice(2);
  return lines.map((line) => line.split(/\s+/).slice(0, 2).join(" "));
}

async function expectClean(path: string, step: string): Promise<void> {
  const { code, output } = await tool("qemu-img", "check", path);
  expect(`${step}: ${code} ${output}`).toContain(`${step}: 0 No errors`);
}

/** A snapshot as it is read by qemu-img and by us. */
async function snapshotContents(path: string, id: string): Promise<[Uint8Array, Uint8Array]> {
  await must("qemu-img", "convert", "-l", `snapshot.id=${id}`, "-O", "raw", path, `${path}.raw`);
  const image = await openImage(path, { "read-only": true });
  try {
    await store(image).show(id);
    return [await readFile(`${path}.raw`), await readDisk(image)];
  } finally {
    await image.close();
  }
}

interface Kind {
  readonly name: string;
  readonly options: string;
}

const kinds: Kind[] = [
  { name: "v3, 64k clusters", options: "cluster_size=64k" },
  { name: "v3, 512 B clusters", options: "cluster_size=512" },
  { name: "v2", options: "compat=0.10,cluster_size=4k" },
  { name: "4-bit refcounts", options: "refcount_bits=4,cluster_size=4k" },
];

class Story {
  readonly path: string;
  readonly random: (limit: number) => number;
  /** What the disk holds, and each snapshot by its id. */
  disk: Uint8Array;
  readonly kept = new Map<string, { name: string; content: Uint8Array }>();
  #value = 1;

  constructor(path: string, size: number, random: (limit: number) => number) {
    this.path = path;
    this.random = random;
    this.disk = new Uint8Array(size);
  }

  async change(image: OpenImage): Promise<void> {
    const { disk, random } = this;
    const offset = random(disk.length / 512 - 1) * 512;
    const bytes = Math.min(disk.length - offset, (1 + random(200)) * 512);
    const value = random(4) === 0 ? 0 : this.#value++ % 256;
    disk.fill(value, offset, offset + bytes);
    if (value === 0) await image.disk.pwriteZeroes(offset, bytes, Req.mayUnmap);
    else await image.disk.pwrite(offset, new Uint8Array(bytes).fill(value));
  }

  async compress(image: OpenImage): Promise<void> {
    const cluster = image.disk.node!.driver.getInfo!()!.clusterSize;
    const offset = this.random(Math.floor(this.disk.length / cluster)) * cluster;
    const bytes = Math.min(cluster, this.disk.length - offset);
    const value = this.#value++ % 256;
    this.disk.fill(value, offset, offset + bytes);
    await image.disk.pwrite(offset, new Uint8Array(bytes).fill(value), Req.compressed);
  }

  async step(number: number): Promise<string> {
    const { path, random, kept } = this;
    const ids = [...kept.keys()];
    const id = ids[random(ids.length)];
    const kind = random(10);
    if (kind < 4 || id === undefined) {
      if (kept.size >= 6) return "nothing";
      const name = `s${number}`;
      if (kind % 2 === 0) await withImage(path, (image) => store(image).create({ name, icount: 0 }));
      else await must("qemu-img", "snapshot", "-c", name, path);
      const made = (await listed(path)).find((line) => line.endsWith(` ${name}`))!;
      kept.set(made.split(" ")[0]!, { name, content: this.disk.slice() });
      return `create ${kind % 2}`;
    }
    if (kind < 7) {
      if (kind % 2 === 0) await withImage(path, (image) => store(image).apply(id));
      else await must("qemu-img", "snapshot", "-a", id, path);
      this.disk = kept.get(id)!.content.slice();
      return `apply ${id} ${kind % 2}`;
    }
    if (kind % 2 === 0) await withImage(path, (image) => store(image).remove(id));
    else await must("qemu-img", "snapshot", "-d", kept.get(id)!.name, path);
    kept.delete(id);
    return `remove ${id} ${kind % 2}`;
  }
}

for (const { name, options } of kinds) {
  test(`snapshots by turns with qemu-img: ${name}`, async () => {
    await inDirectory(async (directory) => {
      const path = join(directory, "a.qcow2");
      const size = 3 * MiB + 512;
      await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, String(size));
      const story = new Story(path, size, randomness(name.length));
      for (let number = 0; number < 14; number++) {
        await withImage(path, async (image) => {
          for (let count = 0; count < 6; count++) await story.change(image);
          await story.compress(image);
        });
        const step = await story.step(number);
        await expectClean(path, step);
        const ours = await withImage(path, (image) => Promise.resolve(store(image).list()));
        expect(ours.map(({ id, name: label }) => `${id} ${label}`)).toEqual(await listed(path));
      }
      const content = await withImage(path, readDisk);
      expect(Buffer.compare(content, story.disk)).toBe(0);
      expect(story.kept.size).toBeGreaterThan(0);
      for (const [id, { content: held }] of story.kept) {
        for (const read of await snapshotContents(path, id)) expect(Buffer.compare(read, held)).toBe(0);
      }
    });
  });
}

test("a snapshot brings back the disk's length; one that is shown keeps the length of now", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=512", path, "40k");
    await withImage(path, async (image) => {
      await image.disk.pwrite(0, new Uint8Array(40 * KiB).fill(1));
      await store(image).create({ name: "small" });
      await image.disk.root!.truncate(2 * MiB, { exact: true, preallocation: "off" });
      await image.disk.pwrite(0, new Uint8Array(2 * MiB).fill(2));
      await store(image).create({ name: "large" });
    });
    const [theirs, shown] = await snapshotContents(path, "1");
    expect(Buffer.compare(shown, theirs)).toBe(0);
    await withImage(path, async (image) => {
      await store(image).apply("1");
      expect(image.disk.length).toBe(40 * KiB);
      expect((await readDisk(image)).every((byte) => byte === 1)).toBe(true);
      await image.disk.pwrite(512, new Uint8Array(512).fill(3));
    });
    await expectClean(path, "applied");
    await must("qemu-img", "snapshot", "-a", "large", path);
    await withImage(path, async (image) => {
      expect(image.disk.length).toBe(2 * MiB);
      expect((await readDisk(image)).every((byte) => byte === 2)).toBe(true);
      await store(image).remove("1");
      await store(image).remove("2");
    });
    await expectClean(path, "removed");
    expect(await must("qemu-img", "snapshot", "-l", path)).toBe("");
  });
});

test("qemu-img tells what we tell of a snapshot", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
    const clock = { vmClockSeconds: 90, vmClockNanoseconds: 5, icount: 7 };
    const made = await withImage(path, (image) => store(image).create({ name: "größer", ...clock }));
    const { snapshots } = JSON.parse(await must("qemu-img", "info", "--output=json", path)) as {
      snapshots: unknown[];
    };
    expect(snapshots).toEqual([
      {
        id: "1",
        name: "größer",
        "vm-state-size": 0,
        "date-sec": made.dateSeconds,
        "date-nsec": made.dateNanoseconds,
        "vm-clock-sec": 90,
        "vm-clock-nsec": 5,
        icount: 7,
      },
    ]);
    await withImage(path, (image) => {
      expect(store(image).list()).toEqual([made]);
      return Promise.resolve();
    });
  });
});

test("refused: a refcount that can't count it, dirty bitmaps, unknown ids, a writable show; the image stays as it was", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", "-o", "refcount_bits=1", path, "1M");
    await must("qemu-io", "-c", "write -P 1 0 1M", path);
    await withImage(path, async (image) => {
      await expect(store(image).create({ name: "a" })).rejects.toMatchObject({ code: "EINVAL" });
      await expect(store(image).create({ name: "a".repeat(256) })).rejects.toMatchObject({ code: "EINVAL" });
      await expect(store(image).apply("1")).rejects.toMatchObject({ code: "ENOENT" });
      await expect(store(image).remove("1")).rejects.toMatchObject({ code: "ENOENT" });
      await expect(store(image).show("1")).rejects.toThrow("Device is not readonly");
      expect((await readDisk(image)).every((byte) => byte === 1)).toBe(true);
      await image.disk.pwrite(0, new Uint8Array(512).fill(2));
    });
    await expectClean(path, "refused");
  });
});

test("a snapshot table that can't be is refused in QEMU's words", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
    await must("qemu-img", "snapshot", "-c", "a", path);
    const image = await readFile(path);
    const table = Number(image.readBigUInt64BE(64));
    image.writeUInt32BE(5000, table + 36);
    await writeFile(path, image);
    const words = "Too much extra metadata in snapshot table entry 0";
    expect((await tool("qemu-img", "info", path)).output).toContain(words);
    await expect(openImage(path)).rejects.toThrow(words);
  });
});

test("a dirty bitmap keeps a snapshot from being applied", async () => {
  await inDirectory(async (directory) => {
    const path = join(directory, "a.qcow2");
    await must("qemu-img", "create", "-q", "-f", "qcow2", path, "1M");
    await must("qemu-img", "snapshot", "-c", "a", path);
    await must("qemu-img", "bitmap", "--add", path, "b");
    await withImage(path, async (image) => {
      if (image.disk.node!.dirtyBitmaps.length === 0) throw new Error("the bitmap was not loaded");
      await expect(store(image).apply("1")).rejects.toThrow("Device has active dirty bitmaps");
    });
  });
});
