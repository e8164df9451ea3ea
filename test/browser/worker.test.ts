// The engine in a real dedicated worker of Chromium: started by the library's hook or by its user, failing, killed, left.
import { afterEach, describe, expect, it } from "vitest";
import {
  type RemoteEngine,
  type StoredImage,
  connectWorker,
  listImages,
  persistStorage,
  storageStatus,
} from "../../src/browser.ts";
import { pattern, same } from "../unit/support/graph.ts";

const MiB = 1024 ** 2;
const workers: Worker[] = [];

function start(script: URL): Worker {
  const worker = new Worker(script, { type: "module" });
  workers.push(worker);
  return worker;
}

const plainWorker = (): Worker => start(new URL("../../src/worker.ts", import.meta.url));
const lateWorker = (): Worker => start(new URL("./support/late-worker.ts", import.meta.url));
const ownWorker = (): Worker => start(new URL("./support/own-worker.ts", import.meta.url));

afterEach(() => {
  for (const worker of workers.splice(0)) worker.terminate();
});

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** A disk whose second request waits for many seconds. */
async function slowDisk(engine: RemoteEngine): ReturnType<RemoteEngine["disk"]> {
  const limits = { "bps-total": 17_000 };
  await engine.qmp.execute("object-add", { "qom-type": "throttle-group", id: "slow", limits });
  const file = { driver: "memory", size: 4 * MiB } as const;
  const disk = await engine.open({ driver: "throttle", "throttle-group": "slow", file });
  await disk.read(0, MiB / 4);
  return disk;
}

describe("a worker", () => {
  it("is started, serves QMP and disks, and ends with its engine", async () => {
    const engine = await connectWorker(undefined, { createWorker: plainWorker });
    expect((await engine.qmp.execute("query-status")).status).toBe("running");
    const disk = await engine.open({ driver: "memory", size: MiB }, { shared: crossOriginIsolated });
    expect(disk.isShared).toBe(true);
    await disk.write(4096, pattern(100_000, 8));
    expect(same(await disk.read(4096, 100_000), pattern(100_000, 8))).toBe(true);
    await engine.close();
    expect(await engine.ended).toMatchObject({ code: "ENOMEDIUM" });
  });

  it("makes and removes images in the private file system", async () => {
    const engine = await connectWorker(undefined, { createWorker: plainWorker });
    const file = { driver: "opfs", filename: "worker-removes/disk" } as const;
    await engine.createImage({ driver: "qcow2", file, size: MiB }, { overwrite: true });
    const disk = await engine.open({ driver: "qcow2", file });
    expect(await rejection(engine.removeImage(file))).toMatchObject({ code: "EAGAIN" });
    await disk.close();
    await engine.removeImage(file);
    expect(await rejection(engine.open({ driver: "qcow2", file }))).toMatchObject({ code: "ENOENT" });
    await engine.close();
  });

  it("has an arena of the size that the page asks for", async () => {
    // A slot of the arena holds what one request moves: less of it, and the same disk is copied in smaller pieces.
    const small = await connectWorker(undefined, { createWorker: plainWorker, arenaBytes: 2 * MiB });
    const file = await small.open({ driver: "memory", size: MiB });
    const copy = await small.open({ driver: "memory", size: MiB });
    await file.write(0, pattern(MiB, 3));
    await small.convert(file, copy);
    expect(await small.compare(file, copy)).toEqual({ identical: true, sizesDiffer: false });
    await small.close();
    const huge = connectWorker(undefined, { createWorker: plainWorker, arenaBytes: 2 ** 45 });
    expect(await rejection(huge)).toMatchObject({ code: "EIO" });
    expect(String(await rejection(huge))).toContain("arenaBytes must be");
    const { port1 } = new MessageChannel();
    expect(await rejection(connectWorker(port1, { arenaBytes: MiB }))).toMatchObject({ code: "EINVAL" });
  });

  it("imports a File into the private file system, and checks what it made", async () => {
    const engine = await connectWorker(undefined, { createWorker: plainWorker });
    const file = { driver: "opfs", filename: "worker-imports/disk" } as const;
    const bytes = pattern(300_000, 4);
    const picked = new File([bytes.slice()], "disk.img");
    await engine.importImage(picked, { driver: "qcow2", file, size: MiB }, { overwrite: true });
    expect(await engine.check({ driver: "qcow2", file })).toMatchObject({ corruptions: 0, leaks: 0 });
    const disk = await engine.open({ driver: "qcow2", file });
    expect(same(await disk.read(0, 299_520), bytes.subarray(0, 299_520))).toBe(true);
    await disk.close();
    await engine.removeImage(file);
    await engine.close();
  });

  it("lists what lies in the stores, open or not, and what the page makes there itself not", async () => {
    const engine = await connectWorker(undefined, { createWorker: lateWorker });
    const file = { driver: "opfs", filename: "worker-lists/deep/disk" } as const;
    const database = { driver: "indexeddb", filename: "worker-lists-database" } as const;
    const ours = ({ file: { filename } }: StoredImage): boolean => filename.startsWith("worker-lists");
    await engine.createImage({ driver: "qcow2", file, size: MiB }, { overwrite: true });
    await engine.createImage({ driver: "raw", file: database, size: MiB }, { overwrite: true });
    const root = await navigator.storage.getDirectory();
    const own = await root.getDirectoryHandle("worker-lists-own", { create: true });
    await own.getFileHandle("map", { create: true });
    const disk = await engine.open({ driver: "qcow2", file });
    await disk.write(0, pattern(300_000, 5));
    await disk.flush();
    const found = (await engine.listImages()).filter(ours);
    expect(found.map((image) => image.file)).toEqual([database, file]);
    // What was written, and less than the whole disk.
    expect(found[1]!.storedBytes).toBeGreaterThan(300_000);
    expect(found[1]!.storedBytes).toBeLessThan(2 * MiB);
    // The page sees the same without a worker.
    expect((await listImages()).filter(ours)).toEqual(found);
    expect((await listImages({ driver: "indexeddb" })).filter(ours)).toEqual([found[0]]);
    await disk.close();
    for (const image of found) await engine.removeImage(image.file);
    await root.removeEntry("worker-lists-own", { recursive: true });
    expect((await engine.listImages()).filter(ours)).toEqual([]);
    expect(await rejection(engine.listImages({ driver: "file" as never }))).toMatchObject({ code: "EINVAL" });
    await engine.close();
  });

  it("of one's own brings its engine, which stays for the next page", async () => {
    const worker = ownWorker();
    const first = await connectWorker(worker);
    await first.qmp.execute("blockdev-add", { driver: "memory", size: MiB, "node-name": "kept" });
    first.fail(new Error("gone"));
    const second = await connectWorker(worker);
    expect((await second.disk("kept")).length).toBe(MiB);
    const count = new Promise((resolve) => worker.addEventListener("message", ({ data }) => resolve(data)));
    worker.postMessage("count");
    expect(await count).toBe(2);
  });

  it("that fails rejects what is pending, with its words", async () => {
    const worker = ownWorker();
    const engine = await connectWorker(worker);
    const disk = await slowDisk(engine);
    const read = rejection(disk.read(0, MiB));
    const command = rejection(engine.qmp.execute("query-status").then(() => engine.qmp.execute("stop")));
    worker.addEventListener("error", (event) => event.preventDefault());
    worker.postMessage("fail");
    expect(await read).toMatchObject({ code: "EIO" });
    expect((await engine.ended).message).toMatch(/^the worker has failed: .*this worker is broken/);
    expect(await rejection(engine.disk("kept"))).toMatchObject({ code: "EIO" });
    await command;
  });

  it("that is killed rejects what is pending", async () => {
    const worker = plainWorker();
    const engine = await connectWorker(worker);
    const disk = await slowDisk(engine);
    const reads = [0, 1, 2].map((at) => rejection(disk.read(at * MiB, MiB)));
    worker.terminate();
    for (const error of await Promise.all(reads)) expect(error).toMatchObject({ code: "EIO" });
    expect(await rejection(engine.qmp.execute("query-status"))).toBeInstanceOf(Error);
    expect(await engine.ended).toMatchObject({ message: "the worker has gone" });
  });

  it("that does not start, or is not awaited, is told of", async () => {
    const missing = (): Worker => start(new URL(`${location.origin}/no/such/worker.js`));
    const error = await rejection(connectWorker(undefined, { createWorker: missing }));
    expect(error).toMatchObject({ code: "EIO", message: "the worker could not be started" });
    const why = new Error("not now");
    const signal = AbortSignal.abort(why);
    await expect(connectWorker(undefined, { createWorker: plainWorker, signal })).rejects.toBe(why);
    const abort = new AbortController();
    const connecting = connectWorker(undefined, { createWorker: plainWorker, signal: abort.signal });
    abort.abort(why);
    await expect(connecting).rejects.toBe(why);
  });
});

describe("a page", () => {
  it("that is left closes its images; one that may come back does not", async () => {
    const worker = ownWorker();
    const engine = await connectWorker(worker);
    await engine.open({ driver: "memory", size: MiB, "node-name": "mine" });
    dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true }));
    expect((await engine.qmp.execute("query-named-block-nodes")).length).toBe(1);
    dispatchEvent(new PageTransitionEvent("pagehide", { persisted: false }));
    expect((await engine.ended).message).toBe("the page was left");
    const next = await connectWorker(worker);
    expect(await rejection(next.disk("mine"))).toMatchObject({ name: "CommandError" });
  });

  it("that is hidden has its disks flushed", async () => {
    const engine = await connectWorker(ownWorker());
    const flush = { event: "none", iotype: "flush", errno: 5, once: true } as const;
    const image = { driver: "memory", size: MiB } as const;
    const disk = await engine.open({ driver: "blkdebug", image, "inject-error": [flush] });
    await disk.write(0, pattern(512, 1));
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
    Reflect.deleteProperty(document, "visibilityState");
    // The one error of a flush has been used up by then.
    await disk.flush();
    await engine.close();
  });

  it("learns of its storage, and may ask for it to be kept", async () => {
    const status = await storageStatus();
    expect(status.quotaBytes).toBeGreaterThan(MiB);
    expect(status.usageBytes).toBeGreaterThanOrEqual(0);
    expect(await persistStorage()).toBe((await storageStatus()).isPersistent);
  });
});
