// The adapters in the hands of the packages that they are for: partitioninfo and ext2fs over toFileDisk(), and
// random-access-storage over toRandomAccess(). The disk is made by sfdisk, mke2fs and qemu-img.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer as collect } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { getPartitions } from "partitioninfo";
import { toFileDisk } from "../../src/adapters/file-disk.ts";
import { createEngine, type Engine, type Node, openNode } from "../../src/node.ts";
import {
  type RandomAccess,
  type RandomAccessCallback,
  toRandomAccess,
} from "../../src/adapters/random-access.ts";

interface Ext2Fs {
  readdir(path: string): Promise<string[]>;
  readFile(path: string, encoding: "utf8"): Promise<string>;
  writeFile(path: string, data: Buffer): Promise<void>;
  unlink(path: string): Promise<void>;
}

// The package brings no types.
const { withMountedDisk } = createRequire(import.meta.url)("ext2fs") as {
  withMountedDisk<T>(
    disk: unknown,
    offset: number,
    body: (fs: { promises: Ext2Fs; trim(): Promise<void> }) => Promise<T>,
  ): Promise<T>;
};

const MiB = 1024 * 1024;
const START = MiB;
const directory = mkdtempSync(join(tmpdir(), "blockwright-adapters-"));
const path = (name: string): string => join(directory, name);
// ext2fs reads text only.
const data = Uint8Array.from({ length: 300_001 }, (_, i) => 32 + (((i * 2654435761) >>> 8) % 95));
let engine: Engine;

beforeAll(() => {
  mkdirSync(path("tree/etc"), { recursive: true });
  writeFileSync(path("tree/etc/motd"), "hello from ext4\n");
  writeFileSync(path("tree/data.bin"), data);
  writeFileSync(path("disk.raw"), "");
  truncateSync(path("disk.raw"), 24 * MiB);
  const table = "label: gpt\nstart=2048, size=40960, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n";
  execFileSync("sfdisk", ["-q", path("disk.raw")], { input: table });
  const where = ["-E", `offset=${START}`, "-d", path("tree"), path("disk.raw"), "20M"];
  execFileSync("mke2fs", ["-q", "-t", "ext4", ...where]);
  for (const [flags, name] of [
    ["-c", "packed"],
    ["-q", "plain"],
  ] as const)
    execFileSync("qemu-img", ["convert", flags, "-O", "qcow2", path("disk.raw"), path(`${name}.qcow2`)]);
  engine = createEngine();
});

afterAll(async () => {
  await engine.close();
  rmSync(directory, { recursive: true, force: true });
});

function open(name: string, write = false): Promise<Node> {
  const file = { driver: "file", filename: path(name) } as const;
  const driver = name.endsWith("qcow2") ? "qcow2" : "raw";
  return openNode({ driver, file, "read-only": !write, discard: "unmap" }, { engine });
}

describe("toFileDisk", () => {
  it.each(["packed.qcow2", "plain.qcow2", "disk.raw"])(
    "lets partitioninfo and ext2fs read %s",
    async (name) => {
      await using node = await open(name);
      const disk = toFileDisk(node);
      expect(await disk.getCapacity()).toBe(24 * MiB);
      const { type, partitions } = await getPartitions(disk);
      expect({ type, partitions }).toMatchObject({
        type: "gpt",
        partitions: [{ offset: START, size: 20 * MiB }],
      });
      await withMountedDisk(disk, START, async ({ promises: fs }) => {
        expect(await fs.readdir("/")).toEqual(expect.arrayContaining(["etc", "data.bin"]));
        expect(await fs.readFile("/etc/motd", "utf8")).toBe("hello from ext4\n");
        expect((await fs.readFile("/data.bin", "utf8")) === new TextDecoder().decode(data)).toBe(true);
      });
    },
  );

  it("lets ext2fs write, and the original finds a clean image and filesystem", async () => {
    const node = await open("plain.qcow2", true);
    const disk = toFileDisk(node);
    await withMountedDisk(disk, START, async ({ promises: fs, trim }) => {
      await fs.writeFile("/written.bin", Buffer.from(data));
      await fs.unlink("/data.bin");
      await trim();
    });
    expect(disk.getDiscardedChunks().length).toBeGreaterThan(0);
    await node.close();
    execFileSync("qemu-img", ["check", "-q", path("plain.qcow2")]);
    execFileSync("qemu-img", ["convert", "-O", "raw", path("plain.qcow2"), path("back.raw")]);
    writeFileSync(path("part.ext4"), readFileSync(path("back.raw")).subarray(START, START + 20 * MiB));
    execFileSync("e2fsck", ["-fn", path("part.ext4")], { stdio: "ignore" });
    execFileSync("debugfs", ["-R", `dump /written.bin ${path("out.bin")}`, path("part.ext4")], {
      stdio: "ignore",
    });
    expect(readFileSync(path("out.bin")).equals(data)).toBe(true);
  });

  it("streams, and reads nothing beyond the end", async () => {
    await using node = await open("packed.qcow2");
    const disk = toFileDisk(node);
    const raw = readFileSync(path("disk.raw"));
    expect((await collect(await disk.getStream(MiB, 3 * MiB))).equals(raw.subarray(MiB, 4 * MiB))).toBe(true);
    const end = 24 * MiB;
    const buffer = Buffer.alloc(100, 7);
    await disk.read(buffer, 0, 100, end - 40);
    expect(buffer.subarray(0, 40).equals(raw.subarray(end - 40))).toBe(true);
    expect(buffer.subarray(40).every((byte) => byte === 7)).toBe(true);
    await disk.read(buffer, 0, 100, end + 5);
    expect(buffer.subarray(40).every((byte) => byte === 7)).toBe(true);
  });

  it("keeps what is written to a read-only node to itself, if asked to", async () => {
    await using node = await open("packed.qcow2");
    const disk = toFileDisk(node, { recordWrites: true });
    expect(disk.readOnly).toBe(true);
    await disk.write(Buffer.from("mine"), 0, 4, 100);
    const buffer = Buffer.alloc(6);
    await disk.read(buffer, 0, 6, 99);
    expect(buffer.toString()).toBe("\0mine\0");
    expect(new TextDecoder().decode(await node.read(100, 4))).toBe("\0\0\0\0");
    await disk.flush();
  });

  it("passes the errors of the node on", async () => {
    const node = await open("packed.qcow2");
    const disk = toFileDisk(node, { readOnly: false });
    await expect(disk.write(Buffer.from("x"), 0, 1, 0)).rejects.toMatchObject({ code: "EPERM" });
    await node.close();
    await expect(disk.read(Buffer.alloc(1), 0, 1, 0)).rejects.toMatchObject({ code: "ENOMEDIUM" });
  });
});

function call<T>(start: (callback: RandomAccessCallback<T>) => void): Promise<T | undefined> {
  return new Promise((resolve, reject) => start((error, value) => (error ? reject(error) : resolve(value))));
}

describe("toRandomAccess", () => {
  const disk = (size: number): Promise<Node> =>
    openNode({ driver: "memory", size, discard: "unmap" }, { engine });
  const read = (storage: RandomAccess, offset: number, size: number): Promise<Uint8Array | undefined> =>
    call((done) => storage.read(offset, size, done));

  it("reads, writes, deletes, tells and sets the length", async () => {
    await using node = await disk(MiB);
    const storage = toRandomAccess(node);
    const { readable, writable, deletable, truncatable, statable, opened } = storage;
    expect([readable, writable, deletable, truncatable, statable]).toEqual([true, true, true, true, true]);
    expect(opened).toBe(false);
    await call((done) => storage.write(70_000, new Uint8Array([1, 2, 3]), done));
    expect(storage.opened).toBe(true);
    expect(await read(storage, 69_999, 5)).toEqual(new Uint8Array([0, 1, 2, 3, 0]));
    await call((done) => storage.del(70_001, 1, done));
    expect(await read(storage, 70_000, 3)).toEqual(new Uint8Array([1, 0, 3]));
    await call((done) => storage.del(70_002, Infinity, done));
    expect(await read(storage, 70_000, 3)).toEqual(new Uint8Array([1, 0, 0]));
    expect(await call((done) => storage.stat(done))).toEqual({ size: MiB });
    await call((done) => storage.truncate(65_536, done));
    expect(await call((done) => storage.stat(done))).toEqual({ size: 65_536 });
    expect(node.length).toBe(65_536);
    await call((done) => storage.del(65_536, 10, done));
  });

  it("queues as the package does: what was asked first is done first around opening and closing", async () => {
    await using node = await disk(4096);
    const storage = toRandomAccess(node);
    const events: string[] = [];
    for (const name of ["open", "suspend", "unsuspend", "close"] as const)
      storage.on(name, () => events.push(name));
    storage.write(0, new Uint8Array([5]), () => events.push("written"));
    storage.suspend();
    storage.read(0, 1, (_error, bytes) => events.push(`read ${bytes?.[0]}`));
    await call((done) => storage.close(done));
    expect(events).toEqual(["open", "written", "suspend", "unsuspend", "read 5", "close"]);
    await expect(read(storage, 0, 1)).rejects.toThrow("Closed");
    expect(await node.read(0, 1)).toEqual(new Uint8Array([5]));
  });

  it("fails with the node's errors", async () => {
    await using node = await disk(4096);
    const storage = toRandomAccess(node);
    await expect(read(storage, 4090, 10)).rejects.toMatchObject({ code: "EIO" });
    await expect(call((done) => storage.write(4096, new Uint8Array(1), done))).rejects.toMatchObject({
      code: "EIO",
    });
    await expect(call((done) => storage.unlink(done))).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  it("has nothing that changes a read-only node, and closes the node if asked to", async () => {
    const node = await open("packed.qcow2");
    const storage = toRandomAccess(node, { closeNode: true });
    expect([storage.readable, storage.writable, storage.deletable]).toEqual([true, false, false]);
    await expect(call((done) => storage.write(0, new Uint8Array(1), done))).rejects.toThrow("Not writable");
    await expect(call((done) => storage.truncate(0, done))).rejects.toThrow();
    expect((await read(storage, 510, 2))?.[1]).toBe(0xaa);
    await call((done) => storage.close(done));
    expect(() => node.length).toThrow("closed");
  });
});
