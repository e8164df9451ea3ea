// The indexeddb driver over a model of IndexedDB: failed flushes and cleared site data.
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { Engine, Node } from "../../../../src/browser.ts";
import { ModelIndexedDb } from "../../support/model-indexeddb.ts";

const KiB = 1024;
const file = { driver: "indexeddb", filename: "disk" } as const;
let model: ModelIndexedDb;
let engine: Engine;
let disk: Node;
const content = (byte: number): Uint8Array => new Uint8Array(64 * KiB).fill(byte);

beforeEach(async () => {
  model = new ModelIndexedDb();
  for (const [name, global] of Object.entries(model.globals)) vi.stubGlobal(name, global);
  const library = await import("../../../../src/browser.ts");
  engine = library.createEngine();
  await library.createImage({ driver: "raw", file, size: 32 * 1024 * KiB }, { engine });
  disk = await library.openNode({ driver: "raw", file }, { engine });
});

afterEach(async () => {
  await engine.close().catch(() => undefined);
  vi.unstubAllGlobals();
});

test("after a failed flush every later one fails, and writes go on", async () => {
  await disk.write(0, content(1));
  model.connection.failDurable = 1;
  await expect(disk.flush()).rejects.toMatchObject({ code: "EIO" });
  await disk.write(64 * KiB, content(2));
  await expect(disk.flush()).rejects.toMatchObject({ code: "EIO" });
  await expect(disk.close()).rejects.toMatchObject({ code: "EIO" });
});

test("a disk that is recovered flushes again", async () => {
  await disk.write(0, content(1));
  model.connection.failDurable = 2;
  await expect(disk.flush()).rejects.toMatchObject({ code: "EIO" });
  await expect(disk.recover()).rejects.toMatchObject({ code: "EIO" });
  expect([await disk.recover(), await disk.recover()]).toEqual([true, false]);
  await disk.flush();
  expect(model.connection.values.get(0)).toEqual(content(1));
});

test("cleared site data are an error of reads and writes, not zeroes", async () => {
  for (let block = 0; block < 160; block++) await disk.write(block * 64 * KiB, content(1));
  // The database is there again, but without the disk.
  model.connection.values.clear();
  await expect(disk.read(0, 64 * KiB)).rejects.toThrow("the browser has cleared the site's data");
  model.clear();
  await expect(disk.write(0, content(2))).rejects.toThrow("the browser has cleared the site's data");
});
