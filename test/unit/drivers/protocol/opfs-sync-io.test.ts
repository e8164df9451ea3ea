// Whole reads and writes over files whose counts can't be believed, and stores whose data were cleared away.
import { expect, test } from "vitest";
import type { SyncFile } from "../../../../src/base/host.ts";
import { ClusterStore } from "../../../../src/drivers/protocol/opfs/store.ts";
import { readWhole, writeWhole } from "../../../../src/drivers/protocol/opfs/sync-io.ts";
import { ModelStorage } from "../../support/private-directory.ts";

/** A file that answers every read and write with this count. */
function counting(count: number): SyncFile {
  return {
    read: () => count,
    write: () => count,
    flush: () => undefined,
    size: () => 0,
    truncate: () => undefined,
    close: () => undefined,
  };
}

test.each([17, 2 ** 32 - 5, -1, Number.NaN])("a count of %d for 16 bytes is no success", (count) => {
  expect(() => writeWhole(counting(count), new Uint8Array(16), 0)).toThrow(
    expect.objectContaining({ code: "ENOSPC", op: "pwrite" }),
  );
  expect(() => readWhole(counting(count), new Uint8Array(16), { offset: 0, least: 0 })).toThrow(
    expect.objectContaining({ code: "EIO", op: "pread" }),
  );
});

test("a read that falls short is zeroes where the file need not reach, and an error where it must", () => {
  const buffer = new Uint8Array(16).fill(9);
  readWhole(counting(4), buffer, { offset: 0, least: 4 });
  expect([...buffer]).toEqual([9, 9, 9, 9, ...new Uint8Array(12)]);
  expect(() => readWhole(counting(4), buffer, { offset: 0, least: 5 })).toThrow("cleared the site's data");
});

test("an open store whose files were cleared away says so instead of reading zeroes", async () => {
  const storage = new ModelStorage();
  const made = await storage.open("disk", { create: true });
  await ClusterStore.create(made, { size: 65_536, clusterBytes: 4096, salt: 7 });
  made.close();
  const store = await ClusterStore.open(await storage.open("disk"), { write: true });
  store.write(0, new Uint8Array(8192).fill(3));
  store.commit();
  storage.clear("disk");
  expect(() => store.read(0, new Uint8Array(4096))).toThrow("the browser has cleared the site's data");
  const beyond = new Uint8Array(4096).fill(9);
  store.read(32_768, beyond);
  expect(beyond.every((byte) => byte === 0)).toBe(true);
});
