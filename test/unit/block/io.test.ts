// Reads, writes and flushes of a node: padding and read-modify-write against a model of bytes, serialisation, splits,
// zero detection, FUA and flush generations, the write threshold, errors, and blkdebug's events.
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import { createDirtyBitmap } from "../../../src/block/model/dirty-bitmap.ts";
import { Req } from "../../../src/block/model/contract.ts";
import { pread, pwrite, truncate } from "../../../src/block/io/io.ts";
import { flush } from "../../../src/block/io/request-path.ts";
import type { BlockNode } from "../../../src/block/model/node.ts";
import { pdiscard, pwriteZeroes } from "../../../src/block/io/zeroes.ts";
import { KiB, MiB, TestGraph, pattern, same } from "../support/graph.ts";
import { type ProbeDriver, addProbe } from "../support/probe.ts";

const SIZE = 64 * KiB;

async function probe(
  options: Partial<Parameters<typeof addProbe>[1]> = {},
): Promise<{ test: TestGraph; node: BlockNode; driver: ProbeDriver }> {
  const made = new TestGraph();
  return { test: made, ...(await addProbe(made.graph, { "node-name": "n", size: SIZE, ...options })) };
}

const read = async (node: BlockNode, offset: number, bytes: number): Promise<Uint8Array> => {
  const buffer = new Uint8Array(bytes).fill(0xee);
  await pread(node, offset, buffer);
  return buffer;
};

const range = fc
  .tuple(fc.nat(SIZE - 1), fc.oneof(fc.integer({ min: 1, max: 1500 }), fc.integer({ min: 1, max: 20_000 })))
  .map(([offset, bytes]) => ({ offset, bytes: Math.min(bytes, SIZE - offset) }));
const step = fc.record({
  kind: fc.constantFrom("write", "write", "read", "zero", "discard"),
  range,
  value: fc.integer({ min: 1, max: 255 }),
});

describe("padding", () => {
  test.each([512, 4096])("any requests at alignment %d leave what a byte model holds", async (align) => {
    const body = fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 30 }), async (steps) => {
      const { node, test: made } = await probe({
        limits: { requestAlignment: align, maxTransfer: 2 * align, maxPwriteZeroes: 4 * align },
        discard: "unmap",
      });
      const model = new Uint8Array(SIZE);
      for (const {
        kind,
        range: { offset, bytes },
        value,
      } of steps) {
        const end = offset + bytes;
        if (kind === "write") {
          await pwrite(node, offset, new Uint8Array(bytes).fill(value));
          model.fill(value, offset, end);
        } else if (kind === "zero") {
          await pwriteZeroes(node, offset, bytes);
          model.fill(0, offset, end);
        } else if (kind === "discard") {
          await pdiscard(node, offset, bytes);
          // The probe zeroes whole blocks; what is left over at the ends stays.
          const start = Math.ceil(offset / align) * align;
          const stop = Math.floor(end / align) * align;
          if (stop > start) model.fill(0, start, stop);
        } else if (!same(await read(node, offset, bytes), model.subarray(offset, end))) return false;
      }
      expect(made.graph.arena.inUse).toBe(0);
      return node.length === SIZE && same(await read(node, 0, SIZE), model);
    });
    await fc.assert(body, { seed: 1, numRuns: 60 });
  });

  test.each([512, 4096])(
    "concurrent unaligned writes at alignment %d lose nothing beside them",
    async (align) => {
      const writes = fc.array(fc.record({ range, zero: fc.boolean() }), { minLength: 2, maxLength: 12 });
      const body = fc.asyncProperty(writes, fc.infiniteStream(fc.nat(6)), async (list, waits) => {
        const { node, driver, test: made } = await probe({ limits: { requestAlignment: align } });
        driver.bytes.fill(0xff);
        driver.before = async () => {
          for (let left = waits.next().value as number; left > 0; left--) await Promise.resolve();
        };
        const done = list.map(async ({ range: { offset, bytes }, zero }, index) =>
          zero
            ? pwriteZeroes(node, offset, bytes)
            : pwrite(node, offset, new Uint8Array(bytes).fill(index + 1)),
        );
        await made.host.clock.settle(Promise.all(done));
        driver.before = undefined;
        // Each byte is what one of its writers wrote, and untouched where there was none.
        const allowed: Set<number>[] = Array.from({ length: SIZE }, () => new Set<number>());
        list.forEach(({ range: { offset, bytes }, zero }, index) => {
          for (let at = offset; at < offset + bytes; at++) allowed[at]!.add(zero ? 0 : index + 1);
        });
        return driver.bytes.every((byte, at) =>
          allowed[at]!.size === 0 ? byte === 0xff : allowed[at]!.has(byte),
        );
      });
      await fc.assert(body, { seed: 2, numRuns: 80 });
    },
  );

  test("two writes into one block happen one after the other, aligned ones beside each other", async () => {
    const { node, driver, test: made } = await probe({ limits: { requestAlignment: 4096 } });
    const both = Promise.all([
      pwrite(node, 0, new Uint8Array(100).fill(1)),
      pwrite(node, 100, new Uint8Array(100).fill(2)),
    ]);
    await made.host.clock.settle(both);
    expect(driver.take()).toEqual(["pread 0+4096", "pwrite 0+4096", "pread 0+4096", "pwrite 0+4096"]);
    let most = 0;
    let now = 0;
    driver.before = async () => {
      most = Math.max(most, (now += 1));
      await made.host.clock.turn();
      now -= 1;
    };
    await Promise.all([pwrite(node, 0, new Uint8Array(8192)), pwrite(node, 4096, new Uint8Array(4096))]);
    expect(most).toBe(2);
  });

  test("reads wait for an overlapping read-modify-write and not for one beside it", async () => {
    const { node, driver, test: made } = await probe({ limits: { requestAlignment: 512 } });
    let release = (): void => undefined;
    driver.before = (call) =>
      call.op === "pwrite" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    const write = pwrite(node, 100, new Uint8Array(10).fill(7));
    await made.host.clock.idle();
    let near: Uint8Array | undefined;
    const waiting = read(node, 0, 512).then((bytes) => (near = bytes));
    expect((await read(node, 512, 512))[0]).toBe(0);
    await made.host.clock.idle();
    expect(near).toBeUndefined();
    release();
    await Promise.all([write, waiting]);
    expect(near?.[100]).toBe(7);
  });

  test("noWait fails with EBUSY instead of waiting, and writes nothing", async () => {
    const { node, driver, test: made } = await probe({ limits: { requestAlignment: 512 } });
    let release = (): void => undefined;
    driver.before = (call) =>
      call.op === "pwrite" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    const write = pwrite(node, 0, new Uint8Array(512), Req.serialising);
    await made.host.clock.idle();
    driver.take();
    const busy = pwrite(node, 0, new Uint8Array(512), Req.serialising | Req.noWait);
    await expect(busy).rejects.toMatchObject({ code: "EBUSY" });
    expect(driver.take()).toEqual([]);
    release();
    await write;
  });

  test.each(["head", "tail"])(
    "a failed read of the %s fails the write, which then writes nothing",
    async (which) => {
      const { node, driver } = await probe({ limits: { requestAlignment: 512 } });
      driver.bytes.fill(0x55);
      driver.before = ({ op, offset }) => {
        if (op === "pread" && (which === "head") === (offset === 0)) throw blockError("EIO", "pread");
      };
      await expect(pwrite(node, 100, new Uint8Array(1000))).rejects.toMatchObject({ code: "EIO" });
      await expect(pwriteZeroes(node, 100, 1000)).rejects.toMatchObject({ code: "EIO" });
      driver.before = undefined;
      expect(driver.bytes[which === "head" ? 100 : 1024]).toBe(0x55);
      expect(node.inFlight).toBe(0);
    },
  );

  test("padding falls back to the heap when the arena is full", async () => {
    const { node, driver, test: made } = await probe({ limits: { requestAlignment: 512 } });
    const slot = await made.graph.arena.acquire(made.graph.arena.size);
    await pwrite(node, 10, new Uint8Array([1, 2, 3]));
    expect([...(await read(node, 9, 5))]).toEqual([0, 1, 2, 3, 0]);
    slot.release();
    expect(driver.bytes[11]).toBe(2);
  });
});

describe("ends and limits", () => {
  test("what lies beyond the end reads as zeroes and does not reach the driver", async () => {
    const { node, driver } = await probe({ limits: { requestAlignment: 512 }, size: 1000 });
    driver.bytes.fill(9);
    expect([...(await read(node, 998, 4))]).toEqual([9, 9, 0, 0]);
    driver.take();
    expect((await read(node, 4096, 700)).every((byte) => byte === 0)).toBe(true);
    expect(driver.take()).toEqual([]);
  });

  test.each([
    [-1, 1],
    [0.5, 1],
    [Number.MAX_SAFE_INTEGER, 512],
  ])("offset %d is refused with EIO", async (offset, bytes) => {
    const { node, driver } = await probe();
    await expect(pread(node, offset, new Uint8Array(bytes))).rejects.toMatchObject({ code: "EIO" });
    await expect(pwrite(node, offset, new Uint8Array(bytes))).rejects.toMatchObject({ code: "EIO" });
    await expect(pwriteZeroes(node, offset, bytes)).rejects.toMatchObject({ code: "EIO" });
    expect(driver.take()).toEqual([]);
  });

  test("maxTransfer splits reads and writes", async () => {
    const { node, driver } = await probe({ limits: { requestAlignment: 512, maxTransfer: 1024 } });
    await pwrite(node, 512, pattern(2560, 3));
    expect(driver.take()).toEqual(["pwrite 512+1024", "pwrite 1536+1024", "pwrite 2560+512"]);
    expect(same(await read(node, 512, 2560), pattern(2560, 3))).toBe(true);
    expect(driver.take()).toEqual(["pread 512+1024", "pread 1536+1024", "pread 2560+512"]);
  });

  test("a write beyond the end grows the node; one that fails does not", async () => {
    const { node, driver } = await probe();
    const bitmap = createDirtyBitmap(node, { granularity: 512 });
    await pwrite(node, SIZE, new Uint8Array(512).fill(1));
    expect(node.length).toBe(SIZE + 512);
    expect(bitmap.dirtyBytes).toBe(512);
    driver.before = () => Promise.reject(blockError("ENOSPC", "pwrite"));
    const failed = pwrite(node, SIZE, new Uint8Array(4096).fill(1));
    await expect(failed).rejects.toMatchObject({ code: "ENOSPC" });
    expect(node.length).toBe(SIZE + 512);
    expect(bitmap.dirtyBytes).toBe(512);
    const beyond = pwrite(node, SIZE + 8192, new Uint8Array(512));
    await expect(beyond).rejects.toMatchObject({ code: "ENOSPC" });
    expect(node.highestWrite).toBe(SIZE + 8192 + 512);
  });

  test("a read-only node refuses changes, a closed one everything", async () => {
    const { node, driver, test: made } = await probe({ "read-only": true });
    await expect(pwrite(node, 0, new Uint8Array(1))).rejects.toMatchObject({ code: "EPERM" });
    await expect(pwriteZeroes(node, 0, 1)).rejects.toMatchObject({ code: "EPERM" });
    await expect(pdiscard(node, 0, 1)).rejects.toMatchObject({ code: "EPERM" });
    await expect(truncate(node, 0, { exact: true, preallocation: "off" })).rejects.toMatchObject({
      code: "EACCES",
      message: "Image is read-only",
    });
    await flush(node);
    await made.graph.remove("n");
    expect(driver.take()).toEqual(["close"]);
    await expect(pread(node, 0, new Uint8Array(1))).rejects.toMatchObject({ code: "ENOMEDIUM" });
    await expect(flush(node)).rejects.toMatchObject({ code: "ENOMEDIUM" });
  });
});

describe("detect-zeroes", () => {
  const zeros = new Uint8Array(4096);

  test.each([
    ["off", "unmap", "pwrite 0+4096"],
    ["on", "unmap", "pwriteZeroes 0+4096"],
    ["on", "ignore", "pwriteZeroes 0+4096"],
    ["unmap", "unmap", `pwriteZeroes 0+4096:${Req.mayUnmap}`],
  ] as const)("%s with discard=%s", async (detect, discard, call) => {
    const { node, driver } = await probe({ "detect-zeroes": detect, discard });
    await pwrite(node, 0, zeros);
    expect(driver.take()).toEqual([call]);
    await pwrite(node, 0, new Uint8Array(4096).fill(1, 4095));
    expect(driver.take()).toEqual(["pwrite 0+4096"]);
  });

  test("unmap without discard=unmap is refused at open", async () => {
    await expect(probe({ "detect-zeroes": "unmap" })).rejects.toThrow(
      "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
    );
  });

  test("zeroes found obey the driver's limits, and are written where it has no fast way", async () => {
    const { node, driver } = await probe({ "detect-zeroes": "on", limits: { maxPwriteZeroes: 1024 } });
    await pwrite(node, 0, zeros.subarray(0, 2048));
    expect(driver.take()).toEqual(["pwriteZeroes 0+1024", "pwriteZeroes 1024+1024"]);
    driver.bytes.fill(5);
    driver.before = (call) =>
      call.op === "pwriteZeroes" ? Promise.reject(blockError("ENOTSUP", "pwriteZeroes")) : undefined;
    await pwrite(node, 0, zeros);
    expect(driver.bytes[4095]).toBe(0);
    expect(driver.bytes[4096]).toBe(5);
  });

  test("compressed writes of zeroes are no compressed zeroes", async () => {
    const { node, driver } = await probe({ "detect-zeroes": "on" });
    await pwrite(node, 0, zeros, Req.compressed);
    expect(driver.take()).toEqual(["pwriteZeroes 0+4096"]);
  });
});

describe("flush", () => {
  test("it reaches the driver only when something was written since", async () => {
    const { node, driver } = await probe();
    await flush(node);
    expect(driver.take()).toEqual([]);
    await pwrite(node, 0, new Uint8Array(512));
    await flush(node);
    await flush(node);
    expect(driver.take()).toEqual(["pwrite 0+512", "flush"]);
    await pdiscard(node, 0, 512);
    await pwriteZeroes(node, 0, 512);
    await flush(node);
    expect(driver.take()).toEqual(["pwriteZeroes 0+512", "flush"]);
  });

  test("a flush that failed is tried again by the next", async () => {
    const { node, driver } = await probe();
    await pwrite(node, 0, new Uint8Array(512));
    driver.before = () => Promise.reject(blockError("EIO", "flush"));
    await expect(flush(node)).rejects.toMatchObject({ code: "EIO" });
    driver.before = undefined;
    driver.take();
    await flush(node);
    expect(driver.take()).toEqual(["flush"]);
  });

  test("a write that completes during a flush is not counted as flushed", async () => {
    const { node, driver, test: made } = await probe();
    await pwrite(node, 0, new Uint8Array(512));
    let release = (): void => undefined;
    driver.before = (call) =>
      call.op === "flush" ? new Promise<void>((resolve) => (release = resolve)) : undefined;
    const first = flush(node);
    await made.host.clock.idle();
    await pwrite(node, 512, new Uint8Array(512));
    const second = flush(node);
    await made.host.clock.idle();
    driver.before = undefined;
    release();
    await Promise.all([first, second]);
    expect(driver.take()).toEqual(["pwrite 0+512", "flush", "pwrite 512+512", "flush"]);
  });

  test("FUA flushes after the write, also the first one of a protocol node", async () => {
    const { node, driver } = await probe();
    await pwrite(node, 0, new Uint8Array(512), Req.fua);
    expect(driver.take()).toEqual([`pwrite 0+512:${Req.fua}`, "flush"]);
    await pwriteZeroes(node, 0, 512, Req.fua);
    expect(driver.take()).toEqual([`pwriteZeroes 0+512:${Req.fua}`, "flush"]);
    driver.before = (call) => (call.op === "flush" ? Promise.reject(blockError("EIO", "flush")) : undefined);
    await expect(pwrite(node, 0, new Uint8Array(1), Req.fua)).rejects.toMatchObject({ code: "EIO" });
  });

  test("cache.no-flush keeps flushes from the disk", async () => {
    const { node, driver } = await probe({ cache: { "no-flush": true } });
    await pwrite(node, 0, new Uint8Array(512));
    await flush(node);
    expect(driver.take()).toEqual(["pwrite 0+512"]);
  });

  test("a format's flush reaches the file that it wrote to", async () => {
    const { driver, test: made } = await probe();
    const raw = await made.graph.add({ driver: "raw", "node-name": "r", file: "n" });
    const edge = await made.edge(raw);
    await edge.pwrite(0, new Uint8Array(512));
    await edge.flush();
    expect(driver.take()).toEqual(["pwrite 0+512", "flush"]);
    await made.graph.detach(edge);
  });
});

test("the write threshold is told once, and by how much it was exceeded", async () => {
  const { node, test: made } = await probe();
  const events: unknown[] = [];
  made.graph.events.subscribe(({ event, data }) => events.push([event, data]));
  node.writeThreshold = 4096;
  await pwrite(node, 0, new Uint8Array(4096));
  expect(events).toEqual([]);
  await pwriteZeroes(node, 4000, 200);
  await pwrite(node, 8192, new Uint8Array(512));
  const data = { "node-name": "n", "amount-exceeded": 104, "write-threshold": 4096 };
  expect(events).toEqual([["BLOCK_WRITE_THRESHOLD", data]]);
  expect(node.writeThreshold).toBe(0);
});

describe("truncate", () => {
  test("it waits for requests in the new part, resizes bitmaps, and marks what was cut off before", async () => {
    const { node, driver } = await probe();
    const bitmap = createDirtyBitmap(node, { granularity: 4096 });
    await truncate(node, SIZE + 8192, { exact: true, preallocation: "off" });
    expect(node.length).toBe(SIZE + 8192);
    expect([bitmap.bitmap.length, bitmap.dirtyBytes]).toEqual([SIZE + 8192, 0]);
    await truncate(node, 4096, { exact: true, preallocation: "off" });
    expect(driver.take()).toEqual([`truncate ${SIZE + 8192}+0`, "truncate 4096+0"]);
    expect([bitmap.bitmap.length, bitmap.dirtyBytes]).toEqual([4096, 0]);
    await truncate(node, SIZE + 65536, { exact: true, preallocation: "off" });
    expect(bitmap.bitmap.extents(0, SIZE + 65536, 9)).toEqual([{ offset: 4096, bytes: SIZE + 4096 }]);
  });

  test("a filter passes it on, and its length follows", async () => {
    const { node, test: made } = await probe();
    await made.graph.add({ driver: "blkdebug", "node-name": "f", image: "n" });
    const edge = await made.edge("f", 15);
    await edge.truncate(MiB, { exact: true, preallocation: "off" });
    expect([node.length, edge.length]).toEqual([MiB, MiB]);
  });
});

describe("blkdebug's events", () => {
  test.each([
    ["an aligned write", 0, 512, ["pwritev", "pwrite 0+512", "pwritev_done"]],
    [
      "a write in one block",
      10,
      20,
      [
        "pwritev_rmw_head",
        "pwritev_rmw_tail",
        "pread 0+512",
        "pwritev_rmw_after_head",
        "pwritev_rmw_after_tail",
        "pwritev",
        "pwrite 0+512",
        "pwritev_done",
      ],
    ],
    [
      "a write over several",
      10,
      1500,
      [
        "pwritev_rmw_head",
        "pread 0+512",
        "pwritev_rmw_after_head",
        "pwritev_rmw_tail",
        "pread 1024+512",
        "pwritev_rmw_after_tail",
        "pwritev",
        "pwrite 0+1536",
        "pwritev_done",
      ],
    ],
  ])("%s", async (_name, offset, bytes, calls) => {
    const { node, driver } = await probe({ limits: { requestAlignment: 512 } });
    driver.recordEvents();
    await pwrite(node, offset, new Uint8Array(bytes).fill(1));
    expect(driver.take()).toEqual(calls);
  });

  test("writing zeroes", async () => {
    const { node, driver } = await probe({ limits: { requestAlignment: 512 } });
    driver.recordEvents();
    await pwriteZeroes(node, 512, 600);
    expect(driver.take()).toEqual([
      "pwritev_zero",
      "pwriteZeroes 512+512",
      "pwritev_done",
      "pwritev_rmw_tail",
      "pread 1024+512",
      "pwritev_rmw_after_tail",
      "pwritev",
      "pwrite 1024+512",
      "pwritev_done",
    ]);
  });

  test("a rule of blkdebug on one of them fires", async () => {
    const made = new TestGraph();
    const rule = [{ event: "pwritev_rmw_after_head", iotype: "write", errno: 28, once: true }];
    await made.graph.add({ driver: "memory", "node-name": "m", size: SIZE });
    await made.graph.add({
      driver: "blkdebug",
      "node-name": "d",
      image: "m",
      align: 512,
      "inject-error": rule,
    });
    const node = made.graph.node("d");
    const edge = await made.edge(node);
    await edge.pwrite(0, new Uint8Array(512));
    await expect(edge.pwrite(1, new Uint8Array(1))).rejects.toMatchObject({ code: "ENOSPC" });
    await edge.pwrite(1, new Uint8Array(1));
  });
});
