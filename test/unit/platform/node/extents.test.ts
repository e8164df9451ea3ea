// Data and holes of real files, and what is remembered of them.
import * as fs from "node:fs";
import { expect, test } from "vitest";
import { type ExtentCalls, ExtentFinder } from "../../../../src/platform/node/extents.ts";
import type { SeekKind } from "../../../../src/platform/node/native.ts";
import { temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();

const facts = (fd: number): fs.BigIntStats => fs.fstatSync(fd, { bigint: true });

/** Seeks in a file of `size` bytes with the data extents given, counting calls. */
function fakeNative(size: number, data: [number, number][]): { native: ExtentCalls; calls: SeekKind[] } {
  const calls: SeekKind[] = [];
  const seek = (_fd: number, offset: number, kind: SeekKind): number => {
    calls.push(kind);
    if (kind === "end") return size;
    if (offset >= size) return -6;
    const next = data.find(([, end]) => end > offset);
    if (kind === "hole") return next && next[0] <= offset ? next[1] : offset;
    return next ? Math.max(offset, next[0]) : -6;
  };
  return { native: { seek, facts }, calls };
}

test("one data extent costs one pair of calls, however often it is asked for", () => {
  const { native, calls } = fakeNative(1000, [[100, 500]]);
  const finder = new ExtentFinder(native);
  expect(finder.find(0, 100)).toEqual({ data: true, bytes: 400 });
  for (let at = 101; at < 500; at++) expect(finder.find(0, at)).toEqual({ data: true, bytes: 500 - at });
  expect(calls).toEqual(["data", "hole"]);
});

test("one hole costs one call while nobody else can write, and is asked for anew otherwise", () => {
  const { native, calls } = fakeNative(1000, [[800, 900]]);
  const finder = new ExtentFinder(native);
  void finder.find(0, 0);
  void finder.find(0, 10);
  expect(calls.splice(0)).toEqual(["data", "data"]);
  finder.setExclusive(true);
  for (let at = 0; at < 800; at++) expect(finder.find(0, at)).toEqual({ data: false, bytes: 800 - at });
  expect(calls.splice(0)).toEqual(["data"]);
  finder.setExclusive(false);
  void finder.find(0, 10);
  expect(calls).toEqual(["data"]);
});

test("a write forgets a hole that it touches, and nothing else", () => {
  const { native, calls } = fakeNative(1000, [[800, 900]]);
  const finder = new ExtentFinder(native);
  finder.setExclusive(true);
  void finder.find(0, 100);
  finder.written(0, 100);
  finder.written(800, 1000);
  void finder.find(0, 100);
  expect(calls.splice(0)).toEqual(["data"]);
  finder.written(799, 801);
  void finder.find(0, 100);
  expect(calls).toEqual(["data"]);
});

test("the hole at the end reaches the end, and beyond it nothing is known", () => {
  const finder = new ExtentFinder(fakeNative(1000, [[0, 10]]).native);
  expect(finder.find(0, 10)).toEqual({ data: false, bytes: 990 });
  expect(finder.find(0, 1000)).toBeUndefined();
});

test("a filesystem without SEEK_DATA is asked once, then the block count decides", () => {
  fs.writeFileSync(path("full"), new Uint8Array(8192).fill(1));
  const fd = fs.openSync(path("full"), "r");
  fs.fsyncSync(fd);
  let calls = 0;
  const finder = new ExtentFinder({ seek: () => (calls++, -22), facts });
  expect(finder.find(fd, 0)).toBeUndefined();
  expect(finder.find(fd, 96)).toEqual({ data: true, bytes: 8096 });
  expect(calls).toBe(1);
  fs.closeSync(fd);
});

test("other errors are reported", () => {
  const finder = new ExtentFinder({ seek: () => -5, facts });
  expect(() => finder.find(0, 0)).toThrow(expect.objectContaining({ code: "EIO" }));
});

test("what is asked for elsewhere is kept, unless the file changes meanwhile", async () => {
  const { native, calls } = fakeNative(1000, [[800, 900]]);
  const later: ExtentCalls = {
    facts,
    seek: (...words) => Promise.resolve().then(() => native.seek!(...words)),
  };
  const finder = new ExtentFinder(later);
  finder.setExclusive(true);
  expect(await finder.find(0, 0)).toEqual({ data: false, bytes: 800 });
  expect(finder.find(0, 10)).toEqual({ data: false, bytes: 790 });
  expect(calls.splice(0)).toEqual(["data"]);
  finder.forget();
  const asked = finder.find(0, 0);
  finder.written(0, 100);
  await asked;
  expect(finder.find(0, 0)).toBeInstanceOf(Promise);
});

/** What fstat tells of a file of `pages` pages and `size` bytes. */
function told(size: number, { pages, device = 0 }: { pages: number; device?: number }): fs.BigIntStats {
  const dev = BigInt(device) * 256n + 30n;
  const some = fs.statSync(".", { bigint: true });
  return Object.assign(some, { size: BigInt(size), blocks: BigInt(pages) * 8n, dev });
}

test("a large file in memory that has all of its pages is not looked through for holes", () => {
  const size = 2 ** 26 + 5000;
  const pages = 2 ** 14 + 2;
  const { native, calls } = fakeNative(size, [[0, 2 ** 26]]);
  let now = told(size, { pages });
  const finder = new ExtentFinder({ ...native, facts: () => now });
  expect(finder.find(0, 0)).toEqual({ data: true, bytes: size });
  expect(finder.find(0, 2 ** 26)).toEqual({ data: true, bytes: 5000 });
  expect(calls.splice(0)).toEqual(["data"]);
  for (const other of [
    told(size, { pages: pages - 1 }),
    told(size, { pages: pages + 1 }),
    told(size, { pages, device: 8 }),
  ]) {
    now = other;
    finder.forget();
    expect(finder.find(0, 4096)).toEqual({ data: true, bytes: 2 ** 26 - 4096 });
    expect(calls.splice(0)).toEqual(["data", "hole"]);
  }
});

test("whether a file has all of its pages is asked anew when that changed meanwhile", async () => {
  const size = 2 ** 26;
  const { native, calls } = fakeNative(size, [[0, size / 2]]);
  let now = told(size, { pages: size / 4096 });
  const facts = async (): Promise<fs.BigIntStats> => {
    const then = now;
    await Promise.resolve();
    return then;
  };
  const finder = new ExtentFinder({ ...native, facts });
  const asked = finder.find(0, 0);
  now = told(size, { pages: size / 8192 });
  finder.forget();
  expect(await asked).toEqual({ data: true, bytes: size });
  expect(await finder.find(0, 0)).toEqual({ data: true, bytes: size / 2 });
  expect(calls).toEqual(["data", "data", "hole"]);
});

test("a small file has its holes, however many blocks it takes", () => {
  const { native, calls } = fakeNative(8192, [[0, 4096]]);
  const finder = new ExtentFinder({ ...native, facts: () => told(8192, { pages: 2 }) });
  expect(finder.find(0, 0)).toEqual({ data: true, bytes: 4096 });
  expect(calls).toEqual(["data", "hole"]);
});

test("many who ask at once share one answer, and look for themselves beyond it", async () => {
  const { native, calls } = fakeNative(1000, [
    [0, 500],
    [600, 1000],
  ]);
  const finder = new ExtentFinder({
    facts,
    seek: (...words) => Promise.resolve().then(() => native.seek!(...words)),
  });
  const found = await Promise.all([0, 100, 499, 600, 700].map(async (at) => finder.find(0, at)));
  expect(found).toEqual([500, 400, 1, 400, 300].map((bytes) => ({ data: true, bytes })));
  expect(calls).toHaveLength(2 * 3);
  const lost = new ExtentFinder({ facts, seek: () => Promise.resolve(-5) });
  const asked = await Promise.allSettled([0, 1].map(async (at) => lost.find(0, at)));
  expect(asked.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});
