// The http driver against a real server that does what servers and networks do wrong; in Node and in Chromium, where the
// server is of another origin and exposes its headers.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BlockError } from "../../../../src/base/errors.ts";
import type { NodeSpec } from "../../../../src/block/model/contract.ts";
import { type Engine, makeManifest } from "../../../../src/browser.ts";
import * as browser from "../../../../src/browser.ts";
import { contentOf, zstdFrame } from "../../../support/content.ts";
import type { Fault } from "../../../support/image-server.ts";
import { type TestServer, inBrowser, startTestServer } from "../../../support/test-server.ts";
import { KiB, MiB, pattern, same } from "../../support/graph.ts";

const CLUSTER = 64 * KiB;
const SIZE = 2 * MiB + 512;
/** The platform's entry; its name is put together, so that the browser's bundler does not look into it. */
const { createEngine, openNode } = inBrowser
  ? browser
  : ((await import(/* @vite-ignore */ ["../../../../src", "node.ts"].join("/"))) as typeof browser);

let server: TestServer;
let engine: Engine;
const content = contentOf(SIZE);

beforeEach(async () => {
  server = await startTestServer(SIZE);
  engine = createEngine();
});

afterEach(async () => {
  await engine.close();
  await server.stop();
});

/** The ranges asked for since the last look. */
async function ranges(): Promise<string[]> {
  return (await server.seen()).map(({ range }) => range ?? "all");
}

async function open(more: Partial<NodeSpec> = {}): Promise<Awaited<ReturnType<typeof openNode>>> {
  const spec = { driver: "http", url: server.url, "read-only": true, retries: 0, ...more };
  return openNode(spec as Parameters<typeof openNode>[0], { engine });
}

function base64(bytes: Uint8Array): string {
  let text = "";
  for (let at = 0; at < bytes.byteLength; at += 8192)
    text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}

async function failure(work: Promise<unknown>): Promise<BlockError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(BlockError);
  return error as BlockError;
}

describe("reading", () => {
  test("any range has the server's bytes, the end included", async () => {
    const disk = await open();
    expect(disk.length).toBe(SIZE);
    for (const [offset, bytes] of [
      [0, 512],
      [1, 3],
      [CLUSTER - 7, 14],
      [100_000, 700_000],
      [SIZE - 600, 600],
      [0, SIZE],
    ] as const)
      expect(same(await disk.read(offset, bytes), content.subarray(offset, offset + bytes))).toBe(true);
  });

  test("opening asks once, for the first cluster, which is not asked for again", async () => {
    const disk = await open();
    await disk.read(0, 4096);
    expect(await ranges()).toEqual(["bytes=0-65535"]);
  });

  test("a cluster is asked for once, however many reads want it", async () => {
    const disk = await open({ size: SIZE });
    await Promise.all([
      disk.read(CLUSTER, 512),
      disk.read(CLUSTER + 4096, 512),
      disk.read(CLUSTER + 512, 512),
    ]);
    await disk.read(CLUSTER + 8192, 512);
    expect(await ranges()).toEqual(["bytes=65536-131071"]);
  });

  test("neighbours are joined into requests of 1 MiB at most", async () => {
    const disk = await open({ size: SIZE });
    await disk.read(0, SIZE);
    expect(await ranges()).toEqual(["bytes=0-1048575", "bytes=1048576-2097151", `bytes=2097152-${SIZE - 1}`]);
  });

  test("with a size nothing is asked for at opening, so the server may be away", async () => {
    await server.cut(true);
    const disk = await open({ size: SIZE });
    expect((await failure(disk.read(0, 512))).code).toBe("EIO");
    await server.cut(false);
    expect(same(await disk.read(0, 512), content.subarray(0, 512))).toBe(true);
  });

  test("the cache is bounded, and 0 does without one", async () => {
    const disk = await open({ size: SIZE, "cache-size": 2 * CLUSTER, readahead: 0 });
    for (const cluster of [1, 2, 1, 3, 1, 2]) await disk.read(cluster * CLUSTER, 512);
    const starts = (await ranges()).map((range) => Number(/\d+/.exec(range)![0]) / CLUSTER);
    expect(starts).toEqual([1, 2, 3, 2]);
    const bare = await open({ size: SIZE, "cache-size": 0 });
    await bare.read(0, 512);
    await bare.read(0, 512);
    expect(await ranges()).toHaveLength(2);
  });

  test("a read that goes on where the last one ended is read ahead of", async () => {
    const disk = await open({ size: SIZE, readahead: 2 * CLUSTER });
    await disk.read(0, CLUSTER);
    await disk.read(CLUSTER, CLUSTER);
    await disk.read(2 * CLUSTER, 512);
    expect(await ranges()).toContain("bytes=131072-262143");
  });

  test("credentials, and a URL that carries some, are refused", async () => {
    expect((await failure(open({ url: server.url.replace("//", "//user:secret@") }))).message).toContain(
      "refused",
    );
  });

  test("an empty resource is a disk of no bytes", async () => {
    await server.change({ bytes: 0 });
    expect((await open()).length).toBe(0);
  });
});

describe("faults", () => {
  const final: readonly [Fault, string, RegExp][] = [
    ["ignore-range", "EIO", /ignores ranges/],
    ["wrong-range", "EIO", /Content-Range is 'bytes 66048-/],
    ["short-body", "EIO", /ended at 32768 of 65536/],
    ["long-body", "EIO", /longer than 65536/],
    ["drop", "EIO", /127\.0\.0\.1/],
    ["refuse", "EIO", /127\.0\.0\.1/],
    ["status-500", "EIO", /status 500/],
    ["status-404", "ENOENT", /status 404/],
    ["status-403", "EACCES", /status 403/],
    ["gzip", "EIO", /status 200|coding|127\.0\.0\.1/],
  ];

  test.each(final)("%s is %s, and read right once it is over", async (fault, code, message) => {
    const disk = await open();
    await server.change({ fault: fault });
    const error = await failure(disk.read(CLUSTER, 4096));
    expect([error.code, error.offset, error.bytes]).toEqual([code, CLUSTER, 4096]);
    expect(error.message).toMatch(message);
    await server.change({ fault: "none" });
    expect(same(await disk.read(CLUSTER, 4096), content.subarray(CLUSTER, CLUSTER + 4096))).toBe(true);
  });

  test.each(final)("%s at opening is told", async (fault, code) => {
    await server.change({ fault: fault });
    const error = await failure(open());
    expect(error.code).toBe(code);
    expect(error.message).toMatch(/^Could not open 'http/);
    expect(error.message.split(server.url)).toHaveLength(2);
  });

  test("what passes is retried and not noticed", async () => {
    const disk = await open({ retries: 3 });
    for (const fault of ["short-body", "drop", "status-500", "wrong-range"] as const) {
      await server.change({ fault, faultsLeft: 2 });
      const offset = CLUSTER * (3 + final.findIndex(([name]) => name === fault));
      expect(same(await disk.read(offset, 512), content.subarray(offset, offset + 512))).toBe(true);
    }
  });

  test("a server that says nothing is given up after the timeout", async () => {
    const disk = await open({ timeout: 1 });
    await server.change({ fault: "silent" });
    const error = await failure(disk.read(CLUSTER, 512));
    expect([error.code, error.message]).toEqual(["EIO", "timed out"]);
  });

  test("tries end at the deadline", async () => {
    const disk = await open({ retries: 100, deadline: 1 });
    await server.change({ fault: "status-500" });
    expect((await failure(disk.read(CLUSTER, 512))).code).toBe("EIO");
    expect((await server.seen()).length).toBeLessThan(20);
  });

  test("closing ends what is under way", async () => {
    const disk = await open({ size: SIZE, readahead: 4 * CLUSTER });
    await disk.read(0, CLUSTER);
    await server.change({ fault: "silent" });
    await disk.read(CLUSTER - 512, 512);
    await disk.close();
  });
});

describe("a changed source", () => {
  test("strong ETag: If-Match is sent, ESTALE, and nothing of the new version is ever read", async () => {
    // To another origin it is sent only if that is asked for.
    const disk = await open({ "if-match": "on" });
    await disk.read(CLUSTER, 512);
    expect((await server.seen()).at(-1)!.ifMatch).toBe('"v1"');
    await server.change({ bytes: SIZE, seed: 99, etag: '"v2"' });
    expect((await failure(disk.read(5 * CLUSTER, 512))).code).toBe("ESTALE");
    await server.change({ etag: '"v1"' });
    expect((await failure(disk.read(6 * CLUSTER, 512))).code).toBe("ESTALE");
  });

  test.each([
    ["a weak ETag", { etag: 'W/"a"' }, { etag: 'W/"b"' }],
    [
      "Last-Modified",
      { etag: null, lastModified: "Mon, 01 Jan 2024 00:00:00 GMT" },
      { lastModified: "Tue, 02 Jan 2024 00:00:00 GMT" },
    ],
    ["the length", { etag: null }, { bytes: SIZE + 512 }],
  ] as const)("is seen by %s", async (_by, first, then) => {
    await server.change(first);
    const disk = await open();
    await disk.read(CLUSTER, 512);
    expect((await server.seen()).at(-1)!.ifMatch).toBeUndefined();
    await server.change(then);
    expect((await failure(disk.read(5 * CLUSTER, 512))).code).toBe("ESTALE");
  });

  test("another version than the option 'etag' names is refused at the first answer", async () => {
    expect((await failure(open({ etag: '"v0"' }))).code).toBe("ESTALE");
    await (await open({ etag: '"v1"' })).read(CLUSTER, 512);
  });

  test("another size than the option says is refused", async () => {
    const disk = await open({ size: SIZE + 512 });
    expect((await failure(disk.read(CLUSTER, 512))).code).toBe("ESTALE");
  });
});

describe("a manifest", () => {
  async function manifest(clusterBytes = CLUSTER): Promise<Uint8Array> {
    const disk = await openNode({ driver: "memory", buffer: content.slice() }, { engine });
    const bytes = await makeManifest(disk, { clusterBytes });
    await disk.close();
    return bytes;
  }

  test("catches a server that shifts ranges by 4 bytes, again and again, and nothing of it is kept", async () => {
    const disk = await open({ manifest: await manifest() });
    await server.change({ fault: "shift" });
    const error = await failure(disk.read(CLUSTER, 512));
    expect([error.code, error.message]).toEqual([
      "EIO",
      `${server.url}: the content at 65536 is not what the manifest says`,
    ]);
    expect((await failure(disk.read(CLUSTER, 512))).code).toBe("EIO");
    await server.change({ fault: "none" });
    expect(same(await disk.read(CLUSTER, 512), content.subarray(CLUSTER, CLUSTER + 512))).toBe(true);
  });

  test("without one the shift is not seen", async () => {
    const disk = await open();
    await server.change({ fault: "shift" });
    expect(same(await disk.read(CLUSTER, 512), content.subarray(CLUSTER + 4, CLUSTER + 516))).toBe(true);
  });

  test("a damaged range is asked for again", async () => {
    const disk = await open({ manifest: await manifest(), retries: 2 });
    await server.change({ fault: "shift", faultsLeft: 2 });
    expect(same(await disk.read(CLUSTER, 512), content.subarray(CLUSTER, CLUSTER + 512))).toBe(true);
    expect(await ranges()).toHaveLength(4);
  });

  test("of a joined request, what is right arrives though the rest is not", async () => {
    const disk = await open({ manifest: await manifest() });
    await server.change({ flip: { at: 3 * CLUSTER + 17 } });
    const reads = [1, 2, 3, 4].map((cluster) => disk.read(cluster * CLUSTER, CLUSTER));
    const settled = await Promise.allSettled(reads);
    expect(settled.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
  });

  test("at opening the first cluster is checked too, and the whole disk reads right", async () => {
    const bytes = await manifest(4096);
    await server.change({ fault: "shift" });
    expect((await failure(open({ manifest: bytes }))).code).toBe("EIO");
    await server.change({ fault: "none" });
    const disk = await open({ manifest: bytes, "cluster-size": 32768 });
    expect(same(await disk.read(0, SIZE), content)).toBe(true);
  });

  test("is found by URL and by file name", async () => {
    await server.change({ files: { "/m": base64(await manifest()) } });
    const disk = await open({ manifest: new URL("/m", server.url).href, size: SIZE });
    expect(await ranges()).toEqual(["all"]);
    expect(disk.length).toBe(SIZE);
    // In a browser it is a URL too, relative to the page, whose server answers every path.
    if (!inBrowser) expect((await failure(open({ manifest: "/no/such/file" }))).code).toBe("ENOENT");
    expect((await failure(open({ manifest: new URL("/none", server.url).href }))).code).toBe("ENOENT");
  });

  test.each([
    ["no manifest", (bytes: Uint8Array) => bytes.fill(0, 0, 8), "This is no manifest"],
    ["a damaged one", (bytes: Uint8Array) => bytes.fill(9, 40, 41), "The manifest is damaged"],
    ["a cut one", (bytes: Uint8Array) => bytes.subarray(0, 200), "too short or too long"],
    ["another version", (bytes: Uint8Array) => bytes.fill(2, 8, 9), "Unsupported manifest version 2"],
    ["impossible sizes", (bytes: Uint8Array) => bytes.fill(1, 12, 13), "sizes are impossible"],
  ])("%s is refused", async (_what, harm, message) => {
    expect((await failure(open({ manifest: harm(await manifest()) }))).message).toContain(message);
  });

  test("of another disk, or with clusters that do not fit, it is refused", async () => {
    const bytes = await manifest();
    expect((await failure(open({ manifest: bytes, "cluster-size": 4096 }))).message).toContain("do not fit");
    await server.change({ bytes: MiB });
    expect((await failure(open({ manifest: bytes }))).message).toContain("is of a disk of 2097664 bytes");
  });
});

describe("parts", () => {
  const PART = 256 * KiB;

  async function serveParts(name: string): Promise<void> {
    const files: Record<string, string> = {};
    for (let start = 0; start < SIZE; start += PART) {
      const part = new Uint8Array(PART);
      part.set(content.subarray(start, start + PART));
      files[name.replace("*", `${start}-${start + PART}`)] = base64(part);
    }
    await server.change({ files });
  }

  async function openParts(path: string, more: Partial<NodeSpec> = {}): ReturnType<typeof open> {
    const parts = { "chunk-size": PART };
    return open({ url: new URL(path, server.url).href, size: SIZE, parts, ...more });
  }

  test.each([
    ["/image.img", "/image-*.img"],
    ["/folder/.img", "/folder/*.img"],
  ])("named after %s are read as one disk", async (path, pattern) => {
    await serveParts(pattern);
    const disk = await openParts(path);
    expect(same(await disk.read(0, SIZE), content)).toBe(true);
    expect(same(await disk.read(PART - 1, 2), content.subarray(PART - 1, PART + 1))).toBe(true);
  });

  test("may be zstd frames", async () => {
    await server.change({ files: { "/image-0-65536.img.zst": zstdFrame } });
    const url = new URL("/image.img.zst", server.url).href;
    const disk = await open({ url, size: 65_536, parts: { "chunk-size": 65_536 } });
    expect(same(await disk.read(0, 65_536), pattern(65_536, 3))).toBe(true);
  });

  test("a missing part is ENOENT, one of another length EIO, and a manifest checks them", async () => {
    await serveParts("/image-*.img");
    const files = {
      [`/image-0-${PART}.img`]: null,
      [`/image-${PART}-${2 * PART}.img`]: base64(new Uint8Array(1000)),
      [`/image-${2 * PART}-${3 * PART}.img`]: base64(new Uint8Array(PART + 1)),
    };
    await server.change({ files, flip: { path: `/image-${3 * PART}-${4 * PART}.img`, at: 5 } });
    const whole = await openNode({ driver: "memory", buffer: content.slice() }, { engine });
    const disk = await openParts("/image.img", { manifest: await makeManifest(whole) });
    expect((await failure(disk.read(0, 512))).code).toBe("ENOENT");
    expect((await failure(disk.read(PART, 512))).message).toContain("has 1000 bytes instead of");
    expect((await failure(disk.read(2 * PART, 512))).message).toContain("longer than");
    expect((await failure(disk.read(3 * PART, 512))).message).toContain("not what the manifest says");
    expect(same(await disk.read(4 * PART, 512), content.subarray(4 * PART, 4 * PART + 512))).toBe(true);
  });
});

describe("options", () => {
  test.each([
    [{ url: undefined }, "Parameter 'url' is missing"],
    [{ url: "ftp://host/x" }, "'ftp://host/x' is no URL of http or https"],
    [{ driver: "https" }, "https curl driver cannot handle the URL"],
    [{ "cluster-size": 1000 }, "Parameter 'cluster-size' expects a power of two"],
    [{ credentials: "yes" }, "Parameter 'credentials' does not accept value 'yes'"],
    [{ connections: 0 }, "Parameter 'connections' expects a number from 1 to 16"],
    [{ parts: {} }, "Parameter 'parts.chunk-size' is missing"],
    [{ parts: { "chunk-size": 65536 } }, "Parameter 'parts' needs the disk's 'size'"],
    [{ "read-only": false }, "curl driver does not support writes"],
  ])("%j is refused", async (more, message) => {
    // By the QAPI table, or by the driver: either says it in QMP's words.
    await expect(open(more as Partial<NodeSpec>)).rejects.toThrow(message);
  });

  test("auto-read-only makes it read-only", async () => {
    const disk = await open({ "read-only": false, "auto-read-only": true });
    expect(disk.readOnly).toBe(true);
  });

  test("the version shows in the node's information, and that it has changed", async () => {
    await server.change({ etag: '"v7"' });
    const disk = await open({ size: SIZE });
    const facts = async (): Promise<unknown> => (await disk.info())["format-specific"];
    expect(await facts()).toEqual({ type: "http", data: { changed: false } });
    await disk.read(0, 512);
    expect(await facts()).toEqual({ type: "http", data: { etag: '"v7"', changed: false } });
    await server.change({ etag: '"v8"' });
    expect((await failure(disk.read(MiB, 512))).code).toBe("ESTALE");
    expect(await facts()).toEqual({ type: "http", data: { etag: '"v7"', changed: true } });
  });
});

describe("an account", () => {
  const secrets = { pass: "S\u00e9same: \u00f6ffne", jar: "session=1; theme=dark", other: "k=\n" };

  test("user name and password go along, to the disk's own origin only", async () => {
    for (const [id, secret] of Object.entries(secrets)) engine.objects.addSecret(id, secret);
    const whole = await openNode({ driver: "memory", buffer: content.slice() }, { engine });
    const files = { "/manifest": base64(await makeManifest(whole)) };
    await server.change({ files });
    const elsewhere = await startTestServer(SIZE);
    await elsewhere.change({ files });
    try {
      for (const manifest of [new URL("/manifest", server.url), new URL("/manifest", elsewhere.url)]) {
        const disk = await open({ username: "anna", "password-secret": "pass", manifest: manifest.href });
        await disk.read(0, 512);
        await disk.close();
      }
      const basic = `Basic ${base64(new TextEncoder().encode(`anna:${secrets.pass}`))}`;
      expect(new Set((await server.seen()).map(({ authorization }) => authorization))).toEqual(
        new Set([basic]),
      );
      expect((await elsewhere.seen()).map(({ authorization }) => authorization)).toEqual([undefined]);
    } finally {
      await elsewhere.stop();
    }
  });

  test.each([
    [{ username: "a:b" }, "Parameter 'username' may hold no colon"],
    [{ "password-secret": "none" }, "No secret with id 'none'"],
    [{ cookie: "a=1", "cookie-secret": "jar" }, "curl driver cannot handle both cookie and cookie secret"],
    [{ sslverify: false }, "Parameter 'sslverify' is unexpected"],
  ])("%j is refused", async (more, message) => {
    engine.objects.addSecret("jar", "x=1");
    await expect(open(more as Partial<NodeSpec>)).rejects.toThrow(message);
  });

  test.skipIf(inBrowser)("cookies go along, and odd ones are refused without being told", async () => {
    for (const [id, secret] of Object.entries(secrets)) engine.objects.addSecret(id, secret);
    await (await open({ cookie: "a=1; b=2" })).read(0, 512);
    await (await open({ "cookie-secret": "jar" })).read(0, 512);
    expect(new Set((await server.seen()).map(({ cookie }) => cookie))).toEqual(
      new Set(["a=1; b=2", secrets.jar]),
    );
    const refused = await failure(open({ "cookie-secret": "other" }));
    expect(refused.message).toBe("Parameter 'cookie-secret' has a character that no cookie has");
  });

  test.runIf(inBrowser)("a page is told what it can't do", async () => {
    expect((await failure(open({ cookie: "a=1" }))).message).toContain("a page can't set cookies");
    const url = server.url.replace("http:", "https:");
    const refused = await failure(open({ driver: "https", url, sslverify: false }));
    expect(refused.message).toContain("a page always checks certificates");
  });
});
