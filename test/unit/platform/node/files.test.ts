// Files of the Node host: reads, writes, O_DIRECT, creation, with and without native calls.
import * as fs from "node:fs";
import { execFileSync } from "node:child_process";
import { describe, expect, test } from "vitest";
import type { HostFile } from "../../../../src/base/host.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { codeOf, hasNative, nativeModes, pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const MiB = 1 << 20;

describe.each(nativeModes)("files of Node %s", (_mode, native) => {
  const { files } = nodeHost({ native });
  const own = (name: string): string => path(`${native}-${name}`);
  const nativeHere = native === "auto" && hasNative;

  async function opened(name: string, size: number, write = true): Promise<HostFile> {
    await files.create(own(name), { size });
    return files.open(own(name), { write });
  }

  test("reads back what was written, also through views of a WebAssembly memory", async () => {
    const file = await opened("rw", 0);
    const arena = new Uint8Array(new WebAssembly.Memory({ initial: 4 }).buffer);
    const source = arena.subarray(4096, 4096 + 70_000);
    source.set(pattern(70_000));
    await file.write(source, 12_345);
    expect(await file.size()).toBe(82_345);
    const target = arena.subarray(100_000, 170_000);
    expect(await file.read(target, 12_345)).toBe(70_000);
    expect(target).toEqual(source);
    await file.flush();
    await file.close();
    expect(fs.readFileSync(own("rw")).subarray(12_345)).toEqual(Buffer.from(source));
  });

  test("creating says whether the file was there, and never empties one that is open here, whatever its name", async () => {
    const made = await files.create(own("fresh"), { size: 10 });
    expect(made).toEqual({ made: true, identity: (await files.info(own("fresh"))).identity });
    fs.writeFileSync(own("fresh"), "precious");
    const open = await files.open(own("fresh"), { write: false });
    fs.linkSync(own("fresh"), own("fresh hard"));
    fs.symlinkSync(own("fresh"), own("fresh soft"));
    for (const name of ["fresh", "fresh hard", "fresh soft"]) {
      await expect(files.create(own(name), { size: 0 })).rejects.toMatchObject({ code: "EBUSY", op: "lock" });
      await expect(files.remove(own(name), made)).rejects.toMatchObject({ code: "EBUSY" });
    }
    expect(fs.readFileSync(own("fresh"), "utf8")).toBe("precious");
    await open.close();
    expect(await files.create(own("fresh"), { size: 0 })).toEqual({ ...made, made: false });
    // The name of another file by now.
    fs.rmSync(own("fresh"));
    fs.writeFileSync(own("fresh"), "another's");
    await expect(files.remove(own("fresh"), { identity: "0:0" })).rejects.toMatchObject({ code: "EBUSY" });
    await files.remove(own("fresh"), await files.info(own("fresh")));
    expect(fs.existsSync(own("fresh"))).toBe(false);
  });

  test("who made a file and lost it to another leaves it", async () => {
    const [first, second] = await Promise.allSettled([
      files.create(own("raced"), { size: 1000 }),
      files.create(own("raced"), { size: 1000 }),
    ]);
    const won = [first, second].filter(({ status }) => status === "fulfilled");
    expect(won.length).toBeGreaterThan(0);
    expect(fs.statSync(own("raced")).size).toBe(1000);
  });

  test("tells links from what they lead to, and what is open from what its name leads to", async () => {
    const file = await opened("real", 10);
    fs.symlinkSync(own("real"), own("a link"));
    const real = await files.info(own("real"), { link: true });
    expect(real).toMatchObject({ kind: "file", size: 10, symlink: false });
    expect(await files.info(own("a link"), { link: true })).toEqual({ ...real, symlink: true });
    expect(await files.realPath(own("a link"))).toBe(fs.realpathSync(own("real")));
    fs.renameSync(own("real"), own("moved"));
    fs.writeFileSync(own("real"), "another");
    expect(await file.info!()).toMatchObject({ kind: "file", size: 10, identity: real.identity });
    expect((await files.info(own("real"))).identity).not.toBe(real.identity);
    await file.close();
  });

  test("a read at the end is short and beyond it empty", async () => {
    const file = await opened("short", 1000);
    const buffer = new Uint8Array(4096).fill(7);
    expect(await file.read(buffer, 600)).toBe(400);
    expect(buffer[399]).toBe(0);
    expect(buffer[400]).toBe(7);
    expect(await file.read(buffer, 5000)).toBe(0);
    fs.truncateSync(own("short"), 10);
    expect(await file.read(buffer, 0)).toBe(10);
    await file.close();
  });

  test("many requests at once do not mix", async () => {
    const file = await opened("parallel", 64 * 4096);
    const order = Array.from({ length: 64 }, (_, index) => (index * 37) % 64);
    await Promise.all(order.map(async (block) => file.write(pattern(4096, block), block * 4096)));
    await Promise.all(
      order.map(async (block) => {
        const buffer = new Uint8Array(4096);
        expect(await file.read(buffer, block * 4096)).toBe(4096);
        expect(buffer).toEqual(pattern(4096, block));
      }),
    );
    await file.close();
  });

  test("keeps the errno of failures", async () => {
    expect(await codeOf(files.open(own("missing"), { write: false }))).toBe("ENOENT");
    expect(await codeOf(files.open(own("missing"), { write: true }))).toBe("ENOENT");
    expect(await codeOf(files.open(path(""), { write: true }))).toBe("EISDIR");
    expect(await codeOf(files.open("/dev/null/x", { write: true }))).toBe("ENOTDIR");
    expect(await codeOf(files.open("nul\0byte", { write: true }))).toBe("EINVAL");
    expect(await codeOf(files.info(own("missing")))).toBe("ENOENT");
    const file = await opened("readonly", 4096, false);
    expect(await codeOf(() => file.write(new Uint8Array(1), 0))).toBe("EBADF");
    expect(await codeOf(() => file.read(new Uint8Array(1), -1.5))).toBe("EINVAL");
    await file.close();
    const full = await files.open("/dev/full", { write: true });
    expect(await codeOf(() => full.write(new Uint8Array(1), 0))).toBe("ENOSPC");
    await full.close();
  });

  test("opening a FIFO does not wait for its other end", async () => {
    execFileSync("mkfifo", [own("fifo")]);
    const file = await files.open(own("fifo"), { write: false });
    expect((await files.info(own("fifo"))).kind).toBe("other");
    await file.close();
  });

  test("truncate grows and shrinks; falloc and full reserve blocks and keep the content", async () => {
    for (const preallocation of ["falloc", "full"] as const) {
      const file = await opened(preallocation, 5000);
      await file.write(pattern(5000), 0);
      await file.truncate(3 * MiB, preallocation);
      expect(await file.size()).toBe(3 * MiB);
      expect(await file.allocatedBytes()).toBeGreaterThanOrEqual(3 * MiB);
      const buffer = new Uint8Array(6000);
      await file.read(buffer, 0);
      expect(buffer.subarray(0, 5000)).toEqual(pattern(5000));
      expect(buffer.subarray(5000)).toEqual(new Uint8Array(1000));
      await expect(file.truncate(100, preallocation)).rejects.toThrow(
        "Preallocation can't be used for shrinking files",
      );
      await file.truncate(100);
      expect(await file.size()).toBe(100);
      await file.close();
    }
  });

  test("a length that the filesystem refuses is told in QEMU's words", async () => {
    const file = await opened("huge", 0);
    await expect(file.truncate(2 ** 53 - 2 ** 33)).rejects.toThrow("Could not resize file: File too large");
    await file.close();
  });

  test("setWritable keeps working on the same file, even after it was renamed", async () => {
    const file = await opened("switch", 4096, false);
    fs.renameSync(own("switch"), own("switched"));
    const pending = file.read(new Uint8Array(4096), 0);
    await file.setWritable(true);
    expect(await pending).toBe(4096);
    await file.write(pattern(10), 0);
    await file.setWritable(false);
    expect(await codeOf(() => file.write(pattern(1), 0))).toBe("EBADF");
    await file.close();
    expect(new Uint8Array(fs.readFileSync(own("switched")).subarray(0, 10))).toEqual(pattern(10));
  });

  test("close waits for requests in flight", async () => {
    const file = await opened("closing", MiB);
    const reads = Array.from({ length: 8 }, async (_, at) =>
      file.read(new Uint8Array(MiB / 8), (at * MiB) / 8),
    );
    await file.close();
    expect(await Promise.all(reads)).toEqual(Array.from({ length: 8 }, () => MiB / 8));
  });

  test("create empties an existing file, refuses it when exclusive, and leaves nothing after a failure", async () => {
    fs.writeFileSync(own("there"), "content");
    expect(await codeOf(files.create(own("there"), { size: 10, exclusive: true }))).toBe("EEXIST");
    expect(fs.readFileSync(own("there"), "utf8")).toBe("content");
    await files.create(own("there"), { size: 10 });
    expect(new Uint8Array(fs.readFileSync(own("there")))).toEqual(new Uint8Array(10));
    expect(await codeOf(files.create(own("new"), { size: 2 ** 53 - 2 ** 33 }))).toBe("EFBIG");
    expect(fs.existsSync(own("new"))).toBe(false);
    expect(await codeOf(files.create(own("no/such"), { size: 1 }))).toBe("ENOENT");
  });

  test("create follows a symbolic link to a file that is not there yet", async () => {
    fs.symlinkSync(own("link-target"), own("link"));
    await files.create(own("link"), { size: 20 });
    expect(fs.statSync(own("link-target")).size).toBe(20);
  });

  test("info tells kinds apart and two names of one file alike", async () => {
    await files.create(own("info"), { size: 77 });
    fs.linkSync(own("info"), own("info-too"));
    const info = await files.info(own("info"));
    expect(info).toMatchObject({ kind: "file", size: 77 });
    expect((await files.info(own("info-too"))).identity).toBe(info.identity);
    expect((await files.info(path(""))).kind).toBe("directory");
    expect((await files.info("/dev/null")).kind).toBe("character-device");
    await files.remove(own("info"));
    expect(await codeOf(files.info(own("info")))).toBe("ENOENT");
  });

  test("holes are found and punched, or said to be unknown", async () => {
    const file = await opened("holes", 4 * MiB);
    await file.write(pattern(65_536), MiB);
    if (!nativeHere) {
      expect(await file.extentAt(0)).toBeUndefined();
      expect(await codeOf(file.punchHole(0, 4096))).toBe("ENOTSUP");
      await file.truncate(0);
      await file.write(pattern(MiB), 0);
      expect(await file.extentAt(4096)).toEqual({ data: true, bytes: MiB - 4096 });
      return file.close();
    }
    expect(await file.extentAt(0)).toEqual({ data: true, bytes: 4096 });
    expect(await file.extentAt(4096)).toEqual({ data: false, bytes: MiB - 4096 });
    expect(await file.extentAt(MiB)).toEqual({ data: true, bytes: 65_536 });
    expect(await file.extentAt(2 * MiB)).toEqual({ data: false, bytes: 2 * MiB });
    expect(await file.extentAt(4 * MiB)).toBeUndefined();
    await file.punchHole(MiB, 65_536);
    expect(await file.extentAt(4096)).toEqual({ data: false, bytes: 4 * MiB - 4096 });
    const buffer = new Uint8Array(65_536).fill(1);
    await file.read(buffer, MiB);
    expect(buffer.every((byte) => byte === 0)).toBe(true);
    await file.close();
  });

  test.runIf(nativeHere)(
    "a remembered hole is forgotten when it is written, and never remembered while others may write",
    async () => {
      const file = await opened("cache", 4 * MiB);
      await file.lock({ perm: 3, shared: 1 });
      expect(await file.extentAt(4096)).toEqual({ data: false, bytes: 4 * MiB - 4096 });
      await file.write(pattern(4096), MiB);
      expect(await file.extentAt(4096)).toEqual({ data: false, bytes: MiB - 4096 });
      expect(await file.extentAt(2 * MiB)).toEqual({ data: false, bytes: 2 * MiB });
      await file.lock({ perm: 3, shared: 3 });
      const other = fs.openSync(own("cache"), "r+");
      fs.writeSync(other, pattern(4096), 0, 4096, 2 * MiB);
      fs.closeSync(other);
      expect(await file.extentAt(2 * MiB)).toEqual({ data: true, bytes: 4096 });
      expect(await file.extentAt(3 * MiB)).toEqual({ data: false, bytes: MiB });
      fs.writeFileSync(own("cache"), pattern(4 * MiB));
      expect(await file.extentAt(3 * MiB)).toMatchObject({ data: true });
      await file.close();
    },
  );

  test("direct files name their alignment and take unaligned memory", async () => {
    await files.create(own("direct"), { size: MiB });
    const file = await files.open(own("direct"), { write: true, direct: true });
    expect([512, 4096]).toContain(file.alignment);
    const arena = new Uint8Array(new WebAssembly.Memory({ initial: 2 }).buffer);
    arena.set(pattern(8192));
    await file.write(arena.subarray(0, 8192), 4096);
    // A heap buffer at an odd address: O_DIRECT refuses it, so it goes through an aligned one.
    const odd = new Uint8Array(8192 + 1).subarray(1);
    expect(await file.read(odd, 4096)).toBe(8192);
    expect(odd).toEqual(pattern(8192));
    odd.set(pattern(8192, 9));
    await file.write(odd, 16_384);
    await file.read(arena.subarray(65_536, 65_536 + 8192), 16_384);
    expect(arena.subarray(65_536, 65_536 + 8192)).toEqual(pattern(8192, 9));
    await file.close();
  });

  test("a filesystem without O_DIRECT is named as the reason", async () => {
    await expect(files.open("/proc/version", { write: false, direct: true })).rejects.toThrow(
      "filesystem does not support O_DIRECT",
    );
  });

  test("names are resolved against the directory of the image, unchanged", () => {
    expect(files.resolve("a/b/top.qcow2", "base.raw")).toBe("a/b/base.raw");
    expect(files.resolve("top.qcow2", "../base.raw")).toBe("../base.raw");
    expect(files.resolve("/x/top.qcow2", "../base.raw")).toBe("/x/../base.raw");
    expect(files.resolve("a/top.qcow2", "/base.raw")).toBe("/base.raw");
  });
});
