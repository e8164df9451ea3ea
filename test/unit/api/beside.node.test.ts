// convert() and compare() by copies from file to file: the same comes of it as by reads and writes, however far such a copy gets,
// and errors are told as by those.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeEach, expect, test } from "vitest";
import { blockError } from "../../../src/base/errors.ts";
import type { FilePart, HostFile } from "../../../src/base/host.ts";
import {
  CopyError,
  check,
  compare,
  convert,
  createEngine,
  createImage,
  openNode,
  type Engine,
  type Node,
} from "../../../src/node.ts";
import { randomness } from "../../support/random.ts";
import { KiB, MiB, pattern } from "../support/graph.ts";

const folder = mkdtempSync(join(tmpdir(), "blockwright-convert-files-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = (name: string): string => join(folder, name);

let engine: Engine;
let last = 0;
/** Bytes that files were asked to copy from, or compare with, others, and what is made of the answers. */
let asked = 0;
let answer: (count: number) => number;

/** What covers this byte of a source can't be read, or of a target not be written. */
/** Told of each list that a file is to copy. */
let onList: (parts: readonly FilePart[]) => void = () => undefined;
let fault: { side: "read" | "write"; at: number } | undefined;

beforeEach(() => {
  asked = 0;
  answer = (count) => count;
  fault = undefined;
  onList = () => undefined;
  engine = newEngine(0);
});

function newEngine(copyLeastBytes: number): Engine {
  const made = createEngine({ io: "in-turn", copyLeastBytes });
  const { files } = made.graph.host;
  const open = files.open.bind(files);
  files.open = async (name, options) => counted(await open(name, options), name.includes("source"));
  return made;
}

afterEach(() => engine.close());

/** How many bytes of a range come before the fault, if it is on this side. */
function untilFault(side: "read" | "write", offset: number, bytes: number): number {
  const isHit = fault?.side === side && offset <= fault.at && fault.at < offset + bytes;
  return isHit ? fault!.at - offset : bytes;
}

/** Fails a request of a file that the fault is in. */
function failing(file: HostFile, side: "read" | "write"): void {
  const request = file[side].bind(file);
  file[side] = (buffer: Uint8Array, offset: number): never => {
    if (untilFault(side, offset, buffer.byteLength) < buffer.byteLength) throw blockError("EIO", `p${side}`);
    return request(buffer, offset) as never;
  };
}

function bytesOf(parts: readonly FilePart[]): number {
  return parts.reduce((sum, { source }) => sum + source.bytes, 0);
}

function counted(file: HostFile, isSource: boolean): HostFile {
  failing(file, isSource ? "read" : "write");
  const copyFrom = file.copyFrom!.bind(file);
  file.copyFrom = (parts, zeroes) => {
    const copying = copyFrom(parts, zeroes);
    if (copying) {
      asked += bytesOf(parts);
      onList(parts);
    }
    return copying?.then((counts) =>
      counts.map((count, index) => {
        const { offset, source } = parts[index]!;
        const reached = Math.min(
          untilFault("read", source.offset, source.bytes),
          untilFault("write", offset, source.bytes),
        );
        return answer(Math.min(count, reached));
      }),
    );
  };
  const sameAs = file.sameAs!.bind(file);
  file.sameAs = (parts) => {
    const comparing = sameAs(parts);
    if (comparing) asked += bytesOf(parts);
    return comparing?.then((counts) => counts.map((count) => answer(count)));
  };
  return file;
}

const formats = ["raw", "qcow2"] as const;
type Format = (typeof formats)[number];

function spec(
  driver: Format,
  filename: string,
): { driver: Format; file: { driver: "file"; filename: string } } {
  return { driver, file: { driver: "file", filename } };
}

/** A new image with data in it, nearly dense: a hole, runs of zeroes within the data, and an end that is no cluster. */
async function source(format: Format, { writable = false, unit = MiB } = {}): Promise<Node> {
  const filename = path(`source-${(last += 1)}`);
  const size = 20 * unit + 4 * KiB;
  await createImage({ ...spec(format, filename), size }, { engine });
  const writer = await openNode(spec(format, filename), { engine });
  const data = pattern(12 * unit, 3);
  data.fill(0, 3 * unit, 3 * unit + 8 * KiB);
  await writer.write(0, data);
  await writer.write(15 * unit, pattern(5 * unit + 4 * KiB, 4));
  await writer.close();
  return openNode({ ...spec(format, filename), "read-only": !writable }, { engine });
}

/** A disk of small pieces with holes between them, which begin and end within clusters or not. */
async function scattered(format: Format): Promise<Node> {
  const filename = path(`source-${(last += 1)}`);
  await createImage({ ...spec(format, filename), size: 64 * MiB }, { engine });
  const writer = await openNode(spec(format, filename), { engine });
  const below = randomness(7);
  for (let at = 0; at < 60 * MiB; at += 64 * KiB * (1 + below(12))) {
    const isWhole = below(2) === 0;
    const data = pattern(isWhole ? 64 * KiB * (1 + below(3)) : 4 * KiB * (1 + below(15)), at / 65536);
    if (below(5) === 0) data.fill(0, 0, 8 * KiB);
    await writer.write(at + (isWhole ? 0 : 4 * KiB * below(4)), data);
  }
  await writer.write(7 * MiB, pattern(64 * KiB, 8));
  await writer.close();
  return openNode({ ...spec(format, filename), "read-only": true }, { engine });
}

async function target(format: Format, size: number): Promise<Node> {
  const filename = path(`target-${(last += 1)}`);
  await createImage({ ...spec(format, filename), size }, { engine });
  return openNode(spec(format, filename), { engine });
}

async function expectCopy(from: Node, to: Node): Promise<void> {
  const [a, b] = [new Uint8Array(from.length), new Uint8Array(from.length)];
  await Promise.all([from.read(0, a), to.read(0, b)]);
  expect(Buffer.from(a.buffer).equals(b)).toBe(true);
  const { name } = to.blockNode.type;
  await Promise.all([from.close(), to.close()]);
  if (name !== "qcow2") return;
  const report = await check(spec("qcow2", path(`target-${last}`)), { engine });
  expect([report.corruptions ?? 0, report.leaks ?? 0]).toEqual([0, 0]);
}

for (const from of formats)
  for (const to of formats)
    test(`${from} to ${to}: as without`, async () => {
      const disk = await source(from);
      const made = await target(to, disk.length);
      const told: number[] = [];
      await convert(disk, made, { targetIsZero: true, onProgress: (done) => told.push(done) });
      expect(asked).toBeGreaterThan(4 * MiB);
      expect(told).toEqual(told.toSorted((a, b) => a - b));
      expect(told.at(-1)).toBe(disk.length);
      await expectCopy(disk, made);
    });

for (const from of formats)
  for (const to of formats)
    test(`small pieces, ${from} to ${to}: many are handed over at once`, async () => {
      const disk = await scattered(from);
      const made = await target(to, disk.length);
      const lists: number[] = [];
      const { files } = engine.graph.host;
      expect(files.copyLeastBytes).toBe(0);
      onList = (parts) => lists.push(parts.length);
      const told: number[] = [];
      await convert(disk, made, { targetIsZero: true, onProgress: (done) => told.push(done) });
      expect(lists.length).toBeGreaterThan(0);
      expect(Math.max(...lists)).toBeGreaterThan(20);
      expect(told).toEqual(told.toSorted((a, b) => a - b));
      expect(told.at(-1)).toBe(disk.length);
      asked = 0;
      expect(await compare(disk, made)).toEqual({ identical: true, sizesDiffer: false });
      await expectCopy(disk, made);
      const other = await openNode(spec(to, path(`target-${last}`)), { engine });
      await other.write(41 * MiB, new Uint8Array([1]));
      await other.close();
      const [a, b] = [path(`source-${last - 1}`), path(`target-${last}`)];
      const disks = await Promise.all([
        openNode({ ...spec(from, a), "read-only": true }, { engine }),
        openNode({ ...spec(to, b), "read-only": true }, { engine }),
      ]);
      asked = 0;
      expect(await compare(...disks)).toMatchObject({ mismatch: "content", offset: 41 * MiB });
      expect(asked).toBeGreaterThan(0);
      await Promise.all(disks.map((node) => node.close()));
    });

test("whatever part of a range is copied, the rest is", async () => {
  const below = randomness(5);
  for (const [to, disks] of formats.flatMap((format) =>
    [source, scattered].map((of) => [format, of] as const),
  )) {
    answer = (count) => (below(3) === 0 ? 0 : below(2) === 0 ? count : below(count + 1));
    const disk = await disks("raw");
    const made = await target(to, disk.length);
    await convert(disk, made, { targetIsZero: true });
    expect(asked).toBeGreaterThan(0);
    await expectCopy(disk, made);
  }
});

const pairs = [source, scattered].flatMap((disks) =>
  formats.flatMap((from) => formats.map((to) => [from, to, disks] as const)),
);

test.each(["read", "write"] as const)("what can't be %s is told as without", async (side) => {
  for (const [from, to, disks] of pairs) {
    const told: unknown[] = [];
    for (const copyLeastBytes of [0, Infinity]) {
      await engine.close();
      engine = newEngine(copyLeastBytes);
      const disk = await disks(from);
      const made = await target(to, disk.length);
      asked = 0;
      // Behind the metadata of either.
      fault = { side, at: 7 * MiB + 12_345 };
      told.push(await convert(disk, made, { targetIsZero: true }).catch(failureOf));
      expect(asked > 0).toBe(copyLeastBytes === 0);
      fault = undefined;
      await Promise.all([disk.close(), made.close()]);
      if (to === "qcow2") {
        const report = await check(spec("qcow2", path(`target-${last}`)), { engine });
        expect([report.corruptions ?? 0, report.leaks ?? 0]).toEqual([0, 0]);
      }
    }
    expect(told[0]).toMatchObject({ code: "EIO", operation: side });
    expect(told[1]).toEqual(told[0]);
  }
});

function failureOf(error: unknown): unknown {
  expect(error).toBeInstanceOf(CopyError);
  const { code, operation, message } = error as CopyError;
  return { code, operation, message };
}

test("zeroes are copied as data where that is asked for", async () => {
  const disk = await source("raw");
  const made = await target("raw", disk.length);
  await convert(disk, made, { sparseBytes: 0 });
  await expectCopy(disk, made);
});

test("a disk that somebody may write to is read here", async () => {
  const disk = await source("qcow2", { writable: true });
  const made = await target("raw", disk.length);
  await convert(disk, made, { targetIsZero: true });
  expect(asked).toBe(0);
  await expectCopy(disk, made);
});

/** What source() has, in compressed clusters of so many bytes. */
async function compressed(type: "zlib" | "zstd", clusterSize: number): Promise<Node> {
  const plain = await source("raw", { unit: MiB / 4 });
  const filename = path(`source-${(last += 1)}`);
  const how = { "compression-type": type, "cluster-size": clusterSize } as const;
  await createImage({ ...spec("qcow2", filename), ...how, size: plain.length }, { engine });
  const writer = await openNode(spec("qcow2", filename), { engine });
  await convert(plain, writer, { compress: true, targetIsZero: true });
  await Promise.all([plain.close(), writer.close()]);
  return openNode({ ...spec("qcow2", filename), "read-only": true }, { engine });
}

test.each([
  ["zlib", 64 * KiB],
  ["zlib", 4 * KiB],
  ["zstd", 64 * KiB],
] as const)(
  "compressed clusters are decompressed where they are copied: %s, %d",
  async (type, clusterSize) => {
    for (const to of formats) {
      const disk = await compressed(type, clusterSize);
      const made = await target(to, disk.length);
      asked = 0;
      await convert(disk, made, { targetIsZero: true });
      expect(asked).toBeGreaterThan(2 * MiB);
      await expectCopy(disk, made);
    }
  },
);

test.each(["zlib", "zstd"] as const)("a damaged stream is told as without: %s", async (type) => {
  const disk = await compressed(type, 64 * KiB);
  await disk.close();
  const image = { ...spec("qcow2", path(`source-${last}`)), "read-only": true };
  const bytes = readFileSync(image.file.filename);
  // Streams come last.
  bytes.fill(0xff, bytes.length - 2048);
  writeFileSync(image.file.filename, bytes);
  const told: unknown[] = [];
  for (const copyLeastBytes of [0, Infinity]) {
    await engine.close();
    engine = newEngine(copyLeastBytes);
    const damaged = await openNode(image, { engine });
    const made = await target("raw", damaged.length);
    told.push(await convert(damaged, made, { targetIsZero: true }).catch(failureOf));
    await Promise.all([damaged.close(), made.close()]);
  }
  expect(told[0]).toMatchObject({ code: "EIO", operation: "read" });
  expect(told[1]).toEqual(told[0]);
});

test("a limit on speed, compression and salvaging see each byte", async () => {
  for (const options of [{ speedBytesPerSecond: 1e9 }, { compress: true }, { salvage: () => undefined }]) {
    const disk = await source("raw", { unit: MiB / 4 });
    const made = await target("qcow2", disk.length);
    await convert(disk, made, { targetIsZero: true, ...options });
    expect(asked).toBe(0);
    await expectCopy(disk, made);
  }
});

test("an overlay is copied with what lies below it", async () => {
  const base = await source("qcow2");
  const size = base.length;
  const backing = spec("qcow2", path(`source-${last}`));
  await base.close();
  const filename = path("overlay");
  await createImage({ ...spec("qcow2", filename), size }, { engine });
  const writer = await openNode({ ...spec("qcow2", filename), backing }, { engine });
  await writer.write(5 * MiB, pattern(2 * MiB, 9));
  await writer.close();
  const disk = await openNode({ ...spec("qcow2", filename), backing, "read-only": true }, { engine });
  const made = await target("raw", size);
  await convert(disk, made, { targetIsZero: true });
  expect(asked).toBeGreaterThan(4 * MiB);
  await expectCopy(disk, made);
});

test("disks are compared as without, up to the sector that differs", async () => {
  const disk = await source("raw");
  const made = await target("qcow2", disk.length);
  await convert(disk, made, { targetIsZero: true });
  await made.close();
  const image = spec("qcow2", path(`target-${last}`));
  const below = randomness(6);
  for (const at of [undefined, 11 * MiB + 700, 512, 19 * MiB]) {
    answer = (count) => (below(2) === 0 ? count : below(count + 1));
    if (at !== undefined) {
      const writer = await openNode(image, { engine });
      await writer.write(at, new Uint8Array(1));
      await writer.close();
    }
    const other = await openNode({ ...image, "read-only": true }, { engine });
    asked = 0;
    const result = await compare(disk, other);
    expect(asked).toBeGreaterThan(0);
    if (at === undefined) expect(result).toEqual({ identical: true, sizesDiffer: false });
    else expect(result).toMatchObject({ mismatch: "content", offset: at - (at % 512) });
    await other.close();
    if (at !== undefined) await restore(image, at);
  }
  await disk.close();
});

/** What source() has there. */
async function restore(image: ReturnType<typeof spec>, at: number): Promise<void> {
  const writer = await openNode(image, { engine });
  const data = at < 12 * MiB ? pattern(12 * MiB, 3)[at]! : pattern(5 * MiB, 4)[at - 15 * MiB]!;
  await writer.write(at, new Uint8Array([data]));
  await writer.close();
}
