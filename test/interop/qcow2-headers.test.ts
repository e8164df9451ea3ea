// Headers, snapshot entries and refcounts as other writers left them, beside qemu-img: two records of one kind, short tables,
// old snapshot entries, counts beyond 2^53.
import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { patchFile } from "./support/bad-images.ts";
import { Twins } from "./support/twins.ts";

const twins = new Twins();
afterAll(() => twins.remove());
beforeEach(() => {
  twins.run("rm", "-f a.qcow2");
});

function make(options: string, size = "4M"): string {
  twins.run("qemu-img", `create -q -f qcow2 -o ${options} a.qcow2 ${size}`);
  return join(twins.theirs, "a.qcow2");
}

function poke(path: string, at: number, bytes: Uint8Array): void {
  const file = openSync(path, "r+");
  writeSync(file, bytes, 0, bytes.byteLength, at);
  closeSync(file);
}

function peek(path: string, at: number, bytes: number): Buffer {
  const file = openSync(path, "r");
  const data = Buffer.alloc(bytes);
  readSync(file, data, 0, bytes, at);
  closeSync(file);
  return data;
}

/** A header extension. */
function record(type: number, data: string | Uint8Array): Buffer {
  const body = Buffer.from(data as string);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(type);
  head.writeUInt32BE(body.byteLength, 4);
  return Buffer.concat([head, body, Buffer.alloc((8 - (body.byteLength % 8)) % 8)]);
}

const FORMAT = 0xe2792aca;
const FEATURES = 0x6803f857;
const HEADER = 112;

/** What `info` and `check` of both say, and one write. */
function expectSame(...lines: string[][]): void {
  twins.same();
  for (const line of lines) {
    const { theirs, ours } = twins.both(...line);
    expect({ line, ...ours }).toEqual({ line, ...theirs });
  }
}

function extraBytes(directory: string): number[] {
  const path = join(directory, "a.qcow2");
  const count = peek(path, 60, 4).readUInt32BE();
  let at = Number(peek(path, 64, 8).readBigUInt64BE());
  return Array.from({ length: count }, () => {
    const head = peek(path, at, 40);
    const extra = head.readUInt32BE(36);
    at += Math.ceil((40 + extra + head.readUInt16BE(12) + head.readUInt16BE(14)) / 8) * 8;
    return extra;
  });
}

describe("header extensions", () => {
  it("of one kind: the last one counts", () => {
    const path = make("compat=1.1");
    twins.run("qemu-img", "create -q -f raw base 4M");
    twins.run("qemu-img", "rebase -u -b base -F raw a.qcow2");
    const name = peek(path, 8, 8).readBigUInt64BE();
    const length = peek(path, 16, 4);
    const records = Buffer.concat([record(FORMAT, "qcow2"), record(FORMAT, "raw"), Buffer.alloc(8)]);
    const bytes = Buffer.alloc(400);
    records.copy(bytes);
    const text = peek(path, Number(name), length.readUInt32BE());
    poke(path, HEADER, bytes);
    poke(path, 800, text);
    patchFile(path, [8, 8, 800n]);
    expectSame(["info", "a.qcow2"]);
  });

  it.each([
    ["shorter than one entry", "\0\u003fTest feature"],
    ["that ends in an entry", `\0\u003e${"x".repeat(46)}\0\u003fy`],
    ["that ends at an entry without a name", `\0\u003e${"\0".repeat(46)}\0\u003fTest${"\0".repeat(42)}`],
  ])("a table of feature names %s", (_, table) => {
    const path = make("compat=1.1");
    poke(path, HEADER, Buffer.concat([record(FEATURES, table), Buffer.alloc(8)]));
    patchFile(path, [72, 8, 3n << 62n]);
    expectSame(["info", "a.qcow2"], ["check", "a.qcow2"]);
  });

  it.each([
    ["beyond the backing name", 120n, 0x1000n],
    ["whose head crosses the backing name", 116n, 0n],
    ["beyond the first cluster", 0n, 0x7fffffffn],
  ])("one %s", (_, name, length) => {
    const path = make("compat=1.1");
    patchFile(path, [8, 8, name], [HEADER, 4, 0x12345678n], [HEADER + 4, 4, length]);
    const { theirs, ours } = (twins.same(), twins.both("info", "a.qcow2"));
    expect(theirs.stderr).toContain("Header extension too large");
    expect(ours).toEqual(theirs);
  });

  it.each(["-o compat=0.10", "-o compat=1.1"])("amend %s takes the feature names along", (options) => {
    make(options.includes("0.10") ? "compat=1.1" : "compat=0.10");
    expectSame(["amend", ...options.split(" "), "a.qcow2"]);
    const table = Buffer.alloc(4);
    table.writeUInt32BE(FEATURES);
    const has = (directory: string): boolean =>
      readFileSync(join(directory, "a.qcow2")).subarray(0, 1024).includes(table);
    expect(has(twins.theirs)).toBe(options.includes("1.1"));
    expect(has(twins.ours)).toBe(has(twins.theirs));
  });
});

describe("snapshots", () => {
  /** An image of version 2 with three snapshots, the first without extra data and the second with a part of it. */
  function makeOld(): void {
    const path = make("compat=0.10");
    for (const name of ["one", "two", "three"]) twins.run("qemu-img", `snapshot -c ${name} a.qcow2`);
    const at = Number(peek(path, 64, 8).readBigUInt64BE());
    const old = peek(path, at, 1024);
    const parts: Buffer[] = [];
    let from = 0;
    for (const keep of [0, 8, 24]) {
      const names = old.readUInt16BE(from + 12) + old.readUInt16BE(from + 14);
      const entry = Buffer.alloc(Math.ceil((40 + keep + names) / 8) * 8);
      old.copy(entry, 0, from, from + 40 + keep);
      entry.writeUInt32BE(keep, 36);
      old.copy(entry, 40 + keep, from + 64, from + 64 + names);
      parts.push(entry);
      from += Math.ceil((64 + names) / 8) * 8;
    }
    poke(path, at, Buffer.concat([...parts, Buffer.alloc(256)]));
  }

  it("of old writers are completed by amend -o compat=1.1, and whenever their table is written", () => {
    makeOld();
    twins.same();
    expect(extraBytes(twins.ours)).toEqual([0, 8, 24]);
    for (const line of ["amend -o compat=1.1 a.qcow2", "snapshot -l a.qcow2", "check a.qcow2"]) {
      const { theirs, ours } = twins.both(...line.split(" "));
      expect(ours).toEqual(theirs);
    }
    expect(extraBytes(twins.ours)).toEqual([24, 24, 24]);
    makeOld();
    twins.same();
    twins.both("snapshot", "-d", "two", "a.qcow2");
    expect(extraBytes(twins.ours)).toEqual(extraBytes(twins.theirs));
    execFileSync("qemu-img", ["check", "a.qcow2"], { cwd: twins.ours });
  });

  it("with too much extra data: opening tells how to be rid of it", () => {
    const path = make("compat=1.1");
    twins.run("qemu-img", "snapshot -c one a.qcow2");
    const at = Number(peek(path, 64, 8).readBigUInt64BE());
    patchFile(path, [at + 36, 4, 65536n]);
    twins.same();
    const { theirs, ours } = twins.both("info", "a.qcow2");
    expect(ours.stderr).toContain("You can force-remove this extra metadata");
    expect(ours.stderr).toBe(theirs.stderr);
  });
});

describe("a snapshot that fails", () => {
  /** Where the second level begins. */
  function l2Of(path: string): number {
    const l1 = Number(peek(path, 40, 8).readBigUInt64BE());
    return Number(peek(path, l1, 8).readBigUInt64BE() & 0xfffffffffffe00n);
  }

  it.each([
    ["no refcount table reaches", 0xbfffffffffff0000n],
    ["nothing counts", 0x800000ffffff0000n],
  ])("over an entry for a cluster that %s: as qemu-img's, and nothing leaks or is repaired", (_, entry) => {
    const path = make("compat=1.1");
    twins.write("a.qcow2", "write -q -P 5 0 256k");
    // The fault comes after what was counted already; another, older one is not its business.
    patchFile(path, [l2Of(path) + 16, 8, entry], [l2Of(path) + 24, 8, 0n]);
    twins.same();
    const before = readFileSync(path);
    const { theirs, ours } = twins.both("snapshot", "-c", "s", "a.qcow2");
    expect(ours).toEqual(theirs);
    expect(theirs.status).toBe(1);
    expect(readFileSync(join(twins.ours, "a.qcow2")).subarray(0, before.byteLength).equals(before)).toBe(
      true,
    );
  });

  it.each([
    ["the first block, clusters of 64 KiB", 65536, 0, "100k"],
    ["the second block, clusters of 512 bytes", 512, 1, "140k"],
  ])(
    "over a refcount block behind the end of the file (%s) leaves the file as long as it was",
    (_, cluster, index, data) => {
      const path = make(`cluster_size=${cluster}`);
      twins.write("a.qcow2", `write -q -P 5 0 ${data}`);
      const table = Number(peek(path, 48, 8).readBigUInt64BE());
      expect(peek(path, table + 8 * index, 8).readBigUInt64BE()).not.toBe(0n);
      patchFile(path, [table + 8 * index, 8, 1n << 40n]);
      twins.same();
      const { size } = statSync(path);
      const said = twins.blockwright("snapshot", "-c", "s", "a.qcow2");
      expect(said.status).toBe(1);
      expect(said.stderr).toContain("Could not create snapshot 's': -5 (Input/output error)");
      expect(statSync(join(twins.ours, "a.qcow2")).size).toBeLessThanOrEqual(size + 65536);
      execFileSync("qemu-io", ["-r", "-c", `read -P 5 0 ${data}`, "a.qcow2"], { cwd: twins.ours });
    },
  );
});

/** Sets the count of a cluster in the first block of refcounts of 64 bits. */
function setCount(path: string, cluster: number, count: bigint): void {
  const block = Number(peek(path, Number(peek(path, 48, 8).readBigUInt64BE()), 8).readBigUInt64BE());
  patchFile(path, [block + cluster * 8, 8, count]);
}

describe("refcounts of 64 bits", () => {
  it.each([
    ["2^53 + 1", 2n ** 53n + 1n],
    ["2^63", 2n ** 63n],
    ["2^64 - 1", 2n ** 64n - 1n],
  ])("%s is counted down exactly", (_, count) => {
    const path = make("refcount_bits=64");
    twins.write("a.qcow2", "write -q -P 5 0 64k");
    const l2 = Number(
      peek(path, Number(peek(path, 40, 8).readBigUInt64BE()), 8).readBigUInt64BE() & 0xfffffffffffe00n,
    );
    const entry = peek(path, l2, 8).readBigUInt64BE() & 0xfffffffffffe00n;
    const block = Number(peek(path, Number(peek(path, 48, 8).readBigUInt64BE()), 8).readBigUInt64BE());
    const slot = block + (Number(entry) / 65536) * 8;
    patchFile(path, [l2, 8, entry], [slot, 8, count]);
    twins.same();
    const theirs = twins.qemuIo(["-c", "write -q 0 512", "a.qcow2"]);
    expect(twins.blockwright("io", "-c", "write -q 0 512", "a.qcow2")).toEqual(theirs);
    for (const directory of [twins.theirs, twins.ours])
      expect(peek(join(directory, "a.qcow2"), slot, 8).readBigUInt64BE()).toBe(count - 1n);
    // One more reference on a cluster whose count is full.
    if (count !== 2n ** 64n - 1n) return;
    patchFile(path, [l2, 8, entry], [slot, 8, count]);
    twins.same();
    const snapshot = twins.both("snapshot", "-c", "s", "a.qcow2");
    expect(snapshot.ours).toEqual(snapshot.theirs);
    expect(peek(join(twins.ours, "a.qcow2"), slot, 8).readBigUInt64BE()).toBe(count);
  });

  it.each([
    [0, 70000n, 16, 1],
    [0, 70000n, 32, 0],
    [5, 2n ** 32n - 1n, 32, 0],
    [5, 2n ** 32n, 32, 1],
    [5, 2n ** 53n + 1n, 16, 1],
    [9, 2n ** 63n, 1, 1],
    [9, 2n ** 64n - 1n, 32, 1],
    [9, 2n ** 64n - 1n, 64, 0],
  ])(
    "cluster %i with %i references is amended to %i bits as qemu-img does",
    (cluster, count, bits, status) => {
      const path = make("refcount_bits=64");
      twins.write("a.qcow2", "write -q -P 5 0 64k");
      setCount(path, cluster, count);
      expectSame(["amend", "-o", `refcount_bits=${bits}`, "a.qcow2"], ["check", "a.qcow2"]);
      expect(twins.both("amend", "-o", `refcount_bits=${bits}`, "a.qcow2").ours.status).toBe(status);
    },
  );
});
