// Image locks on open file descriptions: who excludes whom.
import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { describe, expect, test } from "vitest";
import type { HostFile } from "../../../../src/base/host.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { ImageLock } from "../../../../src/platform/node/image-lock.ts";
import type { NativeCalls } from "../../../../src/platform/node/native.ts";
import { hasNative, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const READ = 1;
const WRITE = 2;
const RESIZE = 8;
const ALL = 15;

async function pair(name: string): Promise<[HostFile, HostFile]> {
  const { files } = nodeHost();
  await files.create(path(name), { size: 4096 });
  return [await files.open(path(name), { write: true }), await files.open(path(name), { write: false })];
}

describe.skipIf(!hasNative)("image locks", () => {
  test("a writer that shares no writing keeps other writers out, and gives the lock back", async () => {
    const [first, second] = await pair("writers");
    await first.lock({ perm: READ | WRITE, shared: READ });
    const refused = second.lock({ perm: WRITE, shared: ALL });
    await expect(refused).rejects.toMatchObject({
      code: "EAGAIN",
      message: 'Failed to get "write" lock',
      details: { hint: `Is another process using the image [${path("writers")}]?` },
    });
    await second.lock({ perm: READ, shared: ALL });
    await first.lock({ perm: 0, shared: ALL });
    await second.lock({ perm: WRITE, shared: ALL });
    await first.close();
    await second.close();
  });

  // What fork() does to all descriptors until exec().
  test("closing gives the lock back, whoever else has the descriptor", async () => {
    const [first, second] = await pair("inherited");
    await first.lock({ perm: READ | WRITE, shared: READ });
    const writes = (fd: string): boolean =>
      /flags:\s+\d*2$/m.test(fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"));
    const own = fs.readdirSync("/proc/self/fd").find((fd) => {
      const to = fs.readlinkSync(`/proc/self/fd/${fd}`, "utf8");
      return to === fs.realpathSync(path("inherited")) && writes(fd);
    });
    const heir = spawn("sleep", ["600"], { stdio: ["ignore", "ignore", "ignore", Number(own)] });
    try {
      await expect(second.lock({ perm: WRITE, shared: ALL })).rejects.toThrow('"write" lock');
      await first.close();
      await second.lock({ perm: WRITE, shared: ALL });
    } finally {
      heir.kill();
      await second.close();
    }
  });

  test("who shares no writing is refused beside a writer", async () => {
    const [first, second] = await pair("shared");
    await first.lock({ perm: WRITE | RESIZE, shared: ALL });
    await expect(second.lock({ perm: READ, shared: READ })).rejects.toThrow(
      'Failed to get shared "write" lock',
    );
    await expect(second.lock({ perm: READ, shared: READ | WRITE })).rejects.toThrow(
      'Failed to get shared "resize" lock',
    );
    // The refused attempts left nothing behind: the first may still change what it has.
    await first.lock({ perm: READ | WRITE | RESIZE, shared: ALL });
    await first.close();
    await second.close();
  });

  test("a refused change keeps what was held", async () => {
    const [first, second] = await pair("kept");
    await first.lock({ perm: READ, shared: READ });
    await second.lock({ perm: READ, shared: ALL });
    await expect(second.lock({ perm: READ | WRITE, shared: ALL })).rejects.toThrow('"write" lock');
    await first.lock({ perm: READ | WRITE, shared: READ });
    await expect(first.lock({ perm: READ, shared: 0 })).rejects.toThrow(
      'Failed to get shared "consistent read" lock',
    );
    await first.close();
    await second.close();
  });

  test("locks survive the switch between read-only and writable", async () => {
    const [first, second] = await pair("reopened");
    await second.lock({ perm: READ, shared: READ });
    await second.setWritable(true);
    await expect(first.lock({ perm: WRITE, shared: ALL })).rejects.toThrow('Failed to get "write" lock');
    await second.setWritable(false);
    await expect(first.lock({ perm: WRITE, shared: ALL })).rejects.toThrow('Failed to get "write" lock');
    await second.close();
    await first.lock({ perm: WRITE, shared: ALL });
    await first.close();
  });

  test("create does not empty an image in use", async () => {
    const { files } = nodeHost();
    const [first, second] = await pair("in-use");
    await first.write(new Uint8Array([1, 2, 3]), 0);
    await first.lock({ perm: READ, shared: READ });
    await expect(files.create(path("in-use"), { size: 1 })).rejects.toThrow('Failed to get "write" lock');
    expect(fs.readFileSync(path("in-use")).subarray(0, 3)).toEqual(Buffer.from([1, 2, 3]));
    expect(fs.statSync(path("in-use")).size).toBe(4096);
    await first.close();
    await second.close();
  });
});

test("who takes nothing new asks the system nothing, and is not refused for what others hold", () => {
  const calls: string[] = [];
  let isTaken = false;
  const native = {
    lockByte: (_fd: number, offset: number, lock: string): number => {
      calls.push(`${lock} ${offset}`);
      return 0;
    },
    isByteLocked: (_fd: number, offset: number): number => {
      calls.push(`asked ${offset}`);
      return isTaken ? 1 : 0;
    },
  } as unknown as NativeCalls;
  const lock = new ImageLock(native, "image");
  lock.change(3, { perm: READ | WRITE, shared: READ });
  expect(calls).toContain("asked 201");
  calls.length = 0;
  isTaken = true;
  lock.change(3, { perm: READ | WRITE, shared: READ });
  expect(calls).toEqual([]);
  lock.change(3, { perm: READ, shared: READ | WRITE });
  expect(calls).toEqual(["none 101", "none 201"]);
  calls.length = 0;
  expect(() => lock.change(3, { perm: READ | WRITE, shared: READ })).toThrow("Failed to get");
  expect(lock.held).toEqual({ perm: READ, shared: READ | WRITE });
});

test("without native calls a file says that it cannot lock, and only this process's own files conflict", async () => {
  const { files } = nodeHost({ native: "off" });
  await files.create(path("none"), { size: 0 });
  const [first, second] = [
    await files.open(path("none"), { write: true }),
    await files.open(path("none"), { write: true }),
  ];
  expect(first.canLock).toBe(false);
  await first.lock({ perm: WRITE, shared: 0 });
  await expect(second.lock({ perm: WRITE, shared: 0 })).rejects.toMatchObject({
    code: "EAGAIN",
    op: "lock",
    message: 'Failed to get "write" lock',
  });
  // What was refused was not taken, also where a link leads to the file.
  await first.lock({ perm: 0, shared: 15 });
  fs.linkSync(path("none"), path("another name"));
  const third = await files.open(path("another name"), { write: true });
  await third.lock({ perm: WRITE, shared: 15 });
  await expect(first.lock({ perm: 0, shared: 0 })).rejects.toThrow('Failed to get shared "write" lock');
  await third.close();
  await first.lock({ perm: 0, shared: 0 });
  await first.close();
  await second.close();
});
