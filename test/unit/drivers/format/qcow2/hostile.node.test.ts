// Images that were made to harm, by the holes in other programs that they are known for. Each is refused by name, or read
// without harm; nothing stays open after a refusal, and nothing is allocated or read because an image claims to be large.
// What concerns formats that are not read here (Parallels, Bochs, VHDX, VMDK, qcow1) is tried on the same field of qcow2.
import { describe, expect, test } from "vitest";
import { fileGate, type Gate, type GateRequest } from "../../../../../src/block/model/gate.ts";
import type { BlockNode } from "../../../../../src/block/model/node.ts";
import type { DriverType, NodeSpec } from "../../../../../src/block/model/contract.ts";
import { checkedQcow2 } from "../../../../../src/drivers/format/qcow2/checked.ts";
import { compressedEntry } from "../../../../../src/drivers/format/qcow2/disk/layout.ts";
import { createEngine, openNode } from "../../../../../src/node.ts";
import { deflateRawSync } from "node:zlib";
import { TestGraph } from "../../../support/graph.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const CLUSTER = 64 * KiB;

/** Where a fresh image of 64 KiB clusters has its tables; the first L2 table comes with the first write. */
type Patch = readonly [offset: number, bytes: number, value: bigint];

function patched(image: Uint8Array, ...patches: readonly Patch[]): Buffer {
  const copy = Buffer.from(image);
  for (const [offset, bytes, value] of patches) {
    const field = Buffer.alloc(8);
    field.writeBigUInt64BE(BigInt.asUintN(64, value));
    field.copy(copy, offset, 8 - bytes);
  }
  return copy;
}

async function fresh(options: Record<string, unknown> = {}): Promise<Buffer> {
  const bench = new TestGraph();
  bench.graph.register(checkedQcow2);
  await bench.graph.add({ driver: "memory", "node-name": "m", size: 0 });
  const context = { graph: bench.graph, host: bench.host };
  await checkedQcow2.create!(context, { size: MiB, ...options, file: "m" });
  const node = await bench.graph.add({ driver: "qcow2", "node-name": "q", file: "m", backing: null });
  const edge = await bench.edge(node);
  await edge.pwrite(0, new Uint8Array(CLUSTER).fill(7));
  await bench.graph.detach(edge);
  await bench.graph.remove("q");
  return Buffer.from(await bench.content("m"));
}

/** A graph with the image as node `m`, which notes what is asked of the gate and what is opened. */
class Victim {
  readonly bench = new TestGraph();
  readonly asked: GateRequest[] = [];
  readonly opened: string[] = [];
  /** Bytes read from the image's file. */
  readBytes = 0;

  static async of(image: Buffer): Promise<Victim> {
    const victim = new Victim();
    const { graph } = victim.bench;
    const file: DriverType = {
      name: "file",
      kind: "protocol",
      open: (_context, spec) => {
        victim.opened.push(String(spec["filename"]));
        throw new Error("it was opened");
      },
    };
    graph.register(checkedQcow2, file);
    const node = await graph.add({ driver: "memory", "node-name": "m", size: image.length });
    await node.driver.pwrite!(0, image, 0);
    const pread = node.driver.pread.bind(node.driver);
    node.driver.pread = (offset, buffer, flags) => {
      victim.readBytes += buffer.byteLength;
      return pread(offset, buffer, flags);
    };
    return victim;
  }

  readonly gate: Gate = (request) => {
    this.asked.push(request);
    return fileGate("all", this.bench.host)(request);
  };

  open(more: Partial<NodeSpec> = {}): Promise<BlockNode> {
    return this.bench.graph.open({ driver: "qcow2", file: "m", ...more }, { gate: this.gate });
  }

  /** The words of the refusal; after it only the image's own file is left in the graph. */
  async refusal(more: Partial<NodeSpec> = {}): Promise<string> {
    const words = await this.open(more).then(
      () => "opened",
      (error: unknown) => (error as Error).message,
    );
    expect(this.bench.graph.nodes.map(({ name }) => name)).toEqual(["m"]);
    return words;
  }
}

describe("refused before anything is allocated", () => {
  const cases: readonly [name: string, words: string, ...patches: Patch[]][] = [
    ["CVE-2014-0142, a divisor of zero: clusters of 2^0", "Unsupported cluster size: 2^0", [20, 4, 0n]],
    [
      "CVE-2014-0143, sizes that overflow: an L1 table of 32 GiB",
      "Active L1 table too large",
      [36, 4, 0xffffffffn],
    ],
    [
      "CVE-2014-0143, sizes that overflow: a refcount table of 2^48 bytes",
      "Reference count table too large",
      [56, 4, 0xffffffffn],
    ],
    [
      "CVE-2014-0143, sizes that overflow: a disk of 2^63 bytes",
      "Image is too big",
      [24, 8, 0x7ffffffffffffe00n],
    ],
    [
      "CVE-2014-0144, no validation: refcounts of 2^32 bits",
      "Reference count entry width too large; may not exceed 64 bits",
      [96, 4, 32n],
    ],
    [
      "CVE-2014-0144, no validation: a header of 4 GiB",
      "qcow2 header exceeds cluster size",
      [100, 4, 0xfffffff8n],
    ],
    [
      "CVE-2014-0144, no validation: an L1 table for half of the disk",
      "L1 table is too small",
      [24, 8, 1n << 40n],
    ],
    [
      "CVE-2014-0145, a backing name longer than its buffer",
      "Backing file name too long",
      [8, 8, 512n],
      [16, 4, 1024n],
    ],
    [
      "CVE-2014-0145, a header extension longer than the header",
      "Header extension too large",
      [112, 4, 0x6803f857n],
      [116, 4, 0xffffff00n],
    ],
    [
      "CVE-2014-0146, an open that fails half-way: a snapshot table out of line",
      "Snapshot table offset invalid",
      [60, 4, 1n],
      [64, 8, 513n],
    ],
    [
      "CVE-2014-0147, signed counts: -1 snapshots",
      "Snapshot table too large",
      [60, 4, 0xffffffffn],
      [64, 8, 65536n],
    ],
    [
      "CVE-2014-0222, clusters whose L2 tables overflow: 2^31",
      "Unsupported cluster size: 2^31",
      [20, 4, 31n],
    ],
    [
      "CVE-2014-0223, an L1 table of -1 entries",
      "Active L1 table too large",
      [36, 4, 0xffffffffn],
      [24, 8, 0n],
    ],
  ];
  test.each(cases)("%s", async (_name, words, ...patches) => {
    const victim = await Victim.of(patched(await fresh(), ...patches));
    expect(await victim.refusal()).toBe(words);
    expect(victim.readBytes).toBeLessThan(2 * CLUSTER);
  });
});

test("CVE-2014-0145, a compressed cluster that unpacks to more than a cluster: EIO, no byte of it is seen", async () => {
  const image = await fresh();
  const l2 = Number(
    image.readBigUInt64BE(Number(image.readBigUInt64BE(40))) & 0xfffffffffffffe00n & ~(1n << 63n),
  );
  const bomb = deflateRawSync(Buffer.alloc(16 * MiB));
  const whole = Buffer.concat([image, bomb, Buffer.alloc(CLUSTER)]);
  const [high, low] = compressedEntry({ offset: image.length, bytes: bomb.length }, 16);
  whole.writeUInt32BE(high, l2);
  whole.writeUInt32BE(low, l2 + 4);
  const engine = createEngine();
  const store = await openNode({ driver: "memory", size: whole.length, "node-name": "m" }, { engine });
  await store.write(0, whole);
  const disk = await openNode({ driver: "qcow2", file: "m", "read-only": true }, { engine });
  // The first cluster of the stream is what the cluster holds; the rest is never unpacked.
  const content = await disk.read(0, CLUSTER).catch((error: unknown) => (error as { code: string }).code);
  expect(content === "EIO" || (content as Uint8Array).every((byte) => byte === 0)).toBe(true);
  await engine.close();
});

describe("files that an image names", () => {
  const named = (name: string): Patch[] => [
    [8, 8, 1024n],
    [16, 4, BigInt(name.length)],
    ...Array.from(name, (letter, index): Patch => [1024 + index, 1, BigInt(letter.charCodeAt(0))]),
  ];

  test("CVE-2015-1851, CVE-2015-5163: without a gate no backing file is opened, absolute or not", async () => {
    for (const name of ["/etc/passwd", "../../secret", "secret"]) {
      const victim = await Victim.of(patched(await fresh(), ...named(name)));
      const words = await victim.bench.graph.open({ driver: "qcow2", file: "m" }).then(
        () => "opened",
        (error: unknown) => (error as Error).message,
      );
      expect(words).toContain("no gate allows it");
      expect(victim.opened).toEqual([]);
    }
  });

  test("CVE-2015-1851: a look at an image's metadata opens nothing that it names", async () => {
    const victim = await Victim.of(patched(await fresh(), ...named("/etc/passwd")));
    const node = await victim.open({ backing: null });
    expect(node.driver.headerBacking!.filename()).toBe("/etc/passwd");
    expect(victim.opened).toEqual([]);
    await victim.bench.graph.release(node);
  });

  const names = [
    'json:{"driver":"file","filename":"/etc/passwd"}',
    "nbd://10.0.0.1/x",
    "file:passwd",
    "fat:/etc",
  ];
  test.each(names)("CVE-2024-4467: the name %s is refused by every gate", async (name) => {
    const backing = await Victim.of(patched(await fresh(), ...named(name)));
    expect(await backing.refusal()).toContain("names with a protocol are not opened");
    const data = await Victim.of(withDataFile(await fresh(), name));
    expect(await data.refusal()).toContain("names with a protocol are not opened");
    expect([...backing.opened, ...data.opened]).toEqual([]);
  });

  test("CVE-2024-4467: file: before a path is no data file's name, and no way around a gate's policy (block/gate)", async () => {
    const data = await Victim.of(withDataFile(await fresh(), "file:/etc/passwd"));
    expect(await data.refusal()).toContain("names with a protocol are not opened");
    expect(data.opened).toEqual([]);
  });

  test("CVE-2024-32498, CVE-2024-40767: a data file stands behind the gate, and is never a guess at a format", async () => {
    const victim = await Victim.of(withDataFile(await fresh(), "/etc/passwd"));
    expect(await victim.refusal()).toContain("it was opened");
    const access = "write";
    expect(victim.asked).toEqual([
      { kind: "data-file", image: "", name: "/etc/passwd", format: "raw", access },
    ]);
    const closed = await Victim.of(withDataFile(await fresh(), "/etc/passwd"));
    await expect(closed.bench.graph.open({ driver: "qcow2", file: "m" })).rejects.toThrow(
      "no gate allows it",
    );
    expect(closed.opened).toEqual([]);
  });

  test("CVE-2008-2004: a raw disk whose guest wrote a qcow2 header stays raw", async () => {
    const image = patched(await fresh(), ...named("/etc/passwd"));
    const victim = await Victim.of(image);
    const node = await victim.open({ driver: "raw" });
    const head = new Uint8Array(512);
    await (await victim.bench.edge(node)).pread(0, head);
    expect(Buffer.compare(head, image.subarray(0, 512))).toBe(0);
    expect([...victim.opened, ...victim.asked]).toEqual([]);
  });

  test("CVE-2024-44082, CVE-2026-24708: the library never guesses a format", async () => {
    const engine = createEngine();
    await openNode({ driver: "memory", size: MiB, "node-name": "m" }, { engine });
    await expect(openNode({ file: "m" } as never, { engine })).rejects.toThrow("driver");
    await engine.close();
  });
});

/** Turns an image into one with an external data file of that name. */
function withDataFile(image: Buffer, name: string): Buffer {
  const padded = Buffer.alloc(Math.ceil(name.length / 8) * 8);
  padded.write(name);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(0x44415441, 0);
  head.writeUInt32BE(name.length, 4);
  const extension = Buffer.concat([head, padded, Buffer.alloc(8)]);
  const copy = patched(image, [72, 8, 4n]);
  extension.copy(copy, copy.readUInt32BE(100));
  return copy;
}

describe("work is bounded", () => {
  test("CVE-2015-5162, CVE-2018-10908: a petabyte opens with as few reads as a megabyte", async () => {
    const small = await Victim.of(await fresh({ "cluster-size": 2 * MiB }));
    await small.bench.graph.release(await small.open());
    // L1 tables of 4096 entries and of one.
    const large = await Victim.of(await fresh({ "cluster-size": 2 * MiB, size: 2 ** 50 }));
    const node = await large.open();
    expect(node.length).toBe(2 ** 50);
    expect(large.readBytes).toBe(small.readBytes);
    const edge = await large.bench.edge(node);
    const read = large.readBytes;
    await edge.pread(2 ** 49, new Uint8Array(512));
    expect(large.readBytes - read).toBeLessThanOrEqual(64 * KiB);
  });

  test("CVE-2015-5162, CVE-2018-10908: a check gives up on tables that all lead to the same place", async () => {
    const image = await fresh({ size: 2 ** 42 });
    const l1 = Number(image.readBigUInt64BE(40));
    const first = image.readBigUInt64BE(l1);
    for (let at = l1; at < l1 + image.readUInt32BE(36) * 8; at += 8) image.writeBigUInt64BE(first, at);
    const victim = await Victim.of(image);
    const { bench } = victim;
    const check = checkedQcow2.check(
      { graph: bench.graph, host: bench.host },
      { file: "m", fix: { leaks: false, errors: false }, message: () => undefined },
    );
    await expect(check).rejects.toMatchObject({ code: "EFBIG", op: "check" });
  });

  test("an L2 table that lies in the L1 table is read, and not written over", async () => {
    const image = await fresh();
    const l1 = Number(image.readBigUInt64BE(40));
    image.writeBigUInt64BE((1n << 63n) | BigInt(l1), l1);
    const victim = await Victim.of(image);
    const edge = await victim.bench.edge(await victim.open());
    await expect(
      Promise.resolve(edge.pwrite(0, new Uint8Array(512))).then(() => edge.flush()),
    ).rejects.toThrow("Preventing invalid write on metadata");
  });
});
