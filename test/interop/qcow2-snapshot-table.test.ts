// Snapshot tables beyond what is possible, beside qemu-img: what info and check say of them, what a repair cuts off, where it leaves
// the table, and names that hold NULs.
import { closeSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
afterAll(() => twins.remove());
beforeEach(() => {
  twins.run("rm", "-f a.qcow2");
});

const CLUSTER = 65536;
/** Where the tables are put. */
const TABLE = 1024 * 1024;
const COUNT_AT = 60;

/** An image whose table of `bytes` at 1 MiB is counted, and holds `entries`, each at its offset there. */
function makeTable({
  count,
  bytes,
  entries,
}: {
  count: number;
  bytes: number;
  entries: ReadonlyMap<number, Buffer>;
}): void {
  twins.run("qemu-img", `create -q -f qcow2 a.qcow2 64M`);
  const file = openSync(join(twins.theirs, "a.qcow2"), "r+");
  const put = (at: number, data: Buffer): void => void writeSync(file, data, 0, data.byteLength, at);
  const head = Buffer.alloc(12);
  head.writeUInt32BE(count);
  head.writeBigUInt64BE(BigInt(TABLE), 4);
  ftruncateSync(file, TABLE + bytes);
  put(COUNT_AT, head);
  for (const [at, entry] of entries) put(TABLE + at, entry);
  const table = read(file, 48, 8).readBigUInt64BE();
  const block = read(file, Number(table), 8).readBigUInt64BE();
  const counts = Buffer.alloc(Math.ceil(bytes / CLUSTER) * 2);
  for (let at = 0; at < counts.byteLength; at += 2) counts.writeUInt16BE(1, at);
  put(Number(block) + (TABLE / CLUSTER) * 2, counts);
  closeSync(file);
  twins.same();
}

function read(file: number, at: number, bytes: number): Buffer {
  const data = Buffer.alloc(bytes);
  readSync(file, data, 0, bytes, at);
  return data;
}

/** How many snapshots the header names, and where. */
function tableOf(directory: string): { count: number; offset: bigint } {
  const head = readFileSync(join(directory, "a.qcow2")).subarray(COUNT_AT, COUNT_AT + 12);
  return { count: head.readUInt32BE(), offset: head.readBigUInt64BE(4) };
}

/** The fixed part of an entry with an id, a name and extra data of these lengths; those bytes are NULs. */
function entry(extra: number, id = 65535, name = 65535): Buffer {
  const bytes = Buffer.alloc(40);
  bytes.writeUInt16BE(id, 12);
  bytes.writeUInt16BE(name, 14);
  bytes.writeUInt32BE(extra, 36);
  return bytes;
}

function expectSame(...words: string[]): void {
  const { theirs, ours } = twins.both(...words);
  expect({ words, ...ours }).toEqual({ words, ...theirs });
}

const most = 64 * 1024 * 1024;
/** An entry with 1 KiB of extra data and the longest names. */
const LARGE = 40 + 1024 + 2 * 65535 + 2;

describe("a snapshot table that is too big", () => {
  it("is refused, and cut off by a repair, which leaves it where it is", () => {
    const count = Math.ceil(most / LARGE);
    const entries = new Map(Array.from({ length: count }, (_, index) => [index * LARGE, entry(1024)]));
    makeTable({ count, bytes: count * LARGE, entries });
    expectSame("info", "a.qcow2");
    expectSame("check", "a.qcow2");
    expectSame("check", "-r", "leaks", "a.qcow2");
    expectSame("check", "-r", "all", "a.qcow2");
    expect(tableOf(twins.ours)).toEqual({ count: count - 1, offset: BigInt(TABLE) });
    expect(tableOf(twins.ours)).toEqual(tableOf(twins.theirs));
    expectSame("check", "a.qcow2");
    // The ids and names are empty, as texts of C.
    expectSame("snapshot", "-l", "a.qcow2");
  });

  it("with one entry of too much extra data, which goes with what is cut off", () => {
    const count = Math.ceil(most / LARGE);
    // So much that it is this entry's fault that the one before the last does not fit.
    const extra = most + 8 - LARGE - ((count - 3) * LARGE + LARGE - 1024);
    const places = Array.from({ length: count }, (_, index) => {
      const behind = index > count - 3 ? extra - 1024 : 0;
      return [index * LARGE + behind, entry(index === count - 3 ? extra : 1024)] as const;
    });
    makeTable({ count, bytes: count * LARGE + extra - 1024, entries: new Map(places) });
    expectSame("info", "a.qcow2");
    expectSame("check", "a.qcow2");
    const { theirs, ours } = twins.both("check", "-r", "all", "a.qcow2");
    // The new table lies elsewhere (docs/COMPATIBILITY.md).
    const told = ({ stdout }: { stdout: string }): string => stdout.replace(/Image end offset: \d+/, "");
    expect({ ...ours, stdout: told(ours) }).toEqual({ ...theirs, stdout: told(theirs) });
    expect(tableOf(twins.ours).count).toBe(count - 1);
    expect(twins.blockwright("check", "a.qcow2").status).toBe(0);
  });
});

describe("a name that holds a NUL", () => {
  it("ends there, in lists and for those who look for it, and its bytes stay", () => {
    twins.run("qemu-img", "create -q -f qcow2 a.qcow2 1M");
    twins.run("qemu-img", "snapshot -c first-part a.qcow2");
    twins.run("qemu-img", "snapshot -c other a.qcow2");
    const path = join(twins.theirs, "a.qcow2");
    const file = openSync(path, "r+");
    const at = readFileSync(path).indexOf("first-part");
    writeSync(file, Buffer.from([0]), 0, 1, at + 5);
    closeSync(file);
    twins.same();
    expectSame("snapshot", "-l", "a.qcow2");
    expectSame("snapshot", "-d", "other", "a.qcow2");
    expect(readFileSync(join(twins.ours, "a.qcow2")).includes("first\0part")).toBe(true);
    expectSame("snapshot", "-d", "first", "a.qcow2");
    expectSame("snapshot", "-l", "a.qcow2");
  });
});
