// What a guest's disk on a web server goes through: a stream job fills an overlay in the browser's private file system
// while the quota runs out, the source changes, the server shifts its ranges, or the tab is killed. All real: Chromium's
// own quota, files and locks, and a server of its own.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { cdp, commands } from "vitest/browser";
import { createEngine, makeManifest, openNode } from "../../src/browser.ts";
import { contentOf } from "../support/content.ts";
import { randomness } from "../support/random.ts";
import { until } from "../support/until.ts";
import { same } from "../unit/support/graph.ts";
import { type Storage, startStorage } from "./support/storage.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SIZE = 8 * MiB;
const FILENAME = "tests/overlay";

let storage: Storage;
let url: string;

beforeEach(async () => {
  storage = startStorage();
  url = await commands.startServer(SIZE, 1);
});

afterEach(async () => {
  await setQuota(undefined);
  storage.kill();
  await commands.stopServer(url);
  const root = await navigator.storage.getDirectory();
  // The worker's handles go a little after it.
  await expect
    .poll(() => root.removeEntry("tests", { recursive: true }).catch((error: Error) => error.name))
    .toBeOneOf([undefined, "NotFoundError"]);
});

/** Chromium's own quota for this origin, bytes; undefined: as it was. */
async function setQuota(quotaSize: number | undefined): Promise<void> {
  const session = cdp() as { send(method: string, params: object): Promise<unknown> };
  const origin = location.origin;
  await session.send(
    "Storage.overrideQuotaForOrigin",
    quotaSize === undefined ? { origin } : { origin, quotaSize },
  );
}

type Base = Record<string, unknown>;
type Spec = Parameters<Storage["calls"]["open"]>[1];
const file = { driver: "opfs", filename: FILENAME };

/** The overlay without what is below it. */
const own = { driver: "qcow2", file, backing: null } as Spec;

function overlay(base: Base = {}): Spec {
  const backing = { driver: "raw", file: { driver: "http", url, retries: 1, ...base } };
  return { driver: "qcow2", file, backing } as Spec;
}

async function openOverlay(base: Base = {}): Promise<void> {
  await storage.calls.create({ driver: "qcow2", file, size: SIZE } as Parameters<
    Storage["calls"]["create"]
  >[0]);
  await storage.calls.open("disk", overlay(base));
}

/** Waits for a state of the job. */
async function jobIs(state: object): Promise<void> {
  await expect.poll(() => storage.calls.job(), { interval: 50 }).toMatchObject(state);
}

test("a used up quota pauses the stream with nospace, the guest goes on, and more room lets it conclude", async () => {
  await openOverlay();
  await storage.calls.write("disk", 0, new Uint8Array(512).fill(7));
  await setQuota((await navigator.storage.estimate()).usage! + 3 * MiB);
  await storage.calls.stream("disk", { onError: "enospc" });
  await jobIs({ status: "paused", ioStatus: "nospace" });
  expect((await storage.calls.job()).offset).toBeGreaterThan(MiB);
  // What the overlay holds, and what only the server does, can be read; what is there can be written again.
  expect(same(await storage.calls.read("disk", SIZE - 4096, 4096), contentOf(SIZE).subarray(-4096))).toBe(
    true,
  );
  await storage.calls.write("disk", 512, new Uint8Array(512).fill(8));
  await setQuota(200 * MiB);
  await storage.calls.resume();
  await jobIs({ status: "null", error: undefined });
  const expected = contentOf(SIZE).fill(7, 0, 512).fill(8, 512, 1024);
  expect(same(await storage.calls.read("disk", 0, SIZE), expected)).toBe(true);
  expect(await storage.calls.chain("disk")).toEqual(["qcow2"]);
});

test("after the stream everything is local: the disk opens and reads while the server is away", async () => {
  await openOverlay();
  await storage.calls.stream("disk", {});
  await jobIs({ status: "null", error: undefined });
  await commands.cutServer(url, true);
  storage.kill();
  storage = startStorage();
  await storage.calls.open("disk", own);
  expect(same(await storage.calls.read("disk", 0, SIZE), contentOf(SIZE))).toBe(true);
  await commands.cutServer(url, false);
});

test("a lost server pauses the stream with failed; it goes on when the server is back", async () => {
  await openOverlay();
  await storage.calls.stream("disk", { onError: "stop", speedBytesPerSecond: 4 * MiB });
  await expect.poll(async () => (await storage.calls.job()).offset).toBeGreaterThan(MiB);
  await commands.cutServer(url, true);
  await jobIs({ status: "paused", ioStatus: "failed" });
  await storage.calls.write("disk", 4096, new Uint8Array(4096).fill(9));
  await commands.cutServer(url, false);
  await storage.calls.resume();
  await jobIs({ status: "null", error: undefined });
  const expected = contentOf(SIZE).fill(9, 4096, 8192);
  expect(same(await storage.calls.read("disk", 0, SIZE), expected)).toBe(true);
});

test("a source that changes mid-fill fails the job, and nothing of the new one is in the overlay", async () => {
  await openOverlay();
  await storage.calls.stream("disk", { speedBytesPerSecond: 4 * MiB });
  await expect.poll(async () => (await storage.calls.job()).offset).toBeGreaterThan(MiB);
  await commands.changeServer(url, { etag: '"v2"', bytes: SIZE, seed: 2 });
  await jobIs({ status: "null", error: "Stale file handle" });
  await storage.calls.restart();
  await storage.calls.open("disk", own);
  const [held, old] = [await storage.calls.read("disk", 0, SIZE), contentOf(SIZE)];
  let filled = 0;
  for (let at = 0; at < SIZE; at += 64 * KiB) {
    const cluster = held.subarray(at, at + 64 * KiB);
    if (cluster.every((byte) => byte === 0)) continue;
    filled += 1;
    expect(same(cluster, old.subarray(at, at + 64 * KiB))).toBe(true);
  }
  expect(filled).toBeGreaterThan(15);
});

test("a server that shifts ranges by 4 bytes is caught by the manifest", async () => {
  await using engine = createEngine();
  const source = await openNode({ driver: "memory", buffer: contentOf(SIZE) }, { engine });
  const manifest = await makeManifest(source);
  await openOverlay({ manifest });
  await storage.calls.stream("disk", { onError: "stop", speedBytesPerSecond: 4 * MiB });
  await expect.poll(async () => (await storage.calls.job()).offset).toBeGreaterThan(MiB);
  await commands.changeServer(url, { fault: "shift" });
  await jobIs({ status: "paused", ioStatus: "failed" });
  await commands.changeServer(url, { fault: "none" });
  await storage.calls.resume();
  await jobIs({ status: "null", error: undefined });
  expect(same(await storage.calls.read("disk", 0, SIZE), contentOf(SIZE))).toBe(true);
});

test("without headers that another origin may read, the option 'size' does", async () => {
  await commands.changeServer(url, { exposeHeaders: false });
  await expect(storage.calls.open("bare", { driver: "http", url, "read-only": true })).rejects.toThrow(
    /no Content-Range that can be read/,
  );
  await storage.calls.open("bare", { driver: "http", url, size: SIZE, "read-only": true });
  expect(same(await storage.calls.read("bare", MiB, 512), contentOf(SIZE).subarray(MiB, MiB + 512))).toBe(
    true,
  );
});

test("a guest is served while a slow job reads: it does not wait behind the job's queue", async () => {
  await openOverlay();
  await commands.changeServer(url, { fault: "slow" });
  await storage.calls.stream("disk", {});
  await storage.calls.read("disk", SIZE - 4096, 512);
  const ranges = (await commands.seenByServer(url)).map(({ range }) => Number(/\d+/.exec(range ?? "")?.[0]));
  const place = ranges.findIndex((start) => start >= SIZE - 64 * KiB);
  expect(place).toBeGreaterThan(0);
  expect(place).toBeLessThan(8);
});

describe("the tab is killed twenty times while the stream fills and the guest writes", () => {
  test("the overlay opens, no cluster is torn, and nothing acknowledged is lost", async () => {
    const random = randomness(5);
    const source = contentOf(SIZE);
    await openOverlay();
    /** What each sector may hold beside the source: 0 stands for it. */
    const allowed = new Map<number, Set<number>>();
    let writes = 0;
    for (let kill = 1; kill <= 20; kill++) {
      const next = startStorage();
      await storage.calls.stream("disk", { speedBytesPerSecond: MiB });
      const notes = new Int32Array(new SharedArrayBuffer(4 * 40_000));
      await storage.calls.guest("disk", kill, notes);
      const least = 1 + random(6);
      await until("the guest writes", () => Atomics.load(notes, 0) >= least);
      await new Promise((resolve) => {
        setTimeout(resolve, random(100));
      });
      storage.kill();
      storage = next;
      expect(await storage.calls.check(own)).toMatchObject({ corruptions: 0 });
      // The killed worker has let go of the disk only now, and has noted all that it did.
      const count = Atomics.load(notes, 0);
      for (let at = 1; at <= 4 * count; at += 4) {
        const [acknowledged, offset, bytes, value] = notes.subarray(at, at + 4) as unknown as [
          number,
          number,
          number,
          number,
        ];
        for (let sector = offset / 512; sector < (offset + bytes) / 512; sector++) {
          const before = acknowledged ? [] : (allowed.get(sector) ?? [0]);
          allowed.set(sector, new Set([...before, value]));
        }
      }
      writes += count;
      await storage.calls.open("disk", overlay());
      const content = await storage.calls.read("disk", 0, SIZE);
      expect(fault(content, source, allowed)).toBeUndefined();
      // What was found is what counts from now on.
      for (const sector of allowed.keys()) {
        const now = content.subarray(sector * 512, sector * 512 + 512);
        const untouched = same(now, source.subarray(sector * 512, sector * 512 + 512));
        if (allowed.get(sector)!.size > 1) allowed.set(sector, new Set([untouched ? 0 : now[0]!]));
      }
    }
    expect(writes).toBeGreaterThan(40);
  });
});

/** The first sector that holds what it may not, in words. */
function fault(
  content: Uint8Array,
  source: Uint8Array,
  allowed: ReadonlyMap<number, Set<number>>,
): string | undefined {
  for (let sector = 0; sector < SIZE / 512; sector++) {
    const [now, original] = [content, source].map((bytes) =>
      bytes.subarray(sector * 512, sector * 512 + 512),
    );
    const values = allowed.get(sector) ?? new Set([0]);
    if (values.has(0) && same(now!, original!)) continue;
    if (values.has(now![0]!) && now!.every((byte) => byte === now![0])) continue;
    return `sector ${sector} holds ${now![0]}, allowed: ${[...values].join()}`;
  }
  return undefined;
}
