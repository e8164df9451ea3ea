// The cluster store against a model: contents, room taken, full disks, and the power cut at every write, flush and change
// of length. Runs in Node and in browsers; the real file system is tried by test/browser/opfs.test.ts.
import { describe, expect, test } from "vitest";
import { BlockError } from "../../../../src/base/errors.ts";
import type { PrivateDirectory } from "../../../../src/base/host.ts";
import { ClusterStore } from "../../../../src/drivers/protocol/opfs/store.ts";
import { randomness } from "../../../support/random.ts";
import { KiB, MiB, same } from "../../support/graph.ts";
import { ModelStorage } from "../../support/private-directory.ts";

const CLUSTER = 4 * KiB;
const PATH = "disk";

async function create(storage: ModelStorage, size: number, clusterBytes = CLUSTER): Promise<void> {
  const directory = await storage.open(PATH, { create: true });
  await ClusterStore.create(directory, { size, clusterBytes, salt: 7 });
  directory.close();
}

async function reopen(storage: ModelStorage): Promise<{ store: ClusterStore; directory: PrivateDirectory }> {
  const directory = await storage.open(PATH);
  return { store: await ClusterStore.open(directory, { write: true }), directory };
}

async function made(size: number): Promise<{ storage: ModelStorage; store: ClusterStore }> {
  const storage = new ModelStorage();
  await create(storage, size);
  return { storage, store: (await reopen(storage)).store };
}

function read(store: ClusterStore, offset: number, bytes: number): Uint8Array {
  const buffer = new Uint8Array(bytes).fill(0xee);
  store.read(offset, buffer);
  return buffer;
}

function filled(bytes: number, value: number): Uint8Array {
  return new Uint8Array(bytes).fill(value);
}

describe("contents", () => {
  test("under random changes they are the model's, before and after each reopening", async () => {
    const random = randomness(42);
    const storage = new ModelStorage();
    await create(storage, 300 * KiB);
    let model = new Uint8Array(300 * KiB);
    for (let round = 0; round < 12; round++) {
      const { store, directory } = await reopen(storage);
      for (let step = 0; step < 40; step++) {
        const offset = random(model.byteLength - 1);
        const bytes = 1 + random(Math.min(40 * KiB, model.byteLength - offset));
        switch (random(6)) {
          case 0:
            store.zero(offset, bytes, { free: random(2) === 0 });
            model.fill(0, offset, offset + bytes);
            break;
          case 1: {
            const size = 200 * KiB + random(200 * KiB);
            store.truncate(size);
            const changed = new Uint8Array(size);
            changed.set(model.subarray(0, size));
            model = changed;
            break;
          }
          case 2:
            store.commit();
            break;
          default: {
            const data = filled(bytes, 1 + random(255));
            store.write(offset, data);
            model.set(data, offset);
          }
        }
      }
      expect(store.size).toBe(model.byteLength);
      expect(same(read(store, 0, model.byteLength), model)).toBe(true);
      store.commit();
      store.close();
      directory.close();
    }
  });

  test("a write beyond the end extends the disk", async () => {
    const { store } = await made(0);
    store.write(10_000, filled(100, 5));
    expect(store.size).toBe(10_100);
    expect(same(read(store, 0, 10_000), new Uint8Array(10_000))).toBe(true);
  });

  test("status tells what is held, in runs", async () => {
    const { store } = await made(2 ** 40);
    store.write(2 ** 39, filled(3 * CLUSTER, 1));
    expect(store.status(0, 2 ** 40)).toEqual({ held: false, bytes: 2 ** 39 });
    expect(store.status(2 ** 39 + 1, 2 ** 30)).toEqual({ held: true, bytes: 3 * CLUSTER - 1 });
  });
});

describe("room", () => {
  test("a disk of any size takes what was written to it, and gives it back", async () => {
    const { storage, store } = await made(2 ** 43);
    const empty = storage.used;
    for (let i = 0; i < 100; i++) store.write(i * 2 ** 32, filled(CLUSTER, i));
    store.commit();
    expect(storage.used - empty).toBeLessThan(103 * CLUSTER);
    store.zero(0, 2 ** 43, { free: true });
    store.commit();
    expect(storage.content(PATH, "data").byteLength).toBe(0);
  });

  test("freed slots are taken again, after their freeing is durable, and show no old data", async () => {
    const { storage, store } = await made(MiB);
    store.write(0, filled(8 * CLUSTER, 9));
    store.commit();
    store.zero(2 * CLUSTER, CLUSTER, { free: true });
    store.write(20 * CLUSTER, filled(10, 1));
    expect(storage.content(PATH, "data").byteLength).toBe(8 * CLUSTER + 10);
    store.commit();
    store.write(21 * CLUSTER + 5, filled(10, 2));
    expect(storage.content(PATH, "data").byteLength).toBe(8 * CLUSTER + 10);
    expect(same(read(store, 21 * CLUSTER, 5), new Uint8Array(5))).toBe(true);
    expect(same(read(store, 21 * CLUSTER + 15, CLUSTER - 15), new Uint8Array(CLUSTER - 15))).toBe(true);
  });

  test.each([
    ["throws", undefined],
    ["falls short", 100],
    ["writes nothing", 0],
    ["returns an odd number", 4_294_967_288],
    ["returns a negative number", -8],
  ])("a full disk that %s is ENOSPC, and changes nothing but the range", async (_what, oddCount) => {
    const { storage, store } = await made(MiB);
    store.write(0, filled(4 * CLUSTER, 3));
    store.commit();
    Object.assign(storage, { quota: storage.used, oddCount });
    expect(() => store.write(10 * CLUSTER, filled(2 * CLUSTER, 4))).toThrow(
      expect.objectContaining({ code: "ENOSPC" }) as Error,
    );
    store.write(CLUSTER, filled(100, 5));
    store.commit();
    expect(store.status(10 * CLUSTER, CLUSTER).held).toBe(false);
    expect(read(store, CLUSTER + 99, 2)).toEqual(Uint8Array.of(5, 3));
    storage.quota = Number.POSITIVE_INFINITY;
    store.write(10 * CLUSTER + 1000, filled(10, 4));
    expect(same(read(store, 10 * CLUSTER, 1000), new Uint8Array(1000))).toBe(true);
    expect(same(read(store, 10 * CLUSTER + 1010, 1000), new Uint8Array(1000))).toBe(true);
  });
});

test("at every fill level of a full disk, what was accepted can be made durable", async () => {
  for (let room = 0; room < 6 * CLUSTER; room += 1000) {
    const { storage, store } = await made(64 * MiB);
    for (let cluster = 0; cluster < 510; cluster++) store.write(cluster * CLUSTER, filled(CLUSTER, 1));
    store.commit();
    storage.quota = storage.used + room;
    const accepted: number[] = [];
    for (let cluster = 600; cluster < 610; cluster++) {
      try {
        store.write(cluster * CLUSTER, filled(CLUSTER, 2));
        accepted.push(cluster);
      } catch (error) {
        expect(error).toMatchObject({ code: "ENOSPC" });
      }
    }
    store.commit();
    store.close();
    const after = await reopen(storage.cut(() => false));
    for (let cluster = 600; cluster < 610; cluster++)
      expect(after.store.status(cluster * CLUSTER, 1).held).toBe(accepted.includes(cluster));
  }
});

describe("after a failed flush, which forgets what it should have made durable", () => {
  /** A store with durable content, and changes of every kind that no flush has covered. */
  async function changed(): Promise<{
    storage: ModelStorage;
    store: ClusterStore;
    directory: PrivateDirectory;
    content: Uint8Array;
  }> {
    const storage = new ModelStorage();
    await create(storage, 40 * CLUSTER);
    const { store, directory } = await reopen(storage);
    store.write(0, filled(8 * CLUSTER, 1));
    store.commit();
    store.write(3 * CLUSTER + 512, filled(1024, 2));
    store.write(20 * CLUSTER - 512, filled(3 * CLUSTER, 3));
    store.zero(5 * CLUSTER, CLUSTER, { free: true });
    store.write(41 * CLUSTER, filled(512, 4));
    return { storage, store, directory, content: read(store, 0, store.size) };
  }

  test.each(["data", "map"])(
    "of the %s file all fail, and recovery makes everything durable",
    async (file) => {
      const { storage, store, directory, content } = await changed();
      storage.failingFlush = file;
      expect(() => store.commit()).toThrow("Input/output error");
      expect(() => store.commit()).toThrow("Input/output error");
      store.write(30 * CLUSTER, filled(512, 5));
      content.fill(5, 30 * CLUSTER, 30 * CLUSTER + 512);
      expect(await store.recover(directory)).toBe(true);
      expect(same(read(store, 0, store.size), content)).toBe(true);
      const { store: after } = await reopen(storage.cut(() => false));
      expect(after.size).toBe(store.size);
      expect(same(read(after, 0, after.size), content)).toBe(true);
      expect(await store.recover(directory)).toBe(false);
      store.commit();
    },
  );

  test("a recovery whose flush fails leaves it failed, and can be tried again", async () => {
    const { storage, store, directory, content } = await changed();
    storage.failingFlush = "data";
    expect(() => store.commit()).toThrow("Input/output error");
    storage.failingFlush = "data";
    await expect(store.recover(directory)).rejects.toThrow("Input/output error");
    expect(() => store.commit()).toThrow("Input/output error");
    expect(await store.recover(directory)).toBe(true);
    const { store: after } = await reopen(storage.cut(() => false));
    expect(same(read(after, 0, after.size), content)).toBe(true);
  });
});

describe("power cuts", () => {
  /** What may be read of each sector: what was durable, or anything that was written since. */
  class Allowed {
    readonly #values = new Map<number, Set<number>>();

    note(offset: number, bytes: number, value: number): void {
      for (let at = offset / 512; at < (offset + bytes) / 512; at++) {
        const values = this.#values.get(at) ?? new Set([0]);
        this.#values.set(at, values.add(value));
      }
    }

    settled(content: Uint8Array): void {
      for (const at of this.#values.keys()) this.#values.set(at, new Set([content[at * 512] ?? 0]));
    }

    fault(content: Uint8Array): string | undefined {
      for (let at = 0; at < content.byteLength / 512; at++) {
        const sector = content.subarray(at * 512, at * 512 + 512);
        const values = this.#values.get(at) ?? new Set([0]);
        if (!sector.every((byte) => byte === sector[0])) return `sector ${at} is torn`;
        if (!values.has(sector[0]!)) return `sector ${at} holds ${sector[0]}, allowed: ${[...values].join()}`;
      }
      return undefined;
    }
  }

  class PowerCut extends Error {}
  const SIZE = 64 * CLUSTER;

  /** Changes with commits; throws PowerCut at the given call of the files. */
  async function story(storage: ModelStorage, seed: number, allowed: Allowed): Promise<void> {
    const random = randomness(seed);
    const { store } = await reopen(storage);
    const model = new Uint8Array(SIZE);
    for (let step = 1; step <= 60; step++) {
      const offset = 512 * random(SIZE / 512 - 1);
      const bytes = 512 * (1 + random(Math.min(40, (SIZE - offset) / 512)));
      const kind = random(5);
      if (kind === 0) {
        allowed.note(offset, bytes, 0);
        store.zero(offset, bytes, { free: true });
        model.fill(0, offset, offset + bytes);
      } else if (kind === 1) {
        store.commit();
        allowed.settled(model);
      } else {
        allowed.note(offset, bytes, step);
        store.write(offset, filled(bytes, step));
        model.fill(step, offset, offset + bytes);
      }
    }
  }

  test("at any call: no torn sector, nothing committed is lost, nothing old shows up", async () => {
    let cuts = 0;
    for (let seed = 1; seed <= 40; seed++) {
      const random = randomness(seed * 1000);
      const storage = new ModelStorage();
      await create(storage, SIZE);
      const allowed = new Allowed();
      let left = 1 + random(150);
      storage.before = () => {
        left -= 1;
        if (left === 0) throw new PowerCut();
      };
      await story(storage, seed, allowed).catch((error: unknown) => {
        expect(error).toBeInstanceOf(PowerCut);
        cuts += 1;
      });
      const chance = random(101);
      const after = storage.cut(() => random(100) < chance);
      const { store } = await reopen(after);
      const content = read(store, 0, SIZE);
      expect(allowed.fault(content)).toBeUndefined();
      // Writing on works, and what a crash left in free slots does not show.
      store.write(0, filled(SIZE, 0xff));
      store.zero(0, SIZE, { free: true });
      store.commit();
      expect(same(read(store, 0, SIZE), new Uint8Array(SIZE))).toBe(true);
    }
    expect(cuts).toBeGreaterThan(20);
  });

  test("of a change of length the old or the new one is left", async () => {
    for (let survivors = 0; survivors < 8; survivors++) {
      const { storage, store } = await made(10 * CLUSTER);
      store.write(0, filled(10 * CLUSTER, 1));
      store.commit();
      store.truncate(3 * CLUSTER + 5);
      let call = 0;
      storage.before = (op) => {
        if (op === "flush" && ++call === 2) throw new PowerCut();
      };
      expect(() => store.commit()).toThrow(PowerCut);
      let sector = 0;
      const after = await reopen(storage.cut(() => (survivors >> (sector++ % 3)) % 2 === 1));
      expect([3 * CLUSTER + 5, 10 * CLUSTER]).toContain(after.store.size);
      after.store.truncate(20 * CLUSTER);
      expect(same(read(after.store, 10 * CLUSTER, CLUSTER), new Uint8Array(CLUSTER))).toBe(true);
    }
  });
});

describe("damage", () => {
  test("no store, a damaged header and a damaged entry are told", async () => {
    const storage = new ModelStorage();
    await create(storage, MiB);
    const { store, directory } = await reopen(storage);
    store.write(0, filled(CLUSTER, 1));
    store.commit();
    directory.close();
    const map = storage.content(PATH, "map");
    map[8192] = 9;
    await expect(reopen(storage)).rejects.toThrow("The store's map is damaged at slot 0");
    map.fill(0, 0, 8192);
    const other = storage.cut(() => true);
    other.content(PATH, "map").fill(0, 0, 8192);
    await expect(reopen(other)).rejects.toThrow("The store has no valid header");
  });

  test("cluster sizes that are none, and disks too large, are refused", async () => {
    for (const clusterBytes of [0, 512, 5000, 4 * MiB])
      await expect(create(new ModelStorage(), MiB, clusterBytes)).rejects.toThrow("Cluster size must be");
    await expect(create(new ModelStorage(), 2 ** 53 - 2 ** 34)).rejects.toBeInstanceOf(BlockError);
  });
});
