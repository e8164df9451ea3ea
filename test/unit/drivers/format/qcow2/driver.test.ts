// The driver over memory nodes, through the real graph.
import { expect, test } from "vitest";
import type { Answer } from "../../../../../src/base/answer.ts";
import { deferred } from "../../../../../src/base/signals.ts";
import type { Child } from "../../../../../src/block/model/node.ts";
import { Req } from "../../../../../src/block/model/contract.ts";
import type { BlockNode } from "../../../../../src/block/model/node.ts";
import { Perm } from "../../../../../src/block/model/permissions.ts";
import { type Header, parseHeader } from "../../../../../src/drivers/format/qcow2/disk/header.ts";
import { checkedQcow2 as qcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import type { Qcow2 } from "../../../../../src/drivers/format/qcow2/index.ts";
import { TestGraph, same } from "../../../support/graph.ts";

const KiB = 1024;
const MiB = 1024 * KiB;

interface Bench {
  test: TestGraph;
  node: BlockNode;
  edge: Child;
}

async function image(
  options: Record<string, unknown> = {},
  spec: Record<string, unknown> = {},
  faults?: readonly Record<string, unknown>[],
): Promise<Bench> {
  const bench = new TestGraph();
  bench.graph.register(qcow2);
  await bench.graph.add({ driver: "memory", "node-name": "m", size: 0 });
  await qcow2.create!({ graph: bench.graph, host: bench.host }, { size: 8 * MiB, ...options, file: "m" });
  const file = faults ? { driver: "blkdebug", image: "m", "inject-error": faults } : "m";
  const node = await bench.graph.add({ driver: "qcow2", "node-name": "q", file, discard: "unmap", ...spec });
  const edge = await bench.edge(node, Perm.consistentRead | Perm.write | Perm.resize);
  return { test: bench, node, edge };
}

function check(node: BlockNode): Promise<{ corruptions: readonly string[]; leaks: number }> {
  return (node.driver as Qcow2).check();
}

async function bytes(edge: Child, offset: number, count: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(count).fill(0x55);
  await edge.pread(offset, buffer);
  return buffer;
}

function filled(count: number, value: number): Uint8Array {
  return new Uint8Array(count).fill(value);
}

/** toEqual is slow on large arrays. */
function expectSame(actual: Uint8Array, expected: Uint8Array): void {
  expect(same(actual, expected)).toBe(true);
}

test("an empty image reads as zeroes and takes hardly any space", async () => {
  const { test: bench, edge } = await image();
  expectSame(await bytes(edge, 0, MiB), new Uint8Array(MiB));
  expect(bench.graph.node("m").length).toBeLessThan(300 * KiB);
});

test("a write across clusters is read back, and nothing around it changes", async () => {
  const { node, edge } = await image();
  await edge.pwrite(60_000, filled(200_000, 7));
  const content = await bytes(edge, 0, MiB);
  expectSame(content.subarray(60_000, 260_000), filled(200_000, 7));
  expectSame(content.subarray(0, 60_000), new Uint8Array(60_000));
  expectSame(content.subarray(260_000), new Uint8Array(MiB - 260_000));
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
});

test("a large write goes to the file in one piece", async () => {
  const { test: bench, edge } = await image();
  const file = bench.graph.node("m");
  const requests: number[] = [];
  const original = file.driver.pwrite!.bind(file.driver);
  file.driver.pwrite = (offset, buffer, flags) => {
    requests.push(buffer.byteLength);
    return original(offset, buffer, flags);
  };
  await edge.pwrite(0, filled(512, 1));
  // The room of a new L2 table is taken at once.
  expect(requests.splice(0).filter((size) => size > 512)).toEqual([64 * KiB]);
  await edge.pwrite(MiB, filled(MiB, 3));
  expect(requests.filter((size) => size > 512)).toEqual([MiB]);
});

test("requests at once on one new cluster lose nothing", async () => {
  const { node, edge } = await image();
  await Promise.all(
    Array.from({ length: 64 }, async (_, index) => edge.pwrite(index * KiB, filled(KiB, index + 1))),
  );
  const content = await bytes(edge, 0, 64 * KiB);
  for (let index = 0; index < 64; index++) expect(content[index * KiB + 500]).toBe(index + 1);
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
});

test("a failed data write gives its clusters back", async () => {
  const faults = [{ event: "write_aio", errno: 28, once: true }];
  const { node, edge } = await image({}, {}, faults);
  await expect(edge.pwrite(0, filled(MiB, 1))).rejects.toMatchObject({ code: "ENOSPC" });
  expectSame(await bytes(edge, 0, 4096), new Uint8Array(4096));
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
  await edge.pwrite(0, filled(MiB, 2));
  expectSame(await bytes(edge, MiB - 4096, 4096), filled(4096, 2));
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
});

for (const event of [
  "l2_load",
  "l2_update",
  "l2_alloc_write",
  "cluster_alloc",
  "refblock_update",
  "l1_update",
  "cow_read",
]) {
  test(`an error at ${event} is reported once, and the image stays sound`, async () => {
    const { node, edge } = await image({}, {}, [{ event, errno: 5, once: true }]);
    let failures = 0;
    const attempt = async (body: () => Answer<void>): Promise<void> => {
      await Promise.resolve(body()).catch(() => (failures += 1));
    };
    await attempt(() => edge.pwrite(100, filled(1000, 1)));
    await attempt(() => edge.flush());
    await edge.pwrite(100, filled(1000, 1));
    await edge.flush();
    expect(failures).toBeLessThanOrEqual(1);
    expectSame((await bytes(edge, 0, 1200)).subarray(100, 1100), filled(1000, 1));
    expect((await check(node)).corruptions).toEqual([]);
  });
}

test("zeroes and discards free their clusters once that is durable", async () => {
  const { node, edge } = await image();
  await edge.pwrite(0, filled(MiB, 9));
  await edge.pwriteZeroes(0, 512 * KiB, Req.mayUnmap);
  await edge.pdiscard(512 * KiB, 256 * KiB);
  await edge.pwriteZeroes(768 * KiB, 64 * KiB);
  await edge.flush();
  const content = await bytes(edge, 0, MiB);
  expectSame(content.subarray(0, 832 * KiB), new Uint8Array(832 * KiB));
  expectSame(content.subarray(832 * KiB), filled(192 * KiB, 9));
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
  expect(await edge.blockStatus(0, MiB)).toMatchObject({
    zero: true,
    data: false,
    allocated: true,
    bytes: 768 * KiB,
  });
  const kept = await edge.blockStatus(768 * KiB, MiB);
  expect(kept).toMatchObject({ zero: true, bytes: 64 * KiB });
  expect(kept.map?.node.name).toBe("m");
  expect(await edge.blockStatus(832 * KiB, 192 * KiB)).toMatchObject({ data: true, bytes: 192 * KiB });
});

test("a backing file shows through, is copied on write, and ends before the overlay", async () => {
  const { test: bench, edge } = await image({}, { backing: null });
  await bench.graph.detach(edge);
  await bench.graph.remove("q");
  await bench.graph.add({ driver: "memory", "node-name": "base", size: 300 * KiB });
  await bench.fill("base", 0, 300 * KiB, 0x11);
  const base = await bench.content("base");
  const node = await bench.graph.add({ driver: "qcow2", "node-name": "q", file: "m", backing: "base" });
  const top = await bench.edge(node);
  expectSame(await bytes(top, 0, 300 * KiB), base);
  expectSame(await bytes(top, 300 * KiB, 64 * KiB), new Uint8Array(64 * KiB));
  await top.pwrite(290 * KiB, filled(KiB, 0xee));
  const expected = new Uint8Array(512 * KiB);
  expected.set(base);
  expected.fill(0xee, 290 * KiB, 291 * KiB);
  expectSame(await bytes(top, 0, 512 * KiB), expected);
});

test("a write onto a table is prevented, and the image is marked corrupt", async () => {
  const { test: bench, node, edge } = await image();
  await edge.pwrite(0, filled(4096, 1));
  await bench.graph.detach(edge);
  await bench.graph.remove("q");
  // The first L2 entry now points to the L1 table.
  const raw = await bench.content("m");
  const view = new DataView(raw.buffer);
  const l1 = view.getUint32(44);
  const l2 = view.getUint32(l1 + 4);
  await bench.graph.node("m").driver.pwrite!(l2, Uint8Array.of(0x80, 0, 0, 0, 0, l1 >>> 16, 0, 0), 0);
  const events: unknown[] = [];
  bench.graph.events.subscribe((event) => events.push(event));
  const again = await bench.graph.add({ driver: "qcow2", "node-name": "q", file: "m" });
  const top = await bench.edge(again);
  await expect(top.pwrite(0, filled(512, 2))).rejects.toMatchObject({ code: "EIO" });
  expect(events).toEqual([
    {
      event: "BLOCK_IMAGE_CORRUPTED",
      data: {
        device: "",
        "node-name": "q",
        msg: "Preventing invalid write on metadata (overlaps with active L1 table)",
        offset: l1,
        size: 512,
        fatal: true,
      },
    },
  ]);
  await expect(top.pwrite(0, filled(512, 2))).rejects.toMatchObject({ code: "ENOMEDIUM" });
  const after = new DataView((await bench.content("m")).buffer);
  expect(after.getUint32(76)).toBe(2);
  expect(node.name).toBe("q");
});

test("the backing link changes in the header, and can be taken away", async () => {
  const { test: bench, node } = await image(
    { "backing-file": "old.raw", "backing-fmt": "raw" },
    { backing: null },
  );
  expect(node.driver.headerBacking?.filename()).toBe("old.raw");
  await node.driver.headerBacking!.change({ filename: "a/much/longer/name.qcow2", format: "qcow2" });
  expect(node.driver.headerBacking?.filename()).toBe("a/much/longer/name.qcow2");
  const inFile = async (): Promise<Header> => parseHeader(await bench.content("m", 0, 65536));
  expect(await inFile()).toMatchObject({ backingFile: "a/much/longer/name.qcow2", backingFormat: "qcow2" });
  await node.driver.headerBacking!.change(null);
  expect(node.driver.headerBacking?.filename()).toBeUndefined();
  expect(await inFile()).toMatchObject({ backingFile: undefined });
});

test("growing shows zeroes, shrinking gives the space back", async () => {
  const { test: bench, node, edge } = await image({ "cluster-size": 4 * KiB });
  await edge.pwrite(0, filled(4 * MiB, 4));
  await edge.truncate(MiB + 512, { exact: true, preallocation: "off" });
  expect(node.length).toBe(MiB + 512);
  expect(bench.graph.node("m").length).toBeLessThan(2 * MiB);
  await edge.truncate(64 * MiB, { exact: true, preallocation: "off" });
  const content = await bytes(edge, 0, 2 * MiB);
  expectSame(content.subarray(0, MiB + 512), filled(MiB + 512, 4));
  expectSame(content.subarray(MiB + 512), new Uint8Array(MiB - 512));
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
});

test("a cluster is not handed out again while a read still looks at it", async () => {
  const { test: bench, edge } = await image();
  await edge.pwrite(0, filled(64 * KiB, 7));
  await edge.flush();
  const file = bench.graph.node("m");
  const original = file.driver.pread.bind(file.driver);
  const gate = deferred();
  file.driver.pread = async (offset, buffer, flags) => {
    if (buffer.byteLength === 64 * KiB) await gate.promise;
    return original(offset, buffer, flags);
  };
  const reading = bytes(edge, 0, 64 * KiB);
  await edge.pdiscard(0, 64 * KiB);
  const rest = Promise.resolve(edge.flush()).then(() => edge.pwrite(MiB, filled(64 * KiB, 9)));
  await bench.host.clock.idle();
  gate.resolve();
  await rest;
  expectSame(await reading, filled(64 * KiB, 7));
});

test("a petabyte image is made, opened and written by touching little", async () => {
  const { test: bench, node, edge } = await image({ size: 2 ** 50 });
  const file = bench.graph.node("m");
  await edge.pwrite(2 ** 50 - 4096, filled(4096, 1));
  await edge.flush();
  await bench.graph.detach(edge);
  await bench.graph.remove(node.name);
  const original = file.driver.pread.bind(file.driver);
  let bytesRead = 0;
  file.driver.pread = (offset, buffer, flags) => {
    bytesRead += buffer.byteLength;
    return original(offset, buffer, flags);
  };
  const again = await bench.graph.add({ driver: "qcow2", "node-name": "q", file: "m" });
  const top = await bench.edge(again);
  expect(bytesRead).toBeLessThan(MiB);
  expectSame(await bytes(top, 2 ** 50 - 4096, 4096), filled(4096, 1));
  expect(bytesRead).toBeLessThan(MiB);
});

test("the refcount table and the L1 table grow with the file", async () => {
  const { test: bench, node, edge } = await image({ "cluster-size": 512, "refcount-bits": 64, size: MiB });
  const header = async (): Promise<Header> => parseHeader(await bench.content("m", 0, 512));
  const before = await header();
  await edge.truncate(6 * MiB, { exact: true, preallocation: "off" });
  for (let at = 0; at < 6 * MiB; at += MiB) await edge.pwrite(at, filled(MiB, 1 + at / MiB));
  await edge.flush();
  const after = await header();
  expect(after.refcountTableClusters).toBeGreaterThan(before.refcountTableClusters);
  expect(after.l1Size).toBe(192);
  expect(await check(node)).toEqual({ corruptions: [], leaks: 0 });
  expectSame(await bytes(edge, 5 * MiB, MiB), filled(MiB, 6));
});
