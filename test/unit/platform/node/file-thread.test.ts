// Copying and comparing from file to file on two threads: what is copied, where it stops, and that nothing is told of what failed.
import * as fs from "node:fs";
import type { WorkerOptions } from "node:worker_threads";
import { afterEach, expect, test, vi } from "vitest";
import type { FilePart, HostFile } from "../../../../src/base/host.ts";
import type { FileZeroes } from "../../../../src/base/ranges.ts";
import { onFileThreads, PIECE } from "../../../../src/platform/node/file-thread.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { pattern, temporaryDirectory } from "./support.ts";

const path = temporaryDirectory();
const { files } = nodeHost();
const KiB = 1024;
const bytes = (name: string, from = 0): Buffer => fs.readFileSync(path(name)).subarray(from);
const asData = { granule: 0, unit: 0 };

/** What the copying thread calls in this one. */
const calls = process.getBuiltinModule("node:fs");

// On a loaded machine a thread takes long to begin.
vi.setConfig({ testTimeout: 150_000 });

afterEach(() => vi.restoreAllMocks());

async function pair(name: string, content: Uint8Array): Promise<[HostFile, HostFile]> {
  fs.writeFileSync(path(`${name}-from`), content);
  await files.create(path(`${name}-to`), { size: 0 });
  const from = await files.open(path(`${name}-from`), { write: false });
  return [from, await files.open(path(`${name}-to`), { write: true })];
}

/** Copies one range of a file to `offset` of another: the bytes done. */
function copyOne(
  to: HostFile,
  offset: number,
  source: FilePart["source"],
  zeroes: FileZeroes,
): Promise<number> | undefined {
  return to.copyFrom!([{ offset, source }], zeroes)?.then((counts) => counts[0]!);
}

/** Compares one. */
function sameOne(to: HostFile, offset: number, source: FilePart["source"]): Promise<number> | undefined {
  return to.sameAs!([{ offset, source }])?.then((counts) => counts[0]!);
}

test("copies ranges of any length, several at once", async () => {
  const content = pattern(9 * PIECE + 777);
  const [from, to] = await pair("whole", content);
  const copies = [
    copyOne(to, 1000, { file: from, offset: 0, bytes: content.length }, asData),
    copyOne(to, 0, { file: from, offset: 5000, bytes: 1000 }, { granule: 512, unit: 0 }),
  ];
  expect([await copies[0], await copies[1]]).toEqual([content.length, 1000]);
  expect(bytes("whole-to").subarray(0, 1000).equals(content.subarray(5000, 6000))).toBe(true);
  expect(bytes("whole-to", 1000).equals(content)).toBe(true);
  await Promise.all([from.close(), to.close()]);
});

test("stops at a piece with a granule of zeroes, wherever it lies", async () => {
  for (const zero of [0, 4096, PIECE - 4096, PIECE, 2 * PIECE - 4096]) {
    const content = pattern(2 * PIECE).fill(0, zero, zero + 4096);
    const [from, to] = await pair(`zero-${zero}`, content);
    const range = { file: from, offset: 0, bytes: content.length };
    const done = await copyOne(to, 0, range, { granule: 4096, unit: 0 });
    expect(done).toBe(zero - (zero % PIECE));
    expect(bytes(`zero-${zero}-to`).subarray(0, done).equals(content.subarray(0, done))).toBe(true);
    expect(await copyOne(to, 0, range, { granule: 8192, unit: 0 })).toBe(content.length);
    expect(await copyOne(to, 0, range, asData)).toBe(content.length);
    expect(bytes(`zero-${zero}-to`).equals(content)).toBe(true);
    await Promise.all([from.close(), to.close()]);
  }
});

/** Copies over bytes that are all 255: what comes of it, and how far it came. */
async function copyOver(
  name: string,
  content: Uint8Array,
  zeroes: { granule: number; unit: number },
): Promise<[Buffer, number]> {
  const [from, to] = await pair(name, content);
  await to.write(new Uint8Array(content.length).fill(255), 0);
  const done = await copyOne(to, 0, { file: from, offset: 0, bytes: content.length }, zeroes);
  await Promise.all([from.close(), to.close()]);
  return [bytes(`${name}-to`), done!];
}

test("leaves granules of zeroes unwritten where it may", async () => {
  const content = pattern(3 * PIECE);
  const holes: [number, number][] = [
    [0, 4 * KiB],
    [20 * KiB, 60 * KiB],
    [PIECE - 4 * KiB, PIECE + 8 * KiB],
    [2 * PIECE, 3 * PIECE],
  ];
  for (const [start, end] of holes) content.fill(0, start, end);
  const [made, done] = await copyOver("holes", content, { granule: 4 * KiB, unit: Infinity });
  expect(done).toBe(content.length);
  const expected = Buffer.from(content);
  for (const [start, end] of holes) expected.fill(255, start, end);
  expect(made.equals(expected)).toBe(true);
});

test("stops where a whole unit is zeroes, and writes the last granule", async () => {
  const zeroes = { granule: 4 * KiB, unit: 64 * KiB };
  const content = pattern(2 * PIECE);
  // Together more than a unit, but none whole.
  content.fill(0, 4 * KiB, 124 * KiB);
  content.fill(0, content.length - 8 * KiB);
  const [made, done] = await copyOver("units", content, zeroes);
  expect(done).toBe(content.length);
  const expected = Buffer.from(content).fill(255, 4 * KiB, 124 * KiB);
  expected.fill(255, content.length - 8 * KiB, content.length - 4 * KiB);
  expect(made.equals(expected)).toBe(true);
  content.fill(0, 64 * KiB, 128 * KiB);
  expect((await copyOver("unit", content, zeroes))[1]).toBe(0);
  // Of a unit that is larger than a piece, a piece of zeroes is enough.
  const late = pattern(3 * PIECE).fill(0, PIECE, 2 * PIECE);
  expect((await copyOver("large", late, { granule: 4 * KiB, unit: 4 * PIECE }))[1]).toBe(PIECE);
});

test("tells only how far it came: at the end of the source, and where nothing can be written or read", async () => {
  const [from, to] = await pair("short", pattern(PIECE + 4096));
  const range = { file: from, offset: 0, bytes: 2 * PIECE };
  expect(await copyOne(to, 0, range, asData)).toBe(PIECE);
  expect(await copyOne(from, 0, { file: to, offset: 0, bytes: 4096 }, asData)).toBe(0);
  const full = await files.open("/dev/full", { write: true });
  expect(await copyOne(full, 0, { file: from, offset: 0, bytes: 4096 }, asData)).toBe(0);
  const gone = { b: 999_999, ranges: [{ a: 999_999, atA: 0, atB: 0, bytes: 1 }] };
  expect(await onFileThreads({ verb: "copy", ...gone, ...asData })).toEqual([0]);
  expect(await onFileThreads({ verb: "compare", ...gone })).toEqual([0]);
  await Promise.all([from.close(), to.close(), full.close()]);
});

test.each(["readSync", "writeSync"] as const)("each %s of this thread fails in its turn", async (name) => {
  const content = pattern(6 * PIECE);
  const original = calls[name];
  for (let nth = 1; nth <= 6; nth++) {
    let count = 0;
    let failed = false;
    const [from, to] = await pair(`nth-${name}-${nth}`, content);
    vi.spyOn(calls, name).mockImplementation((...args: Parameters<typeof original>) => {
      failed ||= (count += 1) === nth;
      if (count === nth) throw Object.assign(new Error("EIO"), { code: "EIO" });
      return (original as (...given: Parameters<typeof original>) => number)(...args);
    });
    const done = await copyOne(to, 0, { file: from, offset: 0, bytes: content.length }, asData);
    vi.restoreAllMocks();
    expect(done! < content.length).toBe(failed);
    expect(done! % PIECE).toBe(0);
    const made = bytes(`nth-${name}-${nth}-to`);
    expect(made.subarray(0, done).equals(content.subarray(0, done))).toBe(true);
    await Promise.all([from.close(), to.close()]);
  }
});

const refuse = (): string => expect.unreachable();
const exit = (): string => "process.exit(0)";

test.each([
  ["can't be begun", refuse, undefined],
  ["ends by itself", exit, 4 * PIECE],
] as const)("a thread that %s costs nothing but its help", async (name, program, first) => {
  const threads = process.getBuiltinModule("node:worker_threads");
  const { Worker } = threads;
  vi.resetModules();
  class Other extends Worker {
    constructor(_program: string, how: WorkerOptions) {
      super(program(), how);
    }
  }
  vi.spyOn(threads, "Worker", "get").mockReturnValue(Other);
  const anew = await import("../../../../src/platform/node/file-thread.ts");
  fs.writeFileSync(path(`a-${first}`), pattern(4 * PIECE));
  const [a, b] = [fs.openSync(path(`a-${first}`), "r"), fs.openSync(path(`b-${first}`), "w")];
  const ranges = [{ a, atA: 0, atB: 0, bytes: 4 * PIECE }];
  const job = { verb: "copy", b, ranges, ...asData } as const;
  expect(await anew.onFileThreads(job), name).toEqual(first && [first]);
  if (first) await expect.poll(() => anew.onFileThreads(job)).toBeUndefined();
  for (const fd of [a, b]) fs.closeSync(fd);
  expect(bytes(`b-${first}`).byteLength).toBe(first ?? 0);
});

test("is not to be had within one file, nor with granules that are no part of a piece", async () => {
  const [from, to] = await pair("refused", pattern(8192));
  expect(copyOne(to, 0, { file: to, offset: 4096, bytes: 4096 }, asData)).toBeUndefined();
  const odd = { granule: 3000, unit: 0 };
  expect(copyOne(to, 0, { file: from, offset: 0, bytes: 4096 }, odd)).toBeUndefined();
  await Promise.all([from.close(), to.close()]);
});

test("a file that is closed meanwhile is closed when the copy is over", async () => {
  const content = pattern(4 * PIECE);
  const [from, to] = await pair("closed", content);
  const copying = copyOne(to, 0, { file: from, offset: 0, bytes: content.length }, asData)!;
  await Promise.all([from.close(), to.close()]);
  expect(await copying).toBe(content.length);
  expect(bytes("closed-to").equals(content)).toBe(true);
});

/** Ranges of `from` in the order in which they are given, from `at` on of the target, with gaps between them. */
function scattered(from: HostFile, lengths: readonly number[], at: number): FilePart[] {
  let offset = at;
  let place = 0;
  return lengths.map((length) => {
    const part = { offset, source: { file: from, offset: place, bytes: length } };
    offset += length + 4096;
    place += length + 512;
    return part;
  });
}

test("copies many ranges at once, and tells how far each came", async () => {
  const lengths = [4096, 100, PIECE, 2 * PIECE + 1, ...Array.from({ length: 60 }, (_, n) => 512 + n * 1000)];
  const content = pattern(lengths.reduce((sum, length) => sum + length + 512, 0));
  const [from, to] = await pair("list", content);
  const [other] = await pair("list-other", content);
  // From two files, the highest first: the order is nobody's business.
  const parts = [...scattered(from, lengths, 0), ...scattered(other, lengths, 16 * PIECE)].toReversed();
  const rule = { granule: 4096, unit: 0 };
  content.fill(0, 4096 + 100 + 1024, 4096 + 100 + 1024 + 4096);
  fs.writeFileSync(path("list-from"), content);
  const counts = await to.copyFrom!(parts, rule);
  const made = bytes("list-to");
  // The third of the one file begins with zeroes; behind them nothing of it is done, and all of the others is.
  const expected = parts.map(({ source: { file, bytes: all } }) =>
    file === from && all === PIECE ? 0 : all,
  );
  expect(counts).toEqual(expected);
  for (const [index, { offset, source }] of parts.entries()) {
    const same = made.subarray(offset, offset + counts![index]!);
    const original = bytes(source.file === from ? "list-from" : "list-other-from", source.offset);
    expect(same.equals(original.subarray(0, counts![index]))).toBe(true);
  }
  const read = { ...parts[0]!.source, bytes: 1 };
  expect(await to.sameAs!([parts[0]!, parts[1]!, { offset: 0, source: { ...read, offset: 1 } }])).toEqual([
    parts[0]!.source.bytes,
    parts[1]!.source.bytes,
    0,
  ]);
  await Promise.all([from.close(), to.close(), other.close()]);
});

test("compares ranges, up to the piece that differs", async () => {
  const content = pattern(3 * PIECE);
  const [a, b] = await pair("same", content);
  fs.writeFileSync(path("same-to"), content.subarray(4096));
  const range = { file: a, offset: 4096, bytes: content.length - 4096 };
  expect(await sameOne(b, 0, range)).toBe(range.bytes);
  await b.write(new Uint8Array([0]), 2 * PIECE - 1);
  expect(await sameOne(b, 0, range)).toBe(PIECE);
  expect(await sameOne(b, 0, { ...range, bytes: content.length })).toBe(PIECE);
  expect(sameOne(b, 0, { ...range, file: b })).toBeUndefined();
  await Promise.all([a.close(), b.close()]);
});

test("a thread that is expected begins before there is a job, once", async () => {
  const threads = process.getBuiltinModule("node:worker_threads");
  const { Worker } = threads;
  vi.resetModules();
  let begun = 0;
  class Counted extends Worker {
    constructor(program: string, how: WorkerOptions) {
      super(program, how);
      begun += 1;
    }
  }
  vi.spyOn(threads, "Worker", "get").mockReturnValue(Counted);
  const anew = await import("../../../../src/platform/node/file-thread.ts");
  anew.expectJobs();
  anew.expectJobs();
  expect(begun).toBe(1);
  const content = pattern(4 * PIECE);
  fs.writeFileSync(path("expected-a"), content);
  const [a, b] = [fs.openSync(path("expected-a"), "r"), fs.openSync(path("expected-b"), "w")];
  const ranges = [{ a, atA: 0, atB: 0, bytes: content.length }];
  expect(await anew.onFileThreads({ verb: "copy", b, ranges, ...asData })).toEqual([content.length]);
  for (const fd of [a, b]) fs.closeSync(fd);
  expect(begun).toBe(1);
  expect(bytes("expected-b").equals(content)).toBe(true);
});
