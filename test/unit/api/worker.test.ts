// The engine behind a port and its client, in one thread: QMP, disks with and without shared memory, order, limits, errors
// and ends. Runs in Node and in Chromium.
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  BlockError,
  CommandError,
  type DriverType,
  type Engine,
  type RemoteEngine,
  connectEngine,
  createEngine,
  portConnection,
  serveEngine,
} from "../../../src/browser.ts";
import { memory } from "../../../src/drivers/protocol/memory.ts";
import { KiB, MiB, pattern, same } from "../support/graph.ts";

let engine: Engine;
let remote: RemoteEngine;
let served: Promise<void>;
let stop: AbortController;
const faults: unknown[] = [];

/** Requests of the driver `held` wait while `hold` is set; it counts how many are under way. */
const held = { underWay: 0, most: 0, hold: undefined as Promise<void> | undefined };

const heldDriver: DriverType = {
  name: "held",
  kind: "protocol",
  async open(context, spec) {
    const below = await memory.open(context, spec);
    const wait = async (): Promise<void> => {
      held.underWay += 1;
      held.most = Math.max(held.most, held.underWay);
      await held.hold;
      held.underWay -= 1;
    };
    return {
      length: () => below.length(),
      pread: async (offset, buffer, flags) => {
        await wait();
        await below.pread(offset, buffer, flags);
      },
      pwrite: async (offset, buffer, flags) => {
        await wait();
        await below.pwrite!(offset, buffer, flags);
      },
      flush: wait,
    };
  },
};

type Wrong = (...given: unknown[]) => Promise<unknown>;

function held_(size: number): never {
  return { driver: "held", size } as never;
}

function gate(): () => void {
  let open!: () => void;
  held.hold = new Promise((resolve) => {
    open = resolve;
  });
  return () => {
    held.hold = undefined;
    open();
  };
}

beforeEach(async () => {
  faults.length = 0;
  Object.assign(held, { underWay: 0, most: 0, hold: undefined });
  engine = createEngine({ arenaBytes: 16 * MiB, drivers: [heldDriver] });
  stop = new AbortController();
  const { port1, port2 } = new MessageChannel();
  const onFault = (error: unknown): number => faults.push(error);
  served = serveEngine(port2, engine, { signal: stop.signal, onFault });
  remote = await connectEngine(port1);
});

afterEach(async () => {
  await remote.close().catch(() => undefined);
  await served;
  expect(engine.graph.nodes.length).toBe(0);
  expect(faults).toEqual([]);
});

async function rejection(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => undefined,
    (error: unknown) => error,
  );
}

describe("QMP over a port", () => {
  it("runs typed commands, hears events and carries errors with their class", async () => {
    const { qmp } = remote;
    await qmp.execute("blockdev-add", { driver: "memory", size: MiB, "node-name": "base" });
    await qmp.execute("blockdev-add", { driver: "memory", size: 0, "node-name": "store" });
    await remote.createImage({ driver: "qcow2", file: "store", size: MiB });
    const spec = { driver: "qcow2", file: "store", backing: "base", "node-name": "top" } as const;
    await qmp.execute("blockdev-add", spec);
    const completed = new Promise((resolve) => qmp.on("BLOCK_JOB_COMPLETED", ({ data }) => resolve(data)));
    await qmp.execute("block-stream", { device: "top", "job-id": "fill" });
    expect(await completed).toMatchObject({ device: "fill", len: MiB, offset: MiB });
    const refused = await rejection(qmp.execute("job-pause", { id: "none" }));
    expect(refused).toBeInstanceOf(CommandError);
    expect(refused).toMatchObject({ message: "Job not found", qmpClass: "GenericError" });
  });

  it("takes objects and text from a client that is not ours", async () => {
    const { port1, port2 } = new MessageChannel();
    const connection = portConnection(port2);
    const lines: string[] = [];
    port1.addEventListener("message", (event) => lines.push((event as MessageEvent<string>).data));
    port1.start();
    port1.postMessage({ execute: "a" });
    port1.postMessage('{"execute": "b"}\n');
    port1.postMessage(null);
    const got = [];
    for await (const bytes of connection.incoming) got.push(new TextDecoder().decode(bytes).trim());
    expect(got).toEqual(['{"execute":"a"}', '{"execute": "b"}']);
    await expect(connection.write(new Uint8Array(1))).rejects.toThrow("the port is closed");
  });
});

it("a remote disk copies where there is no shared memory, as on a page that is not cross-origin isolated", async () => {
  vi.stubGlobal("SharedArrayBuffer", undefined);
  try {
    await using disk = await remote.open({ driver: "memory", size: MiB }, { shared: true });
    expect(disk.isShared).toBe(false);
    await disk.write(512, pattern(4096, 3));
    expect(same(await disk.read(512, 4096), pattern(4096, 3))).toBe(true);
  } finally {
    vi.unstubAllGlobals();
  }
});

describe.each([
  ["transferred buffers", false],
  ["shared memory", true],
])("a remote disk with %s", (_name, shared) => {
  it("reads what was written, in any size, and tells what it is", async () => {
    await using disk = await remote.open(
      { driver: "memory", size: 3 * MiB, discard: "unmap", "node-name": "d" },
      { shared, pieceBytes: 64 * KiB, maxInFlight: 3 },
    );
    expect([disk.name, disk.length, disk.readOnly, disk.isShared]).toEqual(["d", 3 * MiB, false, shared]);
    const data = pattern(MiB + 777, 5);
    const kept = data.slice();
    const written = disk.write(1000, data);
    data.fill(0); // The call has copied it.
    await written;
    expect(same(await disk.read(1000, kept.length), kept)).toBe(true);
    const into = new Uint8Array(100);
    expect(await disk.read(1000, into)).toBe(into);
    expect(same(into, kept.subarray(0, 100))).toBe(true);
    await disk.writeZeroes(1000, 50, { unmap: true });
    expect(same(await disk.read(1000, 50), new Uint8Array(50))).toBe(true);
    await disk.discard(0, 3 * MiB);
    await disk.flush();
    expect(same(await disk.read(1000, 4096), new Uint8Array(4096))).toBe(true);
    expect(await disk.read(0, 0)).toHaveLength(0);
  });

  it("tells of a wrong argument by its name, as a node does", async () => {
    await using disk = await remote.open(held_(64 * KiB), { shared });
    const wrong = disk as unknown as Record<"read" | "write" | "writeZeroes" | "discard", Wrong>;
    const refusals: [Promise<unknown>, string][] = [
      [wrong.write(0, "hi"), "'data', expected: Uint8Array (new TextEncoder().encode(text) makes one)"],
      [wrong.write("0", new Uint8Array(1)), "'offset', expected: number"],
      [
        wrong.write(0, new ArrayBuffer(1)),
        "'data', expected: Uint8Array (new Uint8Array() over its buffer makes one)",
      ],
      [wrong.read(0, -1), "'bytes' expects a number of bytes below 2^32, not -1"],
      [wrong.read(0, undefined), "'bytes', expected: number or Uint8Array"],
      [wrong.read(undefined, 1), "'offset', expected: number"],
      [wrong.writeZeroes(0, undefined), "'bytes', expected: number"],
      [wrong.discard(undefined, 1), "'offset', expected: number"],
    ];
    for (const [call, words] of refusals) await expect(call).rejects.toThrow(words);
    // It goes on.
    await disk.write(0, pattern(512, 2));
    expect(same(await disk.read(0, 512), pattern(512, 2))).toBe(true);
  });

  it("keeps the order of requests that overlap", async () => {
    await using disk = await remote.open(held_(64 * KiB), { shared });
    const open = gate();
    const all = [1, 2, 3].map((value) => disk.write(0, new Uint8Array(4096).fill(value)));
    const first = disk.read(0, 4096);
    const fourth = disk.write(2048, new Uint8Array(4096).fill(4));
    const second = disk.read(0, 8192);
    open();
    await Promise.all([...all, fourth]);
    expect(new Set(await first)).toEqual(new Set([3]));
    const bytes = await second;
    expect([bytes[0], bytes[2047], bytes[2048], bytes[6143], bytes[6144]]).toEqual([3, 3, 4, 4, 0]);
  });

  it("keeps to its number of requests under way", async () => {
    await using disk = await remote.open(held_(MiB), { shared, maxInFlight: 4, pieceBytes: 4 * KiB });
    const open = gate();
    const read = disk.read(0, 256 * KiB);
    const writes = disk.write(512 * KiB, pattern(256 * KiB, 1));
    while (held.underWay < 4) await new Promise((resolve) => setTimeout(resolve, 1));
    open();
    await Promise.all([read, writes]);
    expect(held.most).toBe(4);
  });

  it("ends a read by its signal, with the signal's reason, and goes on", async () => {
    await using disk = await remote.open(held_(MiB), { shared, maxInFlight: 2 });
    const open = gate();
    const abort = new AbortController();
    const reads = [0, 1, 2].map((n) => disk.read(n * KiB, KiB, { signal: abort.signal }));
    const why = new Error("the guest reset its drive");
    abort.abort(why);
    expect(await Promise.all(reads.map(rejection))).toEqual([why, why, why]);
    await expect(disk.read(0, 1, { signal: AbortSignal.abort(why) })).rejects.toBe(why);
    open();
    await disk.write(0, pattern(KiB, 9));
    expect(same(await disk.read(0, KiB), pattern(KiB, 9))).toBe(true);
  });

  it("carries errors with their errno, place and words", async () => {
    const full = { event: "none", iotype: "write", errno: 28, once: true, sector: 8 } as const;
    const spec = { driver: "blkdebug", image: { driver: "memory", size: MiB }, "inject-error": [full] };
    await using disk = await remote.open(spec as never, { shared });
    const error = await rejection(disk.write(4096, pattern(512, 1)));
    expect(error).toBeInstanceOf(BlockError);
    expect(error).toMatchObject({ code: "ENOSPC", message: "No space left on device" });
    const outside = await rejection(disk.read(MiB - 1, 2));
    expect(outside).toMatchObject({ code: "EIO", op: "pread", offset: MiB - 1, bytes: 2, node: disk.name });
    await disk.write(4096, pattern(512, 1));
  });

  it("streams, and tells its map and its new length", async () => {
    await using disk = await remote.open({ driver: "memory", size: MiB, "node-name": "d" }, { shared });
    const writer = disk.writable({ offset: 512 * KiB }).getWriter();
    await writer.write(pattern(100 * KiB, 3));
    await writer.close();
    const chunks = [];
    const reader = disk.readable({ offset: 512 * KiB, length: 100 * KiB }).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) chunks.push(next.value);
    expect(same(chunks[0]!, pattern(100 * KiB, 3))).toBe(true);
    const extents = [];
    for await (const { offset, data } of disk.map()) extents.push([offset, data]);
    expect(extents.slice(0, 2)).toEqual([
      [0, false],
      [512 * KiB, true],
    ]);
    expect((await disk.info())["virtual-size"]).toBe(MiB);
    await remote.qmp.execute("block_resize", { "node-name": "d", size: 2 * MiB });
    await disk.flush();
    expect(disk.length).toBe(2 * MiB);
  });
});

describe("handles", () => {
  it("are given on nodes that exist, and refused on others", async () => {
    await remote.qmp.execute("blockdev-add", { driver: "memory", size: MiB, "node-name": "d" });
    await using one = await remote.disk("d");
    await using two = await remote.disk("d");
    await one.write(0, pattern(512, 2));
    expect(same(await two.read(0, 512), pattern(512, 2))).toBe(true);
    expect(await rejection(two.write(0, pattern(512, 3)))).toMatchObject({ code: "EPERM" });
    expect(await rejection(remote.disk("none"))).toMatchObject({ name: "CommandError" });
    expect(await rejection(remote.disk("d", { maxInFlight: 65 }))).toMatchObject({ code: "EINVAL" });
    expect(await rejection(remote.disk("d", { pieceBytes: 8 * MiB }))).toMatchObject({ code: "EINVAL" });
  });

  it("close after their requests, and refuse more", async () => {
    const disk = await remote.open(held_(MiB));
    const open = gate();
    const written = disk.write(0, pattern(4096, 1));
    const again = disk.write(0, pattern(4096, 2));
    const closed = disk.close();
    open();
    await Promise.all([written, again, closed]);
    expect(await rejection(disk.read(0, 1))).toMatchObject({ code: "ENOMEDIUM" });
    await disk.close();
    expect(engine.graph.nodes.length).toBe(0);
  });

  it("report a failed flush when they close", async () => {
    const flush = { event: "none", iotype: "flush", errno: 28, once: true } as const;
    const spec = { driver: "blkdebug", image: { driver: "memory", size: MiB }, "inject-error": [flush] };
    const disk = await remote.open(spec as never);
    await disk.write(0, pattern(512, 1));
    expect(await rejection(disk.close())).toMatchObject({ code: "ENOSPC" });
  });
});

describe("the end", () => {
  it("tells of a failed flush of a disk that was left open", async () => {
    const flush = { event: "none", iotype: "flush", errno: 28, once: true } as const;
    const spec = { driver: "blkdebug", image: { driver: "memory", size: MiB }, "inject-error": [flush] };
    const disk = await remote.open(spec as never);
    await disk.write(0, pattern(512, 1));
    expect(await rejection(remote.close())).toMatchObject({ code: "ENOSPC" });
    expect(await rejection(disk.read(0, 1))).toMatchObject({ name: "BlockError" });
  });

  it("of the client closes its nodes and the engine", async () => {
    await remote.open({ driver: "memory", size: MiB });
    await remote.qmp.execute("blockdev-add", { driver: "memory", size: MiB, "node-name": "d" });
    remote.fail(new Error("the page was left"));
    await served;
    expect(engine.graph.nodes.length).toBe(0);
    await expect(remote.qmp.execute("query-status")).rejects.toThrow();
  });

  it("of the service rejects everything that is pending", async () => {
    const disk = await remote.open(held_(MiB));
    const open = gate();
    const reads = [disk.read(0, 512), disk.read(512, 512)].map(rejection);
    while (held.underWay < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    stop.abort();
    for (const error of await Promise.all(reads)) expect(error).toMatchObject({ code: "EIO" });
    expect(await disk.ended).toMatchObject({ message: "the worker has gone" });
    expect(await rejection(disk.write(0, new Uint8Array(1)))).toMatchObject({ code: "EIO" });
    expect(await rejection(remote.disk("d"))).toMatchObject({ code: "EIO" });
    await expect(remote.qmp.execute("query-status")).rejects.toThrow();
    open();
  });

  it("leaves an engine alone that others use", async () => {
    const { port1, port2 } = new MessageChannel();
    const over = serveEngine(port2, engine, { keepEngine: true });
    const other = await connectEngine(port1);
    await other.open({ driver: "memory", size: MiB, "node-name": "mine" });
    other.fail(new Error("gone"));
    await over;
    expect(engine.graph.nodes.length).toBe(0);
    await using disk = await remote.open({ driver: "memory", size: MiB });
    await disk.write(0, pattern(512, 1));
  });
});
