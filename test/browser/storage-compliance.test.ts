// The compliance suite of protocol drivers over the browser's own storage, in a dedicated worker; and what is IndexedDB's
// alone: it works on a page too.
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type Engine, createEngine, createImage, openNode, removeImage } from "../../src/browser.ts";
import { complianceCases } from "../unit/drivers/protocol/compliance.ts";
import { type Storage, startStorage } from "./support/storage.ts";

const MiB = 1024 * 1024;
let storage: Storage;

beforeAll(() => {
  storage = startStorage();
});

afterAll(() => storage.kill());

describe.each(["opfs", "indexeddb"] as const)("%s", (driver) => {
  test.each(complianceCases)("$name", async ({ name }) => {
    await storage.calls.complianceCase(driver, name);
  });
});

describe("indexeddb on a page", () => {
  const file = { driver: "indexeddb", filename: "tests/page" } as const;
  const raw = { driver: "raw", file } as const;
  let engine: Engine = createEngine();

  afterEach(async () => {
    await engine.close();
    engine = createEngine();
    await removeImage(file, { engine }).catch(() => undefined);
  });

  test("keeps a qcow2 image, is made once only, and is open once only", async () => {
    const qcow2 = { driver: "qcow2", file } as const;
    await createImage({ ...qcow2, size: 1024 * MiB }, { engine });
    await expect(createImage({ ...qcow2, size: MiB }, { engine })).rejects.toMatchObject({ code: "EEXIST" });
    const disk = await openNode(qcow2, { engine });
    await disk.write(512 * MiB, new Uint8Array(100_000).fill(7));
    await using other = createEngine();
    await expect(openNode(raw, { engine: other })).rejects.toThrow("already open, in another tab or worker");
    await disk.close();
    const again = await openNode(qcow2, { engine: other });
    expect(await again.read(512 * MiB + 99_998, 4)).toEqual(Uint8Array.of(7, 7, 0, 0));
    await again.close();
  });

  test("one that is not there is ENOENT", async () => {
    await expect(openNode(raw, { engine })).rejects.toMatchObject({ code: "ENOENT" });
    await expect(removeImage(file, { engine })).rejects.toMatchObject({ code: "ENOENT" });
    expect((await indexedDB.databases()).some(({ name }) => name?.includes("tests/page"))).toBe(false);
  });
});
