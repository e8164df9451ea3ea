// The opfs driver over the browser's own private file system, in a dedicated worker.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { openNode } from "../../src/browser.ts";
import { type Storage, startStorage } from "./support/storage.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;
const FILENAME = "tests/disk";
const raw = { driver: "raw", file: { driver: "opfs", filename: FILENAME } } as const;

let storage: Storage;

beforeEach(() => {
  storage = startStorage();
});

afterEach(async () => {
  storage.kill();
  const root = await navigator.storage.getDirectory();
  // The worker's handles go a little after it.
  await expect
    .poll(() => root.removeEntry("tests", { recursive: true }).catch((error: Error) => error.name))
    .toBeOneOf([undefined, "NotFoundError"]);
});

function filled(bytes: number, value: number): Uint8Array {
  return new Uint8Array(bytes).fill(value);
}

describe("a disk", () => {
  test("keeps its content over reopening, and charges what was written", async () => {
    const { calls } = storage;
    await calls.create({ ...raw, size: 50 * GiB });
    expect(await calls.open("a", raw)).toBe(50 * GiB);
    await calls.write("a", 40 * GiB + 100, filled(300 * KiB, 7));
    expect(await calls.read("a", 40 * GiB + 99, 2)).toEqual(Uint8Array.of(0, 7));
    await calls.restart();
    await calls.open("a", raw);
    expect(await calls.read("a", 40 * GiB + 100 + 300 * KiB - 1, 2)).toEqual(Uint8Array.of(7, 0));
    expect((await navigator.storage.estimate()).usage).toBeLessThan(2 * MiB);
  });

  test("a second tab is refused with a clear message, and let in once the first is closed", async () => {
    await storage.calls.create({ ...raw, size: MiB });
    await storage.calls.open("a", raw);
    const other = startStorage();
    const refusal = other.calls.open("a", raw);
    await expect(refusal).rejects.toThrow(
      "Could not open 'tests/disk': it is already open, in another tab or worker",
    );
    await expect(refusal).rejects.toMatchObject({ code: "EAGAIN" });
    await expect(other.calls.remove(FILENAME)).rejects.toMatchObject({ code: "EAGAIN" });
    await storage.calls.close("a");
    expect(await other.calls.open("a", raw)).toBe(MiB);
    other.kill();
  });

  test("what was acknowledged is there after the tab was killed", async () => {
    await storage.calls.create({ ...raw, size: MiB });
    await storage.calls.open("a", raw);
    await storage.calls.write("a", 1000, filled(100_000, 9));
    storage.kill();
    storage = startStorage();
    await storage.calls.open("a", raw);
    expect(await storage.calls.read("a", 100_998, 4)).toEqual(Uint8Array.of(9, 9, 0, 0));
  });

  test("qcow2 works over it", async () => {
    const { calls } = storage;
    const qcow2 = { driver: "qcow2", file: { driver: "opfs", filename: FILENAME } } as const;
    await calls.create({ ...qcow2, size: GiB });
    await expect(calls.create({ ...qcow2, size: GiB })).rejects.toMatchObject({ code: "EEXIST" });
    expect(await calls.open("a", qcow2)).toBe(GiB);
    await calls.write("a", 512 * MiB, filled(MiB, 3));
    await calls.restart();
    await calls.open("a", qcow2);
    expect(await calls.read("a", 513 * MiB - 1, 2)).toEqual(Uint8Array.of(3, 0));
  });

  test("one that is not there is ENOENT, and a removed one is gone", async () => {
    await expect(storage.calls.open("a", raw)).rejects.toMatchObject({ code: "ENOENT" });
    await storage.calls.create({ ...raw, size: MiB });
    await storage.calls.remove(FILENAME);
    await expect(storage.calls.open("a", raw)).rejects.toMatchObject({ code: "ENOENT" });
  });
});

describe("speed", () => {
  test("random reads of 4 KiB are measured beside those of a bare handle", async () => {
    const { calls } = storage;
    await calls.create({ ...raw, size: 64 * MiB });
    await calls.open("a", { driver: "opfs", filename: FILENAME });
    for (let at = 0; at < 64 * MiB; at += MiB) await calls.write("a", at, filled(MiB, 1));
    const best = await calls.measureReads("a", 10);
    console.log(`4 KiB random read: node ${best.node.toFixed(2)} µs, bare handle ${best.bare.toFixed(2)} µs`);
    expect(best.node).toBeGreaterThan(0);
  });

  test("a disk of 50 GiB is opened as one of 50 MiB is", async () => {
    const { calls } = storage;
    const times: Record<number, number> = {};
    for (const size of [50 * MiB, 50 * GiB]) {
      const filename = `tests/${size}`;
      await calls.create({ driver: "qcow2", file: { driver: "opfs", filename }, size });
      for (let round = 0; round < 5; round++) {
        const begin = performance.now();
        await calls.open("a", { driver: "qcow2", file: { driver: "opfs", filename } });
        times[size] = Math.min(times[size] ?? Infinity, performance.now() - begin);
        await calls.close("a");
      }
    }
    console.log(`open: 50 MiB ${times[50 * MiB]!.toFixed(1)} ms, 50 GiB ${times[50 * GiB]!.toFixed(1)} ms`);
    expect((await navigator.storage.estimate()).usage).toBeLessThan(4 * MiB);
  });
});

test("on a page it is refused in words", async () => {
  await expect(openNode(raw)).rejects.toThrow(
    "needs a dedicated worker with synchronous file handles, 'indexeddb' neither",
  );
});
