// Lost connections of IndexedDB, over a model of it: they are opened anew, a failed flush is remembered, and cleared site
// data are told instead of read as zeroes.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { BlockDatabase, HostDatabases } from "../../../../src/base/host.ts";
import { browserDatabases } from "../../../../src/platform/browser/databases.ts";
import { ModelIndexedDb, lostConnection } from "../../support/model-indexeddb.ts";

let model: ModelIndexedDb;
let databases: HostDatabases;
let database: BlockDatabase;
const value = (byte: number): Uint8Array => new Uint8Array(64).fill(byte);
const relaxed = { durable: false };

beforeEach(async () => {
  model = new ModelIndexedDb();
  for (const [name, global] of Object.entries(model.globals)) vi.stubGlobal(name, global);
  databases = browserDatabases()!;
  database = await databases.open("disk", { create: true });
  await database.change(new Map([[1, value(1)]]), { durable: true });
});

afterEach(() => {
  database.close();
  vi.unstubAllGlobals();
});

const ways: Record<string, () => void> = {
  "closed by the browser": () => model.connection.end(),
  "closed without an event": () => (model.connection.closed = true),
  "every transaction aborts with UnknownError": () => (model.connection.aborting = true),
  "every transaction aborts without a reason": () => {
    model.connection.aborting = true;
    model.connection.abortsWith = null;
  },
  "transaction() throws UnknownError": () => (model.connection.throws = lostConnection()),
  "aborts, then is closed": () => {
    const lost = model.connection;
    lost.aborting = true;
    setTimeout(() => lost.end(), 2);
  },
};

describe.each(Object.entries(ways))("a connection that is lost: %s", (_way, lose) => {
  test("changes and reads go on over a new one", async () => {
    lose();
    await database.change(new Map([[2, value(2)]]), relaxed);
    expect(await database.read(0, 10)).toEqual(
      new Map([
        [1, value(1)],
        [2, value(2)],
      ]),
    );
    expect(model.connections).toHaveLength(2);
  });

  test("many requests at once share the new one", async () => {
    lose();
    await Promise.all([2, 3, 4].map((key) => database.change(new Map([[key, value(key)]]), relaxed)));
    expect(await database.keys()).toEqual([1, 2, 3, 4]);
    expect(model.connections).toHaveLength(2);
  });
});

test("a durable change is not made again by itself, since its failure may mean more; the next request connects anew", async () => {
  model.connection.aborting = true;
  await expect(database.change(new Map([[2, value(2)]]), { durable: true })).rejects.toMatchObject({
    code: "EIO",
  });
  await database.change(new Map([[3, value(3)]]), { durable: true });
  expect(await database.keys()).toEqual([1, 3]);
});

test("a new connection that is lost, too, is an error, and is tried again by the next request", async () => {
  model.connection.aborting = true;
  const { open } = model;
  model.open = function (name) {
    const request = open.call(this, name);
    request.addEventListener("success", () => (this.connection.aborting = true));
    return request;
  };
  await expect(database.change(new Map([[2, value(2)]]), relaxed)).rejects.toMatchObject({ code: "EIO" });
  model.open = open;
  await database.change(new Map([[2, value(2)]]), relaxed);
  expect(await database.keys()).toEqual([1, 2]);
});

test("a full disk is told as it is, over the same connection", async () => {
  model.connection.aborting = true;
  model.connection.abortsWith = new DOMException("full", "QuotaExceededError");
  await expect(database.change(new Map([[2, value(2)]]), relaxed)).rejects.toMatchObject({ code: "ENOSPC" });
  expect(model.connections).toHaveLength(1);
});

test("a database that was cleared away is told, and not made anew", async () => {
  model.clear();
  for (let turn = 0; turn < 2; turn++)
    await expect(database.read(0, 10)).rejects.toThrow("the browser has cleared the site's data");
  await expect(databases.open("disk")).rejects.toMatchObject({ code: "ENOENT" });
});
