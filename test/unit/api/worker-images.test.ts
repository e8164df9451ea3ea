// Whole images of an engine behind a port: check, compare, convert, resize and import do what the library's functions do, tell what they
// tell, and fail as they fail. Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Engine,
  type RemoteDisk,
  type RemoteEngine,
  connectEngine,
  createEngine,
  importImage,
  listImages,
  openNode,
  serveEngine,
} from "../../../src/browser.ts";
import { serveCalls } from "../../../src/api/worker/service.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;
let remote: RemoteEngine;
let served: Promise<void>;

beforeEach(async () => {
  engine = createEngine({ arenaBytes: 8 * MiB });
  const { port1, port2 } = new MessageChannel();
  served = serveEngine(port1, engine);
  remote = await connectEngine(port2);
});

afterEach(async () => {
  await remote.close();
  await served;
});

/** A memory node with a name, which stays while the engine does. */
async function storage(name: string, size: number): Promise<RemoteDisk> {
  return remote.open({ driver: "memory", size, "node-name": name } as never);
}

/** A new qcow2 image in memory, open. */
async function image(name: string, size: number): Promise<RemoteDisk> {
  await storage(`${name}-file`, 0);
  await remote.createImage({ driver: "qcow2", file: `${name}-file`, size } as never);
  return remote.open({ driver: "qcow2", file: `${name}-file`, "node-name": name } as never);
}

/** All bytes of a node as it is now. */
async function bytesOf(name: string): Promise<Uint8Array<ArrayBuffer>> {
  await using disk = await remote.disk(name);
  return disk.read(0, disk.length);
}

describe("convert and compare", () => {
  it("copy a disk, tell how far they are, and find the first difference", async () => {
    const [source, target] = [await storage("source", 2 * MiB), await image("target", 2 * MiB)];
    await source.write(MiB, pattern(64 * KiB, 3));
    const told: number[] = [];
    await remote.convert(source, "target", { onProgress: (done, total) => told.push(done / total) });
    expect(told.at(-1)).toBe(1);
    expect(told.length).toBeGreaterThan(1);
    expect(same(await target.read(MiB, 64 * KiB), pattern(64 * KiB, 3))).toBe(true);
    expect(await remote.compare(source, target)).toEqual({ identical: true, sizesDiffer: false });
    await target.write(MiB + 4096, new Uint8Array(512));
    const options = { onProgress: (done: number) => told.push(done) };
    expect(await remote.compare("source", target, options)).toMatchObject({
      identical: false,
      mismatch: "content",
      offset: MiB + 4096,
    });
    const behind = await remote.compare(source, target, { offset: 2 * MiB - 512 });
    expect(behind.identical).toBe(true);
  });

  it("put several disks end to end, and pass over what can't be read", async () => {
    await (await storage("below", MiB)).write(0, new Uint8Array(MiB).fill(9));
    await remote.qmp.execute("blockdev-add", {
      driver: "blkdebug",
      "node-name": "bad",
      image: "below",
      "inject-error": [
        { event: "none", iotype: "read", errno: 5, sector: 8, once: false, immediately: false },
      ],
    } as never);
    const target = await storage("target", 2 * MiB);
    await target.write(0, new Uint8Array(2 * MiB).fill(7));
    const good = await storage("good", MiB);
    await good.write(0, pattern(4096, 1));
    const unread: unknown[] = [];
    const salvage = (range: { step: string; offset: number; error: unknown }): void =>
      void unread.push([range.step, range.offset, (range.error as Error).message]);
    await remote.convert(["bad", good], target, { salvage, sparseBytes: 0 });
    expect(unread).toEqual([["read", 4096, "Input/output error"]]);
    expect(same(await target.read(MiB, 4096), pattern(4096, 1))).toBe(true);
    await expect(remote.convert(["bad"], target, { sparseBytes: 0 })).rejects.toMatchObject({
      name: "BlockError",
      code: "EIO",
      op: "convert",
    });
    await expect(remote.compare("bad", target)).rejects.toMatchObject({ code: "EIO", op: "compare" });
  });

  it("refuse what the functions refuse, by their words", async () => {
    const disk = await storage("disk", MiB);
    await expect(remote.convert("nobody", disk)).rejects.toThrow("nor node-name='nobody'");
    await expect(remote.convert(disk, disk, { compres: true } as never)).rejects.toThrow(
      "Parameter 'compres' is unexpected",
    );
    await expect(remote.compare(disk, {} as never)).rejects.toThrow("expected: RemoteDisk or a node's name");
    const abort = new AbortController();
    abort.abort(new Error("changed my mind"));
    await expect(remote.compare(disk, disk, { signal: abort.signal })).rejects.toThrow("changed my mind");
  });
});

it("open takes a name, too, and refuses what is none", async () => {
  await expect(remote.open("")).rejects.toThrow("An image's name is empty");
  await expect(remote.open(new URL("nothing://there"))).rejects.toThrow("Unknown protocol 'nothing'");
  const abort = new AbortController();
  abort.abort(new Error("changed my mind"));
  await expect(remote.open("nothing://there", { signal: abort.signal })).rejects.toThrow("changed my mind");
});

it("resize sets the length, of the handle too", async () => {
  const disk = await image("disk", MiB);
  await remote.resize(disk, 3 * MiB);
  expect(disk.length).toBe(3 * MiB);
  expect(await disk.read(2 * MiB, 512)).toEqual(new Uint8Array(512));
  await expect(remote.resize("disk", 3 * MiB + 1)).rejects.toThrow("multiple of 512");
});

it("check finds what is wrong, and tells it", async () => {
  const disk = await image("disk", MiB);
  await disk.write(0, pattern(64 * KiB, 5));
  await disk.close();
  const bytes = await bytesOf("disk-file");
  // A reference on a cluster that nothing uses.
  const view = new DataView(bytes.buffer);
  const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
  let last = 0;
  for (let at = block; at < block + 64 * KiB; at += 2) if (view.getUint16(at) > 0) last = at;
  view.setUint16(last + 2, 1);
  const blob = new Blob([bytes, new Uint8Array(64 * KiB)]);
  const messages: string[] = [];
  const found = await remote.check(
    { driver: "qcow2", file: { driver: "blob", blob, "read-only": true } } as never,
    { onMessage: (text) => messages.push(text) },
  );
  expect(found).toMatchObject({ leaks: 1, corruptions: 0 });
  expect(messages).toHaveLength(1);
  expect(messages[0]).toContain("Leaked cluster");
  await expect(remote.check({ driver: "raw", file: "disk-file" } as never)).rejects.toMatchObject({
    code: "ENOTSUP",
  });
});

describe("importImage", () => {
  it("copies what is in a Blob into a new image: raw bytes, and a format that it finds", async () => {
    const bytes = new Uint8Array(MiB);
    bytes.set(pattern(64 * KiB, 9), 512 * KiB);
    await storage("first", 0);
    const told: number[] = [];
    await remote.importImage(
      new Blob([bytes]),
      { driver: "qcow2", file: "first" },
      {
        onProgress: (done, total) => told.push(done / total),
      },
    );
    expect(told.at(-1)).toBe(1);
    const qcow2 = new Blob([await bytesOf("first")]);
    expect(qcow2.size).toBeLessThan(MiB);
    await storage("second", 0);
    await importImage(qcow2, { driver: "qcow2", file: "second", size: 2 * MiB }, { engine });
    await using disk = await openNode({ driver: "qcow2", file: "second" }, { engine });
    expect(disk.length).toBe(2 * MiB);
    expect(same(await disk.read(0, MiB), bytes)).toBe(true);
  });

  it("refuses formats that it can't read, and images that need another", async () => {
    const vmdk = new Uint8Array(4096);
    vmdk.set(new TextEncoder().encode("KDMV"));
    await storage("target", 0);
    const spec = { driver: "qcow2", file: "target" } as const;
    await expect(remote.importImage(new Blob([vmdk]), spec)).rejects.toMatchObject({ code: "ENOTSUP" });
    await storage("empty", 0);
    await remote.createImage({
      driver: "qcow2",
      file: "empty",
      size: MiB,
      "backing-file": "base.img",
      "backing-fmt": "raw",
    } as never);
    const overlay = new Blob([await bytesOf("empty")]);
    await expect(remote.importImage(overlay, spec)).rejects.toThrow("base.img");
  });
});

it("a worker that serves guests' disks alone says that it has none of these", async () => {
  const guests = createEngine({ arenaBytes: 8 * MiB });
  const { port1, port2 } = new MessageChannel();
  const over = serveCalls(port1, guests, {
    monitor: async () => undefined,
  });
  const { RemoteImages } = await import("../../../src/api/worker/remote-images.ts");
  const { PortCaller } = await import("../../../src/api/worker/port.ts");
  const caller = new PortCaller(port2);
  const images = new RemoteImages(caller as never);
  await expect(images.compare("a", "b", {})).rejects.toThrow("knows no call 'compare'");
  caller.end(new Error("over"));
  await over;
});

describe("listImages", () => {
  it("says what the host's stores hold, and of one store what is asked for", async () => {
    const disks = [
      { driver: "indexeddb", filename: "a", storedBytes: 65_536 },
      { driver: "opfs", filename: "b/c", storedBytes: 4096 },
    ] as const;
    const own = createEngine();
    Object.assign(own.graph.host, { storedDisks: async () => disks });
    const images = disks.map(({ driver, filename, storedBytes }) => ({
      file: { driver, filename },
      storedBytes,
    }));
    expect(await listImages({ engine: own })).toEqual(images);
    expect(await listImages({ engine: own, driver: "opfs" })).toEqual([images[1]]);
    const stop = AbortSignal.abort(new Error("left"));
    await expect(listImages({ engine: own, signal: stop })).rejects.toThrow("left");
    await own.close();
  });

  it("is refused by name where there are no stores", async () => {
    const own = createEngine();
    Object.assign(own.graph.host, { storedDisks: undefined });
    await expect(listImages({ engine: own })).rejects.toMatchObject({ code: "ENOTSUP" });
    await own.close();
  });
});
