/**
 * What a newcomer types first: images by a path or URL, descriptions by builders, and the mistakes that everybody makes, each of which
 * is told so that the next line can be written. QMP keeps to QEMU's words.
 */
import { createServer, type Server } from "node:http";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as library from "../../../src/node.ts";
import { file, http, memory, overlay, qcow2, raw } from "../../../src/node.ts";
import { pattern, same } from "../support/graph.ts";

const MiB = 2 ** 20;
const engine = library.createEngine({ arenaBytes: 16 * MiB });
const other = library.createEngine({ arenaBytes: 16 * MiB });
const data = pattern(65536, 1);
let directory: string;
let image: string;
let disk: library.Node;
let server: Server;
let origin: string;

const open = (what: unknown, options = {}): Promise<library.Node> =>
  library.openNode(what as library.ImageRef, { engine, ...options });

function holds(a: Uint8Array, b: Uint8Array): void {
  expect(same(a, b)).toBe(true);
}

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), "blockwright-newcomer-"));
  image = join(directory, "image.qcow2");
  await library.createImage({ ...qcow2(file(image)), size: MiB }, { engine });
  await using node = await open(qcow2(file(image)));
  await node.write(0, data);
  await node.flush();
  disk = await open(memory(MiB));
  server = createServer((request, response) => {
    const bytes = readFileSync(image);
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    const end = Math.min(Number(to) + 1, bytes.length);
    const range = `bytes ${from}-${end - 1}/${bytes.length}`;
    response.writeHead(206, { "content-range": range, etag: '"1"' }).end(bytes.subarray(Number(from), end));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterAll(async () => {
  await engine.close();
  await other.close();
  server.closeAllConnections();
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

describe("an image by its name", () => {
  it("is opened by a path, for writing, in the format that its first bytes show", async () => {
    await using node = await open(image);
    expect(node.chain.map(({ driver }) => driver)).toEqual(["qcow2"]);
    expect(node.readOnly).toBe(false);
    holds(await node.read(0, data.length), data);
  });

  it("is opened by a URL of a file, and for reading only where that is asked for", async () => {
    await using node = await open(pathToFileURL(image), { readOnly: true });
    expect(node.readOnly).toBe(true);
    await expect(node.write(0, data)).rejects.toMatchObject({ code: "EPERM" });
  });

  it("is opened over HTTP, for reading only", async () => {
    await using node = await open(`${origin}/image.qcow2`);
    expect([node.readOnly, node.length]).toEqual([true, MiB]);
    holds(await node.read(0, data.length), data);
    await using described = await open(qcow2(http(`${origin}/image.qcow2`), { "read-only": true }));
    expect(described.length).toBe(MiB);
  });

  it("that nothing claims is raw, and no write makes it another format", async () => {
    const plain = join(directory, "plain.img");
    writeFileSync(plain, new Uint8Array(MiB));
    await using node = await open(plain);
    await expect(node.write(0, readFileSync(image).subarray(0, 512))).rejects.toMatchObject({
      code: "EPERM",
    });
    await node.write(0, data);
  });

  it("of a format that can't be read is named", async () => {
    const foreign = join(directory, "foreign.vmdk");
    writeFileSync(foreign, Buffer.concat([Buffer.from("KDMV\x01\0\0\0"), new Uint8Array(4096)]));
    await expect(open(foreign)).rejects.toThrow(`Could not open '${foreign}': Image is in vmdk format`);
  });

  it("opens no backing file that no gate allows", async () => {
    const top = join(directory, "top.qcow2");
    const below = { "backing-file": image, "backing-fmt": "qcow2" } as const;
    await library.createImage({ ...qcow2(file(top)), size: MiB, ...below }, { engine });
    await expect(open(top)).rejects.toThrow("no gate allows it (`gate: fileGate()` or `urlGate()` does)");
    for (const answer of [true, undefined, "allow", {}, { allow: image }, { refuse: true }]) {
      const gate = (() => Promise.resolve(answer)) as never;
      const said = "The gate answered neither { allow: spec } nor { refuse: why }";
      await expect(open(top, { gate })).rejects.toMatchObject({ code: "EINVAL", message: said });
      await using own = library.createEngine({ arenaBytes: 16 * MiB, gate });
      await expect(open(top, { engine: own })).rejects.toThrow(said);
    }
    const refusing = open(top, { gate: () => Promise.resolve({ refuse: "not today" }) });
    await expect(refusing).rejects.toThrow("Could not open backing file: not today");
    await using node = await open(top, { gate: library.fileGate("local", library.nodeHost()) });
    holds(await node.read(0, data.length), data);
  });

  it("is probed and checked, too", async () => {
    expect(await library.probe(image, { engine })).toMatchObject({ format: "qcow2", supported: true });
    expect(await library.check(image, { engine })).toMatchObject({ corruptions: 0, leaks: 0 });
  });

  it("with a protocol that there is not says so", async () => {
    await expect(open("ssh://localhost/disk")).rejects.toMatchObject({
      message: "Unknown protocol 'ssh'",
      code: "ENOTSUP",
    });
    await expect(open("")).rejects.toThrow("An image's name is empty");
  });
});

describe("builders", () => {
  it("make the descriptions that one would write", () => {
    expect(qcow2(file("a"), { discard: "unmap" })).toEqual({
      driver: "qcow2",
      file: { driver: "file", filename: "a" },
      discard: "unmap",
    });
    expect(overlay("base", file("top"))).toEqual({ ...qcow2(file("top")), backing: "base" });
    expect(http(new URL("https://example.org/a"))).toEqual({
      driver: "https",
      url: "https://example.org/a",
      "read-only": true,
    });
    expect(http("http://example.org/a", { size: 512 })).toMatchObject({ driver: "http", size: 512 });
    expect(memory(new Uint8Array(2))).toEqual({ driver: "memory", buffer: new Uint8Array(2) });
    expect(raw(memory(512), { offset: 0, size: 512 })).toMatchObject({ file: memory(512), offset: 0 });
    expect(library.opfs("a", { durability: "interval" })).toMatchObject({ driver: "opfs", filename: "a" });
    expect(library.indexeddb("a")).toEqual({ driver: "indexeddb", filename: "a" });
    expect(library.luks(file("a"), { "key-secret": "s" })).toMatchObject({ "key-secret": "s" });
    expect(library.custom("mine", { size: 5 })).toEqual({ driver: "mine", size: 5 });
  });

  it("make descriptions that open", async () => {
    const top = join(directory, "over.qcow2");
    await library.createImage({ ...qcow2(file(top)), size: MiB }, { engine });
    await using node = await open(overlay(qcow2(file(image, { locking: "off" })), file(top)));
    holds(await node.read(0, data.length), data);
    await using picked = await open(library.blob(new Blob([new Uint8Array(data)])));
    holds(await picked.read(0, data.length), data);
  });
});

/** What is done, and what is said of it: of the message a part. */
/** Of a job that runs. */
async function speedOf(): Promise<void> {
  await using target = await open(memory(MiB));
  await using job = await library.mirror(disk, target, { speedBytesPerSecond: 1 });
  job.setSpeed("fast" as never);
}

const mistakes: [what: string, call: () => unknown, code: string, message: string][] = [
  [
    "a file's name for a node's",
    () => open({ driver: "qcow2", file: "e.qcow2" }),
    "ENOENT",
    `Cannot find device='e.qcow2' nor node-name='e.qcow2' (a string is the name of a node that is open; a file is { driver: "file", filename: "e.qcow2" })`,
  ],
  [
    "the same where an image is made",
    () => library.createImage({ driver: "qcow2", file: "e.qcow2", size: MiB }, { engine }),
    "ENOENT",
    `a file is { driver: "file", filename: "e.qcow2" }`,
  ],
  [
    "the file's name beside the format",
    () => open({ driver: "qcow2", filename: "e.qcow2" }),
    "EINVAL",
    `Parameter 'filename' is unexpected (it belongs to the file: { driver: "qcow2", file: { driver: "file", filename } })`,
  ],
  [
    "no file",
    () => open({ driver: "qcow2" }),
    "EINVAL",
    `A block device must be specified for "file" (file: { driver: "file", filename: "…" })`,
  ],
  [
    "no description",
    () => open(undefined),
    "EINVAL",
    "Invalid parameter type for 'image', expected: path, URL or description",
  ],
  [
    "a name for a new image",
    () => library.createImage("e.qcow2" as never, { engine }),
    "EINVAL",
    `expected: { ...qcow2(file("e.qcow2")), size }`,
  ],
  [
    "a new image's size with a unit",
    () => library.createImage({ ...qcow2(file("e.qcow2")), size: "64M" as never }, { engine }),
    "EINVAL",
    "Parameter 'size' expects uint64 (sizes in bytes)",
  ],
  [
    "a description as the command line has it",
    () => open('json:{"driver":"raw","file":{"driver":"file","filename":"e"}}'),
    "EINVAL",
    "Descriptions are objects here: no 'json:'",
  ],
  [
    "a check of what has none",
    () => library.check(raw(memory(512)), { engine }),
    "ENOTSUP",
    "No check for format 'raw'",
  ],
  [
    "a driver that there is not",
    () => open({ driver: "vmdk", file: { driver: "file", filename: "e" } }),
    "EINVAL",
    "Parameter 'driver' does not accept value 'vmdk' (it takes 'blkdebug', ",
  ],
  [
    "text for bytes",
    () => disk.write(0, "hello" as never),
    "EINVAL",
    "Invalid parameter type for 'data', expected: Uint8Array (new TextEncoder().encode(text) makes one)",
  ],
  [
    "a buffer for bytes",
    () => disk.write(0, new ArrayBuffer(512) as never),
    "EINVAL",
    "expected: Uint8Array (new Uint8Array() over its buffer makes one)",
  ],
  [
    "numbers of two bytes",
    () => disk.write(0, new Uint16Array(512) as never),
    "EINVAL",
    "expected: Uint8Array",
  ],
  [
    "data before the offset",
    () => disk.write(new Uint8Array(512) as never, 0 as never),
    "EINVAL",
    "Invalid parameter type for 'offset', expected: number",
  ],
  ["a negative length", () => disk.read(0, -1), "EINVAL", "Parameter 'bytes' expects a number of bytes"],
  [
    "more than there can be of a buffer",
    () => disk.read(0, 2 ** 40),
    "EINVAL",
    "Parameter 'bytes' expects a number of bytes below 2^32, not 1099511627776",
  ],
  ["words for numbers", () => disk.discard("0" as never, 512), "EINVAL", "'offset', expected: number"],
  [
    "a size with a unit",
    () => library.resize(disk, "2G" as never),
    "EINVAL",
    "Image size 2G is no whole number of bytes",
  ],
  [
    "a file's name for a target",
    () => library.backup(disk, "x.qcow2" as never),
    "EINVAL",
    "Invalid parameter type for 'target', expected: Node (openNode() opens one)",
  ],
  ["no target", () => library.mirror(disk, undefined as never), "EINVAL", "Parameter 'target' is missing"],
  [
    "a name for a disk",
    () => library.convert("a" as never, disk),
    "EINVAL",
    "Invalid parameter type for 'source', expected: Node",
  ],
  ["no name", () => library.addBitmap(disk, undefined as never), "EINVAL", "Parameter 'name' is missing"],
  ["a commit of a base", () => library.commit(disk), "EINVAL", "Image does not have a backing file"],
  [
    "an image that is there",
    () => library.createImage({ ...qcow2(file(image)), size: MiB }, { engine }),
    "EEXIST",
    "(`overwrite: true` replaces it)",
  ],
  [
    "a host that there is not",
    () => open(http("http://no.such.host.invalid/x", { retries: 0 })),
    "EIO",
    "no.such.host.invalid",
  ],
  [
    "nothing to read into",
    () => disk.read(0, undefined as never),
    "EINVAL",
    "expected: number or Uint8Array",
  ],
  [
    "a node where a description is wanted",
    () => open(disk),
    "EINVAL",
    "'spec', expected: description, not a Node (one that is open is named: `node.name`)",
  ],
  [
    "a node in a description",
    () => open(overlay(raw(memory(512)), disk as never)),
    "EINVAL",
    "'file', expected: description, not a Node",
  ],
  ["bytes for a description", () => open(new Uint8Array(4)), "EINVAL", "'spec', expected: description"],
  ["a list", () => open([]), "EINVAL", "'spec', expected: description"],
  [
    "a size that is no number",
    () => library.createImage({ ...qcow2(file(join(directory, "n"))), size: 1024n as never }, { engine }),
    "EINVAL",
    "'size', expected: number",
  ],
  [
    "a write to what was opened for reading",
    async () => {
      await using node = await open(image, { readOnly: true });
      await node.write(0, data);
    },
    "EPERM",
    "image.qcow2'",
  ],
  [
    "a server without an address",
    () => library.serveNbd(disk, {} as never),
    "EINVAL",
    "'address' is missing",
  ],
  ["pages without an address", () => library.serveHttp(disk, {} as never), "EINVAL", "'address' is missing"],
  ["a speed that is no number", speedOf, "EINVAL", "'speed' expects a non-negative value"],
  ...(
    [
      ["the counters of a name", () => library.stats("disk" as never), "'node', expected: Node"],
      ["the metrics of a node", () => library.metrics(disk as never), "'engine', expected: Engine"],
      ["no engine to go on", () => library.autoCont({} as never), "'engine', expected: Engine"],
      ["no job to resume", () => library.autoResume({} as never), "'job', expected: BlockJob"],
      ["no job to wait for", () => library.whenReady({} as never), "'job', expected: BlockJob"],
      ["no port", () => library.portConnection("x" as never), "'port', expected: MessagePort or Worker"],
      ["no port to an engine", () => library.connectEngine("x" as never), "'port', expected: MessagePort"],
      [
        "no port of an engine",
        () => library.serveEngine("x" as never, engine),
        "'port', expected: MessagePort",
      ],
      [
        "no connection",
        () => library.serveMonitor({} as never, engine),
        "'connection', expected: HostConnection",
      ],
      ["one origin alone", () => library.urlGate("https://a" as never), "'origins', expected: array"],
    ] as const
  ).map(([what, call, message]) => [what, call, "EINVAL", message] as (typeof mistakes)[number]),
  ["a node twice", () => open({ ...memory(512), "node-name": "twice" }), "EEXIST", "Duplicate nodes"],
  ["a job that is not there", () => engine.jobs.job("none"), "ENOENT", "Job not found"],
];

describe("a mistake says what to do:", () => {
  beforeAll(async () => {
    await open({ ...memory(512), "node-name": "twice" });
  });

  it.each(mistakes)("%s", async (_what, call, code, message) => {
    const error: unknown = await Promise.resolve()
      .then(call)
      .then(() => undefined)
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ code, message: expect.stringContaining(message) as string });
    expect((error as Error).stack).toContain(message);
  });

  it("an image in use", async () => {
    await using holder = await open(qcow2(file(image)));
    await holder.write(0, data);
    const own = `This engine has it open, as node '${holder.name}': close that first`;
    await expect(open(image)).rejects.toMatchObject({
      code: "EAGAIN",
      message: `Could not open '${image}': Failed to get "write" lock. ${own}`,
    });
    const taken = open(image, { engine: other });
    await expect(taken).rejects.toMatchObject({
      code: "EAGAIN",
      message: `Could not open '${image}': Failed to get "write" lock. Is another process using the image [${image}]?`,
    });
  });

  it("a file that is no qcow2 image", async () => {
    const path = join(directory, "no.qcow2");
    writeFileSync(path, new Uint8Array(4096));
    await expect(open(qcow2(file(path)))).rejects.toThrow(
      `Could not open '${path}': Image is not in qcow2 format`,
    );
  });

  it.skipIf(process.getuid?.() === 0)("a file that may not be written to", async () => {
    const path = join(directory, "locked.img");
    writeFileSync(path, new Uint8Array(4096));
    chmodSync(path, 0o400);
    await expect(open(path)).rejects.toThrow("(`readOnly: true` opens it for reading only)");
  });

  it("what may not be read, which no option makes readable", async () => {
    const closed = createServer((_request, response) => response.writeHead(403).end());
    await new Promise<void>((resolve) => void closed.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}/x`;
    try {
      const refused = await open(url, { readOnly: true }).catch((error: unknown) => error as Error);
      expect((refused as Error).message).toContain("HTTP status 403");
      expect((refused as Error).message).not.toContain("readOnly");
    } finally {
      await new Promise((resolve) => closed.close(resolve));
    }
  });

  it("a server that is down: the cause in the first line", async () => {
    const free = createServer();
    await new Promise<void>((resolve) => void free.listen(0, "127.0.0.1", resolve));
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    await expect(open(http(`http://127.0.0.1:${port}/x`, { retries: 0 }))).rejects.toThrow(
      `connect ECONNREFUSED 127.0.0.1:${port}`,
    );
  });

  it("a closed handle", async () => {
    const node = await open(memory(512));
    await node.close();
    await expect(node.read(0, 512)).rejects.toMatchObject({
      code: "ENOMEDIUM",
      message: "the node handle is closed",
    });
  });

  it("and cancelling a job that has ended is none", async () => {
    const target = await open(memory(MiB));
    const job = await library.backup(disk, target);
    await job.done;
    await job.cancel();
    expect(job.status).toBe("null");
    await expect((async () => job.pause())()).rejects.toMatchObject({ code: "EBUSY" });
    const kept = await library.backup(disk, target, { autoDismiss: false });
    await kept.done;
    await kept.cancel();
    expect(kept.status).toBe("concluded");
    await kept.dismiss();
  });
});

it("QMP keeps to QEMU's words", async () => {
  const registry = library.engineCommands({
    version: { qemu: { major: 7, minor: 2, micro: 0 }, package: "" },
    onQuit: () => undefined,
  });
  const add = (args: object): unknown =>
    registry.run("blockdev-add", args as never, { engine, afterReply: () => undefined });
  await expect((async () => add({ driver: "qcow2", "node-name": "x", file: "none" }))()).rejects.toThrow(
    /^Cannot find device='none' nor node-name='none'$/,
  );
  await expect((async () => add({ driver: "vmdk", "node-name": "x" }))()).rejects.toThrow(
    /^Parameter 'driver' does not accept value 'vmdk'$/,
  );
});
