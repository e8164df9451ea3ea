// The file driver over real files: opening, holes, growth, creation, errors in QEMU's words.
import { graphOf } from "../../../support/graph-of.ts";
import * as fs from "node:fs";
import { describe, expect, test } from "vitest";
import type { Host, HostFile } from "../../../../src/base/host.ts";
import { BlockError } from "../../../../src/base/errors.ts";
import type { Child, ChildParent } from "../../../../src/block/model/node.ts";
import { Req } from "../../../../src/block/model/contract.ts";
import { BlockGraph } from "../../../../src/block/graph/graph.ts";
import type { BlockNode } from "../../../../src/block/model/node.ts";
import { Perm } from "../../../../src/block/model/permissions.ts";
import { raw } from "../../../../src/drivers/format/raw.ts";
import { file } from "../../../../src/drivers/protocol/file.ts";
import { loadKernels } from "../../../../src/kernels/load.ts";
import { nodeHost } from "../../../../src/platform/node/host.ts";
import { COMPLIANCE_BYTES, complianceCases } from "./compliance.ts";
import { hasNative, nativeModes, pattern, temporaryDirectory } from "../../platform/node/support.ts";

const path = temporaryDirectory();
const MiB = 1 << 20;
const kernels = loadKernels({ arenaBytes: 4 * MiB });
const parent: ChildParent = {
  describe: () => "the test",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

function graphOn(host: Host): BlockGraph {
  const graph = new BlockGraph({ host, kernels });
  graph.register(file, raw);
  return graph;
}

function edge(graph: BlockGraph, node: BlockNode, perm: number, shared: number = Perm.all): Promise<Child> {
  return graph.attach(parent, node, { name: "test", perm, shared });
}

const everything = Perm.consistentRead | Perm.write | Perm.resize;

/** How many descriptors of this process are open on the file. */
function descriptorsOf({ filename = "" }: { filename?: unknown }): number {
  const targets = fs.readdirSync("/proc/self/fd").map((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return "";
    }
  });
  return targets.filter((target) => target === filename).length;
}

async function readAll(child: Child, offset: number, bytes: number): Promise<Buffer> {
  const buffer = Buffer.alloc(bytes, 0xaa);
  await child.pread(offset, buffer);
  return buffer;
}

describe.each(nativeModes)("the file driver %s", (_mode, native) => {
  const host = nodeHost({ native });
  const nativeHere = native === "auto" && hasNative;
  const own = (name: string): string => path(`${native}-${name}`);

  async function disk(
    name: string,
    size: number,
    options: Record<string, unknown> = {},
  ): Promise<{
    graph: BlockGraph;
    node: BlockNode;
    child: Child;
  }> {
    await host.files.create(own(name), { size });
    const graph = graphOn(host);
    const node = await graph.add({
      driver: "file",
      "node-name": "f",
      filename: own(name),
      discard: "unmap",
      ...options,
    });
    const child = await edge(graph, node, everything, Perm.all);
    return { graph, node, child };
  }

  const opening = (options: Record<string, unknown>): Promise<BlockNode> =>
    graphOn(host).add({ driver: "file", "node-name": "f", ...options });

  test("writes, reads, flushes, and grows", async () => {
    const { graph, node, child } = await disk("basic", 4096);
    await child.pwrite(1000, pattern(2000));
    await child.pwrite(10_000, pattern(1), Req.fua);
    expect(node.length).toBe(10_001);
    await child.flush();
    expect((await readAll(child, 1000, 2000)).equals(pattern(2000))).toBe(true);
    expect(
      (await readAll(child, 9000, 4096)).every((byte, at) => byte === (at === 1000 ? pattern(1)[0] : 0)),
    ).toBe(true);
    await graph.detach(child);
    await graph.remove("f");
    expect(fs.statSync(own("basic")).size).toBe(10_001);
  });

  test("a file that is cut below us reads zeroes", async () => {
    const { child } = await disk("cut", 8192);
    await child.pwrite(0, pattern(8192));
    fs.truncateSync(own("cut"), 100);
    const buffer = await readAll(child, 0, 8192);
    expect(buffer.subarray(0, 100).equals(pattern(8192).subarray(0, 100))).toBe(true);
    expect(buffer.subarray(100).every((byte) => byte === 0)).toBe(true);
  });

  test("a file that is removed below us keeps working", async () => {
    const { child } = await disk("removed", 4096);
    fs.unlinkSync(own("removed"));
    await child.pwrite(0, pattern(4096));
    expect((await readAll(child, 0, 4096)).equals(pattern(4096))).toBe(true);
  });

  test("zeroes within the file and beyond its end, with and without unmapping", async () => {
    for (const flags of [0, Req.mayUnmap]) {
      const { node, child } = await disk(`zero-${flags}`, 0);
      await child.pwrite(0, pattern(256 * 1024));
      await child.pwriteZeroes(100_000, 1 * MiB, flags);
      expect(node.length).toBe(100_000 + MiB);
      expect(fs.statSync(own(`zero-${flags}`)).size).toBe(100_000 + MiB);
      const back = await readAll(child, 0, 100_000 + MiB);
      expect(back.subarray(0, 100_000).equals(pattern(256 * 1024).subarray(0, 100_000))).toBe(true);
      expect(back.subarray(100_000).every((byte) => byte === 0)).toBe(true);
    }
  });

  test("zeroes beyond the end never cut off what another request appends", async () => {
    const { node, child } = await disk("append", 0);
    await Promise.all([
      child.pwriteZeroes(0, 65_536),
      child.pwrite(200_000, pattern(1000)),
      child.pwriteZeroes(70_000, 100_000),
      child.pwrite(300_000, pattern(1000)),
    ]);
    expect(node.length).toBe(301_000);
    expect((await readAll(child, 300_000, 1000)).equals(pattern(1000))).toBe(true);
    expect((await readAll(child, 200_000, 1000)).equals(pattern(1000))).toBe(true);
  });

  test("block status tells data from holes; a discard makes one", async () => {
    const { node, child } = await disk("status", 4 * MiB);
    await child.pwrite(MiB, pattern(MiB));
    // A new file begins with an allocated block.
    const hole = await child.blockStatus(4096, 4 * MiB - 4096);
    const data = await child.blockStatus(MiB, 3 * MiB);
    expect(await child.blockStatus(0, 4 * MiB, false)).toMatchObject({
      bytes: 4 * MiB,
      data: true,
      zero: false,
    });
    if (!nativeHere) {
      expect(hole).toMatchObject({ bytes: 4 * MiB - 4096, data: true, zero: false, allocated: true });
      await child.pdiscard(MiB, MiB);
      expect((await readAll(child, MiB, MiB)).equals(pattern(MiB))).toBe(true);
      return;
    }
    expect(await child.blockStatus(0, 4 * MiB)).toMatchObject({ bytes: 4096, data: true, zero: false });
    expect(hole).toMatchObject({ bytes: MiB - 4096, data: false, zero: true, allocated: true });
    expect(hole.map).toEqual({ node, offset: 4096 });
    expect(data).toMatchObject({ bytes: MiB, data: true, zero: false, allocated: true });
    const before = (await node.driver.allocatedBytes?.()) ?? 0;
    await child.pdiscard(MiB, MiB);
    expect(await child.blockStatus(4096, 4 * MiB - 4096)).toMatchObject({
      bytes: 4 * MiB - 4096,
      zero: true,
      eof: true,
    });
    expect(await node.driver.allocatedBytes?.()).toBeLessThanOrEqual(before - MiB);
  });

  test("truncate with every preallocation", async () => {
    const { node, child } = await disk("truncate", 4096);
    for (const [size, preallocation] of [
      [MiB, "off"],
      [2 * MiB, "falloc"],
      [3 * MiB, "full"],
      [100, "off"],
    ] as const) {
      await child.truncate(size, { exact: true, preallocation });
      expect(node.length).toBe(Math.ceil(size / 512) * 512);
      expect(fs.statSync(own("truncate")).size).toBe(size);
    }
    await expect(child.truncate(MiB, { exact: true, preallocation: "metadata" })).rejects.toThrow(
      "Unsupported preallocation mode: metadata",
    );
  });

  test("a file that ends within a sector is a disk of whole sectors", async () => {
    const { node, child } = await disk("odd", 1000);
    await child.pwrite(600, pattern(400));
    expect(node.length).toBe(1024);
    expect((await readAll(child, 1000, 24)).every((byte) => byte === 0)).toBe(true);
    expect(fs.statSync(own("odd")).size).toBe(1000);
    await child.pwrite(512, pattern(512));
    expect(node.length).toBe(1024);
    expect(fs.statSync(own("odd")).size).toBe(1024);
    expect((await readAll(child, 512, 512)).equals(pattern(512))).toBe(true);
  });

  test("direct I/O serves requests of any alignment", async () => {
    const { node, child } = await disk("direct", 64 * 1024, { cache: { direct: true } });
    expect(node.limits.requestAlignment).toBeGreaterThanOrEqual(512);
    await child.pwrite(5, pattern(10_000));
    expect((await readAll(child, 5, 10_000)).equals(pattern(10_000))).toBe(true);
    expect((await readAll(child, 0, 5)).every((byte) => byte === 0)).toBe(true);
  });

  test.each([
    [{}, "The 'file' block driver requires a file name"],
    [{ filename: 5 }, "Invalid parameter type for 'filename', expected: string"],
    [{ filename: "" }, "The 'file' block driver requires a file name"],
    [{ filename: "/no/such.raw" }, "Could not open '/no/such.raw': No such file or directory"],
    [
      { filename: "/no/such.raw", "auto-read-only": true },
      "Could not open '/no/such.raw': No such file or directory",
    ],
    [{ filename: "/" }, "Could not open '/': Is a directory"],
    [{ filename: "/", "read-only": true }, "'file' driver requires '/' to be a regular file"],
    [{ filename: "/dev/null" }, "'file' driver requires '/dev/null' to be a regular file"],
    [{ filename: "/dev/null/x" }, "Could not open '/dev/null/x': Not a directory"],
    [{ filename: "x", locking: "maybe" }, "Parameter 'locking' does not accept value 'maybe'"],
    [{ filename: "x", aio: "foo" }, "Parameter 'aio' does not accept value 'foo'"],
    [
      { filename: "x", aio: "native" },
      "aio=native was specified, but it requires cache.direct=on, which was not specified.",
    ],
    [
      { filename: "/proc/version", "read-only": true, cache: { direct: true } },
      "Could not open '/proc/version': filesystem does not support O_DIRECT",
    ],
  ])("open refuses %j as QEMU does", async (options, message) => {
    const before = descriptorsOf(options);
    await expect(opening(options)).rejects.toThrow(message);
    expect(descriptorsOf(options)).toBe(before);
  });

  test("locking=on is refused where there are no locks", async () => {
    fs.writeFileSync(own("on"), "x");
    const attempt = opening({ filename: own("on"), locking: "on" });
    if (nativeHere) await attempt;
    else await expect(attempt).rejects.toThrow("locking=on was specified");
  });

  test("create makes a file of the size, in QEMU's words where it can't", async () => {
    const graph = graphOn(host);
    const create = (options: Record<string, unknown>): Promise<unknown> =>
      file.create?.({ graph, host }, options) ?? Promise.reject(new Error("no create"));
    await create({ filename: own("made"), size: 1000 });
    expect(fs.statSync(own("made")).size).toBe(1000);
    await create({ filename: own("made-full"), size: 65_536, preallocation: "falloc", nocow: true });
    expect(fs.statSync(own("made-full")).blocks * 512).toBeGreaterThanOrEqual(65_536);
    const refused: [Record<string, unknown>, string][] = [
      [{ filename: "/no/such", size: 1 }, "Could not create '/no/such': No such file or directory"],
      [{ filename: "/", size: 1 }, "Could not create '/': Is a directory"],
      [{ filename: own("x"), size: -1 }, "Could not resize file: Invalid argument"],
      [{ filename: own("x"), size: 2 ** 62 }, "Could not resize file: File too large"],
      [
        { filename: own("x"), size: 1, preallocation: "metadata" },
        "Unsupported preallocation mode: metadata",
      ],
      [
        { filename: own("x"), size: 1, preallocation: "bla" },
        "Parameter 'preallocation' does not accept value 'bla'",
      ],
      [{ filename: own("x") }, "Parameter 'size' is missing"],
      [{ size: 1 }, "The 'file' block driver requires a file name"],
    ];
    for (const [options, message] of refused) await expect(create(options)).rejects.toThrow(message);
    expect(fs.existsSync(own("x"))).toBe(false);
  });

  test.runIf(nativeHere)(
    "two graphs exclude each other by image locks, as their permissions say",
    async () => {
      const { graph, child } = await disk("locked", 4096);
      await graph.setPermissions(child, { perm: everything, shared: Perm.consistentRead });
      const other = await opening({ filename: own("locked") });
      const reading = await edge(graphOf(other), other, Perm.consistentRead);
      await graphOf(other).detach(reading);
      await expect(edge(graphOf(other), other, Perm.write)).rejects.toThrow('Failed to get "write" lock');
      const unlocked = await opening({ filename: own("locked"), locking: "off" });
      await edge(graphOf(unlocked), unlocked, Perm.write);
      await graph.detach(child);
      await edge(graphOf(other), other, Perm.write);
    },
  );

  test.runIf(nativeHere)("force-share reads beside a writer that shares reading only", async () => {
    const { graph, child } = await disk("forced", 4096);
    await graph.setPermissions(child, { perm: everything, shared: Perm.consistentRead });
    const plain = await opening({ filename: own("forced"), "read-only": true });
    await expect(edge(graphOf(plain), plain, Perm.consistentRead, Perm.consistentRead)).rejects.toThrow(
      'Failed to get shared "write" lock',
    );
    const forced = await opening({ filename: own("forced"), "read-only": true, "force-share": true });
    await edge(graphOf(forced), forced, Perm.consistentRead, Perm.consistentRead);
  });
});

/** A host whose one file notes how it is opened and switched; writing fails with `error` if there is one. */
function notingHost(error?: BlockError): { host: Host; notes: string[] } {
  const notes: string[] = [];
  const refuse = (write: boolean): Promise<void> =>
    write && error ? Promise.reject(error) : Promise.resolve();
  const only = {
    alignment: 1,
    canLock: true,
    size: () => Promise.resolve(4096),
    flush: () => Promise.resolve(),
    lock: ({ perm, shared }) => Promise.resolve(void notes.push(`lock ${perm}/${shared}`)),
    setWritable: async (write) => {
      await refuse(write);
      notes.push(write ? "writable" : "read-only");
    },
    close: () => Promise.resolve(),
  } satisfies Partial<HostFile> as unknown as HostFile;
  const real = nodeHost({ native: "off" });
  const files = {
    open: async (_path: string, { write }: { write: boolean }) => {
      await refuse(write);
      notes.push(write ? "open rw" : "open ro");
      return only;
    },
    info: () => Promise.resolve({ kind: "file", size: 4096, identity: "1" } as const),
  } as unknown as Host["files"];
  return { host: { ...real, files }, notes };
}

describe("the file driver's writable mode", () => {
  test("auto-read-only opens for reading and follows the writers", async () => {
    const { host, notes } = notingHost();
    const graph = graphOn(host);
    const node = await graph.add({ driver: "file", "node-name": "f", filename: "x", "auto-read-only": true });
    const reader = await edge(graph, node, Perm.consistentRead);
    expect(notes.filter((note) => !note.startsWith("lock")).at(-1)).not.toBe("writable");
    const writer = await edge(graph, node, Perm.write);
    expect(notes.indexOf("lock 3/15")).toBeLessThan(notes.indexOf("writable"));
    await graph.detach(writer);
    expect(notes.filter((note) => !note.startsWith("lock")).at(-1)).toBe("read-only");
    expect(notes.at(-1)).toBe("lock 1/15");
    await graph.detach(reader);
  });

  test("auto-read-only serves readers of a file that can't be written, and refuses the writer", async () => {
    const { host, notes } = notingHost(new BlockError({ code: "EROFS", op: "open" }));
    const graph = graphOn(host);
    await expect(graph.add({ driver: "file", "node-name": "g", filename: "x" })).rejects.toThrow(
      "Could not open 'x': Read-only file system",
    );
    const node = await graph.add({ driver: "file", "node-name": "f", filename: "x", "auto-read-only": true });
    await edge(graph, node, Perm.consistentRead);
    await expect(edge(graph, node, Perm.write)).rejects.toMatchObject({ code: "EROFS" });
    expect(notes.at(-1)).toBe("lock 1/15");
  });

  test("a node that becomes writable reopens its file", async () => {
    const { host, notes } = notingHost();
    const graph = graphOn(host);
    const node = await graph.add({ driver: "file", "node-name": "f", filename: "x", "read-only": true });
    expect(notes[0]).toBe("open ro");
    await graph.setReadOnly(node, false);
    expect(notes.at(-1)).toBe("writable");
    await graph.setReadOnly(node, true);
    expect(notes.filter((note) => !note.startsWith("lock")).at(-1)).toBe("read-only");
  });
});

// Without native calls zeroes are the block layer's to write, which these cases leave out.
describe.runIf(hasNative)("what every protocol driver has to do", () => {
  test.each(complianceCases)("$name", async ({ run }) => {
    const graph = graphOn(nodeHost());
    const filename = path("compliance");
    fs.writeFileSync(filename, "");
    fs.truncateSync(filename, COMPLIANCE_BYTES);
    const open = (): Promise<BlockNode> => graph.add({ driver: "file", "node-name": "disk", filename });
    await run({
      driver: (await open()).driver,
      grows: true,
      reopen: async () => {
        await graph.remove("disk");
        return (await open()).driver;
      },
    });
  });
});
