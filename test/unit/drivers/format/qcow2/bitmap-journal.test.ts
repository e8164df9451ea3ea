// The journal of dirty bitmaps: its sectors, what it costs a guest's writes, to the request, and what becomes of it where the file
// fails or the header needs its place.
import { expect, test } from "vitest";
import { blockError } from "../../../../../src/base/errors.ts";
import { addBitmap } from "../../../../../src/block/bitmap/commands.ts";
import { settleBitmaps } from "../../../../../src/block/bitmap/persistence.ts";
import type { NodeSpec } from "../../../../../src/block/model/contract.ts";
import { findDirtyBitmap } from "../../../../../src/block/model/dirty-bitmap.ts";
import type { BlockNode, Child } from "../../../../../src/block/model/node.ts";
import { Perm } from "../../../../../src/block/model/permissions.ts";
import { checkedQcow2 as qcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import {
  emptyRegions,
  journalPlace,
  parseJournal,
  regionBits,
  serializeJournal,
  setBits,
  withRegions,
} from "../../../../../src/drivers/format/qcow2/disk/bitmap-journal.ts";
import type { Qcow2 } from "../../../../../src/drivers/format/qcow2/index.ts";
import { KiB, MiB, TestGraph } from "../../../support/graph.ts";

const GiB = 1024 * MiB;
const place = journalPlace(65536)!;
const { kernels } = new TestGraph().graph;
const checksum = (bytes: Uint8Array): number => kernels.crc32c(bytes);

/** An image over a file in memory, whose requests are counted. */
class Disk {
  readonly test = new TestGraph();
  readonly counts = { writes: 0, flushes: 0 };
  /** Asked before each write to the file; what it throws is the write's error. */
  onWrite: (offset: number) => void = () => undefined;
  node!: BlockNode;
  edge!: Child;

  static async make(size: number, options: Partial<NodeSpec> = {}, clusterSize = 65536): Promise<Disk> {
    const disk = new Disk();
    const { graph, host } = disk.test;
    graph.register(qcow2);
    const { driver } = await graph.add({ driver: "memory", "node-name": "m", size: 0 });
    await qcow2.create!({ graph, host }, { size, "cluster-size": clusterSize, file: "m" });
    const [pwrite, flush] = [driver.pwrite!.bind(driver), driver.flush?.bind(driver)];
    driver.pwrite = (offset, buffer, flags) => {
      disk.onWrite(offset);
      disk.counts.writes += 1;
      return pwrite(offset, buffer, flags);
    };
    driver.flush = () => {
      disk.counts.flushes += 1;
      return flush?.();
    };
    await disk.open(options);
    return disk;
  }

  async open(options: Partial<NodeSpec> = {}): Promise<void> {
    this.node = await this.test.graph.add({ driver: "qcow2", "node-name": "q", file: "m", ...options });
    this.edge = await this.test.edge(this.node, Perm.consistentRead | Perm.write | Perm.resize);
  }

  async close(): Promise<void> {
    await this.test.graph.detach(this.edge);
    await this.test.graph.remove("q");
  }

  async addBitmap(name = "b"): Promise<void> {
    addBitmap(this.test.graph, { node: "q", name, persistent: true });
    await settleBitmaps([this.node]);
  }

  write(offset: number, bytes = 4 * KiB): Promise<void> {
    return Promise.resolve(this.edge.pwrite(offset, new Uint8Array(bytes).fill(7)));
  }

  /** The requests to the file that `body` makes. */
  async costs(body: () => Promise<unknown>): Promise<{ writes: number; flushes: number }> {
    const before = { ...this.counts };
    await body();
    return { writes: this.counts.writes - before.writes, flushes: this.counts.flushes - before.flushes };
  }

  /** What is found of bitmap `b` where the process ends now. */
  async crashed(name = "b"): Promise<{ inconsistent: boolean; dirty: number[] } | undefined> {
    const other = new TestGraph();
    other.graph.register(qcow2);
    const content = await this.test.content("m");
    const file = await other.graph.add({ driver: "memory", "node-name": "m", size: 0 });
    await file.driver.pwrite!(0, content, 0);
    file.updateLength();
    const node = await other.graph.add({
      driver: "qcow2",
      "node-name": "q",
      file: "m",
      backing: null,
      "read-only": true,
    });
    expect((await (node.driver as Qcow2).check()).corruptions).toEqual([]);
    const bitmap = findDirtyBitmap(node, name);
    const dirty = bitmap?.bitmap
      .extents(0, node.length, 1000)
      .flatMap(({ offset, bytes }) => [offset, bytes]);
    return bitmap && { inconsistent: bitmap.inconsistent, dirty: dirty ?? [] };
  }
}

test("a journal is read as it was written, and not with one byte changed", () => {
  const set = emptyRegions(place);
  setBits(set, 3, 20);
  setBits(set, 23_807, 23_808);
  const slot = {
    place: { count: 3, bytes: 96, offset: 2 ** 40 },
    directoryCrc: 0x89abcdef,
    diskBytes: 2 ** 50,
    right: [true, false, true],
  };
  const bytes = serializeJournal(slot, { bits: 22, set }, checksum);
  expect(bytes.byteLength).toBe(place.bytes);
  expect(parseJournal(bytes, checksum)).toEqual({ slots: [slot, undefined], regions: { bits: 22, set } });
  for (let at = 0; at < bytes.byteLength; at += 13) {
    const damaged = bytes.slice();
    damaged[at]! ^= 0x10;
    const found = parseJournal(damaged, checksum);
    if (at < 512) expect(found?.slots).toEqual([undefined, undefined]);
    else if (at < 1024) expect(found?.slots).toEqual([slot, undefined]);
    else expect(found).toBeUndefined();
  }
});

test("regions are of 1 MiB, or so large that a disk has not too many", () => {
  expect(regionBits(0, place)).toBe(20);
  expect(regionBits(23_808 * MiB, place)).toBe(20);
  expect(regionBits(23_808 * MiB + 512, place)).toBe(21);
  expect(regionBits(64 * GiB, place)).toBe(22);
  expect(journalPlace(2048)).toBeUndefined();
  expect(journalPlace(4096)).toEqual({ at: 2048, sectors: 2, bytes: 2048 });
  expect(place).toEqual({ at: 65536 - 4096, sectors: 6, bytes: 4096 });
});

test("a stored bitmap gets the regions of a disk of any length, the last to its end", () => {
  const set = emptyRegions(place);
  setBits(set, 1, 2);
  setBits(set, 23_807, 23_808);
  const regions = { bits: 20, set };
  const bits = Uint8Array.of(1);
  expect([...withRegions(bits, regions, { granularity: 512 * KiB, diskBytes: 5 * MiB })]).toEqual([
    0b1101, 0,
  ]);
  expect([...withRegions(bits, undefined, { granularity: 512 * KiB, diskBytes: 5 * MiB })]).toEqual([1, 0]);
  expect([...withRegions(bits, regions, { granularity: 2 ** 31, diskBytes: 2 ** 34 })]).toEqual([1]);
  const long = withRegions(bits, regions, { granularity: 2 ** 31, diskBytes: 2 ** 35 });
  expect([...long]).toEqual([1, 0b11111000]);
  for (const [from, to] of [
    [0, 0],
    [3, 5],
    [5, 17],
    [8, 16],
    [1, 40],
  ] as const) {
    const bytes = new Uint8Array(5);
    setBits(bytes, from, to);
    const ones = Array.from({ length: 40 }, (_, at) => at).filter((at) => bytes[at >> 3]! & (1 << (at & 7)));
    expect(ones).toEqual(Array.from({ length: to - from }, (_, at) => from + at));
  }
});

test("the first write to a region costs a sector and a flush, others nothing", async () => {
  const [disk, plain] = [await Disk.make(64 * MiB), await Disk.make(64 * MiB, { "bitmap-journal": false })];
  for (const one of [disk, plain]) await one.addBitmap();
  const both = async (offsets: readonly number[]): Promise<{ writes: number; flushes: number }> => {
    const [more, less] = [disk, plain].map((one) =>
      one.costs(() => Promise.all(offsets.map((offset) => one.write(offset)))),
    );
    return {
      writes: (await more!).writes - (await less!).writes,
      flushes: (await more!).flushes - (await less!).flushes,
    };
  };
  expect(await both([5 * MiB])).toEqual({ writes: 1, flushes: 1 });
  expect(await both([5 * MiB + 4 * KiB])).toEqual({ writes: 0, flushes: 0 });
  // The region before is written to: the next one is noted with it.
  expect(await both([6 * MiB])).toEqual({ writes: 1, flushes: 1 });
  expect(await both([7 * MiB])).toEqual({ writes: 0, flushes: 0 });
  // What comes together is noted together.
  expect(await both([20 * MiB, 30 * MiB, 40 * MiB])).toEqual({ writes: 1, flushes: 1 });
  const dirty = [5, 3, 20, 1, 30, 1, 40, 1].map((count) => count * MiB);
  expect(await disk.crashed()).toEqual({ inconsistent: false, dirty });
  expect((await plain.crashed())?.inconsistent ?? true).toBe(true);
});

test("a disk written from end to end waits nine times", async () => {
  const disk = await Disk.make(512 * MiB);
  await disk.addBitmap();
  let waits = 0;
  for (let at = 0; at < 256 * MiB; at += 256 * KiB) {
    const flushes = disk.counts.flushes;
    await disk.write(at, 256 * KiB);
    waits += disk.counts.flushes - flushes;
  }
  // Regions 0, 1, 3, 7, 15, 31, 63, 127 and 191.
  expect(waits).toBe(9);
});

test("a disk written everywhere waits a bounded number of times, and exactly at first", async () => {
  const disk = await Disk.make(2 * GiB);
  await disk.addBitmap();
  let notes = 0;
  disk.onWrite = (offset) => {
    if (offset >= place.at && offset < 65536) notes += 1;
  };
  for (let index = 0; index < 8; index++) await disk.write(((index * 997) % 2048) * MiB);
  expect(notes).toBe(8);
  const sizes = (await disk.crashed())?.dirty.filter((_, at) => at % 2 === 1);
  expect(sizes).toEqual(Array.from({ length: 8 }, () => MiB));
  for (let index = 8; index < 2048; index++) await disk.write(((index * 997) % 2048) * MiB);
  // 8 of 1, 2, 4 and so on to 128 regions, and the rest of 256: some of them are noted in part already.
  expect(notes).toBe(66);
});

test("storing bitmaps anew forgets the regions of before", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap();
  await disk.write(5 * MiB);
  await disk.addBitmap("other");
  await disk.write(9 * MiB);
  expect((await disk.crashed())?.dirty).toEqual([5 * MiB, 64 * KiB, 9 * MiB, MiB]);
  expect((await disk.crashed("other"))?.dirty).toEqual([9 * MiB, MiB]);
});

test("a length that changes is noted before", async () => {
  const disk = await Disk.make(8 * MiB);
  await disk.addBitmap();
  await disk.edge.truncate(6 * MiB, { exact: true, preallocation: "off" });
  await disk.edge.truncate(7 * MiB, { exact: true, preallocation: "off" });
  expect((await disk.crashed())?.dirty).toEqual([6 * MiB, MiB]);
});

test("a journal that can't be written ends, and the guest's writes go on", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap();
  disk.onWrite = (offset) => {
    if (offset >= place.at && offset < 65536) throw blockError("EIO", "pwrite");
  };
  await disk.write(5 * MiB);
  expect(await disk.crashed()).toEqual({ inconsistent: true, dirty: [] });
  disk.onWrite = () => undefined;
  await disk.write(9 * MiB);
  await disk.close();
  expect(await disk.crashed()).toEqual({
    inconsistent: false,
    dirty: [5 * MiB, 64 * KiB, 9 * MiB, 64 * KiB],
  });
});

test("where the image can't be told that the journal has ended, nothing is written any more", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap();
  disk.onWrite = (offset) => {
    if (offset < 65536) throw blockError("EIO", "pwrite");
  };
  await expect(disk.write(5 * MiB)).rejects.toMatchObject({ code: "EIO" });
  await expect(disk.write(9 * MiB)).rejects.toMatchObject({ code: "EIO" });
  expect(await disk.crashed()).toEqual({ inconsistent: false, dirty: [] });
  disk.onWrite = () => undefined;
  await disk.write(9 * MiB);
  expect((await disk.crashed())?.inconsistent).toBe(true);
});

test("a journal that an error has ended is begun anew after some writes, more of them after each failure", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap();
  let fails = true;
  disk.onWrite = (offset) => {
    if (fails && offset >= place.at && offset < 65536) throw blockError("EIO", "pwrite");
  };
  // The first one ends it, and after 256 it can't be begun.
  for (let index = 0; index < 257; index++) await disk.write(5 * MiB);
  fails = false;
  for (let index = 0; index < 500; index++) await disk.write(5 * MiB);
  expect((await disk.crashed())?.inconsistent).toBe(true);
  for (let index = 0; index < 12; index++) await disk.write(5 * MiB);
  await disk.write(9 * MiB);
  expect(await disk.crashed()).toEqual({ inconsistent: false, dirty: [5 * MiB, MiB, 9 * MiB, MiB] });
});

test("a journal that an error has ended is begun anew when a bitmap changes", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap();
  disk.onWrite = (offset) => {
    if (offset >= place.at && offset < 65536) throw blockError("EIO", "pwrite");
  };
  await disk.write(5 * MiB);
  disk.onWrite = () => undefined;
  await disk.addBitmap("other");
  expect(await disk.crashed()).toEqual({ inconsistent: false, dirty: [5 * MiB, 64 * KiB] });
});

test("a header that needs the journal's place ends it", async () => {
  const disk = await Disk.make(64 * MiB, {}, 4096);
  await disk.addBitmap();
  await disk.write(0);
  const driver = disk.node.driver as Qcow2;
  const more = { type: 0x12345678, data: new Uint8Array(1600).fill(9) };
  driver.image.header.extensions = [...driver.image.header.extensions, more];
  await driver.headerBacking.change({ filename: "base.raw", format: "raw" });
  await disk.write(9 * MiB);
  expect((await disk.crashed())?.inconsistent).toBe(true);
  await disk.close();
  const header = await disk.test.content("m", 0, 4096);
  const words = Array.from(header, (byte) => String.fromCharCode(byte)).join("");
  expect(words).toContain("\t".repeat(1600));
});

test("what a crash left while bitmaps were being marked is not mixed with what is stored", async () => {
  const disk = await Disk.make(64 * MiB);
  await disk.addBitmap("one");
  await disk.addBitmap("two");
  await disk.write(5 * MiB);
  // As if the mark of the newest had not reached the disk.
  const { header } = (disk.node.driver as Qcow2).image;
  const { data } = header.extensions.find(({ type }) => type === 0x23852875)!;
  const directory = Number(new DataView(data.buffer, data.byteOffset).getBigUint64(16));
  await disk.test.graph.node("m").driver.pwrite!(directory + 12, Uint8Array.of(0, 0, 0, 2), 0);
  const again = await Disk.make(0);
  const content = await disk.test.content("m");
  await again.close();
  await again.test.graph.node("m").driver.pwrite!(0, content, 0);
  again.test.graph.node("m").updateLength();
  await again.open();
  await again.write(9 * MiB);
  for (const name of ["one", "two"]) expect((await again.crashed(name))?.inconsistent).toBe(false);
  expect((await again.crashed("one"))?.dirty).toEqual([5 * MiB, MiB, 9 * MiB, MiB]);
  await again.close();
  expect((await again.crashed("one"))?.dirty).toEqual([5 * MiB, MiB, 9 * MiB, 64 * KiB]);
  expect((await again.crashed("two"))?.dirty).toEqual([9 * MiB, 64 * KiB]);
});
