// What an overlay was made over is kept with it, and compared when it is opened: a base that has changed between two visits is
// never mixed with what is in the overlay. In Node and in Chromium, against a real server.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { reopen } from "../../../../../src/block/graph/reopen.ts";
import { type BlockError, errnoOf } from "../../../../../src/base/errors.ts";
import { type Engine, type Node, makeManifest } from "../../../../../src/browser.ts";
import * as browser from "../../../../../src/browser.ts";
import { contentOf } from "../../../../support/content.ts";
import { type TestServer, inBrowser, startTestServer } from "../../../../support/test-server.ts";
import { KiB, MiB, pattern, same } from "../../../support/graph.ts";

const SIZE = 2 * MiB;
const { createEngine, createImage, openNode, stream } = inBrowser
  ? browser
  : ((await import(/* @vite-ignore */ ["../../../../../src", "node.ts"].join("/"))) as typeof browser);

type Options = Readonly<Record<string, unknown>>;
type Spec = Parameters<typeof openNode>[0];

let server: TestServer;
let engine: Engine;

beforeEach(async () => {
  server = await startTestServer(SIZE);
  engine = createEngine({ arenaBytes: 16 * MiB });
  await openNode({ driver: "memory", size: 0, "node-name": "store" }, { engine });
  await createImage({ driver: "qcow2", file: "store", size: SIZE }, { engine });
});

afterEach(async () => {
  await engine.close();
  await server.stop();
});

/** One visit of a page: base and overlay are opened, used and closed. */
async function visit<T>(
  { base = {}, overlay = {} }: { base?: Options; overlay?: Options },
  use: (disk: Node) => Promise<T>,
): Promise<T> {
  const http = { driver: "http", url: server.url, "read-only": true, retries: 0, ...base };
  await using below = await openNode(http as Spec, { engine });
  const spec = { driver: "qcow2", file: "store", backing: below.name, ...overlay };
  await using disk = await openNode(spec as Spec, { engine });
  return await use(disk);
}

const write = (disk: Node): Promise<void> => disk.write(128 * KiB, pattern(64 * KiB, 7));
const look = (disk: Node): Promise<Uint8Array> => disk.read(MiB, 4 * KiB);

async function refusal(work: Promise<unknown>): Promise<BlockError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeDefined();
  expect(errnoOf(error)).toBe("ESTALE");
  return error as BlockError;
}

const newVersion = { bytes: SIZE, seed: 99, etag: '"v2"' };

describe("a base that the user picks", () => {
  const pick = (name: string, options: { lastModified?: number; bytes?: number } = {}): File => {
    const { lastModified = 1_700_000_000_123, bytes = SIZE } = options;
    return new File([contentOf(bytes)], name, { lastModified });
  };

  async function over<T>(blob: Blob, use: (disk: Node) => Promise<T>, overlay: Options = {}): Promise<T> {
    await using below = await openNode({ driver: "blob", blob, "read-only": true } as unknown as Spec, {
      engine,
    });
    const spec = { driver: "qcow2", file: "store", backing: below.name, ...overlay };
    await using disk = await openNode(spec as Spec, { engine });
    return await use(disk);
  }

  test("is refused when it is another: by its date, by its size", async () => {
    await over(pick("disk.img"), write);
    const { message } = await refusal(over(pick("disk.img", { lastModified: 1_700_000_000_124 }), look));
    expect(message).toContain("its date was 2023-11-14T22:13:20.123Z and is 2023-11-14T22:13:20.124Z");
    expect(message).toContain("changed-backing");
    const other = await refusal(over(new Blob([contentOf(SIZE - 512)]), look));
    expect(other.message).toContain(`its size was ${SIZE} and is ${SIZE - 512}`);
    await over(pick("disk.img", { lastModified: 5 }), look, { "changed-backing": "accept" });
  });

  test("is taken under another name, and as a Blob of which no more is known than its size", async () => {
    await over(pick("disk.img"), write);
    for (const blob of [pick("Kopie von disk.img"), new Blob([contentOf(SIZE)])])
      expect(same(await over(blob, look), contentOf(SIZE).subarray(MiB, MiB + 4 * KiB))).toBe(true);
  });
});

describe("a base that has changed since the last visit", () => {
  test("is refused with words that say what can be done, and taken again once it is the former one", async () => {
    await visit({}, write);
    await server.change(newVersion);
    const { message } = await refusal(visit({}, look));
    expect(message).toContain('its ETag was "v1" and is "v2"');
    expect(message).toContain("changed-backing");
    await server.change({ bytes: SIZE, seed: 1, etag: '"v1"' });
    expect(same(await visit({}, look), contentOf(SIZE).subarray(MiB, MiB + 4 * KiB))).toBe(true);
  });

  test("is refused below a filter and as a base in raw, read-only too", async () => {
    await visit({}, write);
    await server.change(newVersion);
    await refusal(visit({ overlay: { "read-only": true } }, look));
    const below = { driver: "http", url: server.url, "read-only": true, retries: 0 };
    const raw = { driver: "raw", "read-only": true, file: below };
    const backing = { driver: "blkdebug", "read-only": true, image: raw };
    const spec = { driver: "qcow2", file: "store", "read-only": true, backing } as unknown as Spec;
    await refusal(openNode(spec, { engine }));
  });

  test.each([
    ["a weak ETag", { etag: 'W/"a"' }, { etag: 'W/"b"' }],
    [
      "the date",
      { etag: null, lastModified: "Mon, 01 Jan 2024 00:00:00 GMT" },
      { lastModified: "Tue, 02 Jan 2024 00:00:00 GMT" },
    ],
    ["the length", { etag: null }, { bytes: SIZE + 512 }],
  ] as const)("shows by %s", async (_by, first, then) => {
    await server.change(first);
    await visit({}, write);
    await server.change(then);
    await refusal(visit({}, look));
  });

  test("whose size is given is opened without the server, and refused at the first read", async () => {
    await visit({}, write);
    await server.change(newVersion);
    await visit({ base: { size: SIZE } }, async (disk) => {
      expect(same(await disk.read(128 * KiB, 64 * KiB), pattern(64 * KiB, 7))).toBe(true);
      await refusal(look(disk));
    });
  });

  test("is noted also when its version was learnt after the opening only", async () => {
    await visit({ base: { size: SIZE } }, async (disk) => {
      await look(disk);
      await write(disk);
    });
    await server.change(newVersion);
    await refusal(visit({}, look));
  });

  test("is taken as it is where the page accepts it, from then on", async () => {
    await visit({}, write);
    await server.change(newVersion);
    const { buffer, byteOffset } = await visit({ overlay: { "changed-backing": "accept" } }, look);
    const seen = new Uint8Array(buffer, byteOffset, 4 * KiB);
    expect(same(seen, contentOf(SIZE, 99).subarray(MiB, MiB + 4 * KiB))).toBe(true);
    await visit({}, look);
    await server.change({ bytes: SIZE, seed: 1, etag: '"v1"' });
    await refusal(visit({}, look));
  });

  test("is noted of an overlay that has none of it yet but data, as soon as that is used", async () => {
    const file = { driver: "qcow2", file: "store", backing: null } as Spec;
    await (async () => {
      await using alone = await openNode(file, { engine });
      await write(alone);
    })();
    await visit({}, look);
    await server.change(newVersion);
    await refusal(visit({}, look));
  });

  test("is no matter to an overlay that nothing was written to", async () => {
    await visit({}, look);
    await server.change(newVersion);
    await visit({}, write);
  });

  test("is no matter once all of the disk is in the overlay", async () => {
    await visit({}, async (disk) => {
      await write(disk);
      await (
        await stream(disk)
      ).done;
    });
    await server.change(newVersion);
    const kept = await visit({}, look);
    expect(same(kept, contentOf(SIZE).subarray(MiB, MiB + 4 * KiB))).toBe(true);
  });

  test("can't be put below an open image either", async () => {
    await visit({}, write);
    await using first = await openNode(
      { driver: "http", url: server.url, "read-only": true, "node-name": "first" },
      { engine },
    );
    const spec = { driver: "qcow2", file: "store", "node-name": "disk" };
    await using _disk = await openNode({ ...spec, backing: first.name } as Spec, { engine });
    await server.change(newVersion);
    await using _second = await openNode(
      { driver: "http", url: server.url, "read-only": true, "node-name": "second" },
      { engine },
    );
    const put = (more: Options): Promise<void> =>
      reopen(engine.graph, [{ ...spec, backing: "second", ...more }]);
    await refusal(put({}));
    expect(engine.graph.node("disk").backing?.node.name).toBe("first");
    await put({ "changed-backing": "accept" });
    expect(engine.graph.node("disk").backing?.node.name).toBe("second");
  });
});

describe("the same content", () => {
  test("may lie at another place", async () => {
    await visit({}, write);
    const elsewhere = await startTestServer(SIZE);
    try {
      await visit({ base: { url: elsewhere.url } }, look);
    } finally {
      await elsewhere.stop();
    }
  });

  test("by its manifest may have another ETag, and another manifest is another content", async () => {
    const manifestOf = async (seed: number): Promise<Uint8Array> => {
      await using disk = await openNode({ driver: "memory", size: SIZE }, { engine });
      await disk.write(0, contentOf(SIZE, seed));
      return await makeManifest(disk);
    };
    const manifest = await manifestOf(1);
    await visit({ base: { manifest } }, write);
    await server.change({ etag: '"published again"' });
    await visit({ base: { manifest } }, look);
    await server.change(newVersion);
    const { message } = await refusal(visit({ base: { manifest: await manifestOf(99) } }, look));
    expect(message).toContain("its manifest is another one");
  });
});
