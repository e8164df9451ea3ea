/**
 * IndexedDB as numbered values: one database for each disk, in it one store whose keys are numbers. A connection that the
 * browser has closed by itself is opened again. Source: W3C Indexed Database 3.0.
 */
import { BlockError } from "../../base/errors.ts";
import type { BlockDatabase, HostDatabases } from "../../base/host.ts";
import { lock, mapped } from "./exceptions.ts";

const STORE = "blocks";
const PREFIX = "blockwright:";

/** A request's result. */
export function resultOf<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.addEventListener("success", () => resolve(request.result));
    request.addEventListener("error", () => reject(mapped("database", request.error)));
  });
}

/** The end of a transaction. A full disk shows as its abort, not as an error of a request. */
export function endOf(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.addEventListener("complete", () => resolve());
    transaction.addEventListener("abort", () => reject(mapped("database", transaction.error)));
  });
}

/** Opens a database; undefined if it is not there and shall not be made. */
async function connect(
  name: string,
  create: boolean,
): Promise<{ db: IDBDatabase; made: boolean } | undefined> {
  const request = indexedDB.open(PREFIX + name, 1);
  let made = false;
  let refused = false;
  request.addEventListener("upgradeneeded", () => {
    made = true;
    if (create) request.result.createObjectStore(STORE);
    else {
      refused = true;
      request.transaction!.abort();
    }
  });
  try {
    return { db: await resultOf(request), made };
  } catch (error) {
    if (refused) return undefined;
    throw error;
  }
}

class Database implements BlockDatabase {
  readonly #name: string;
  readonly #unlock: () => void;
  #db: IDBDatabase;

  constructor(name: string, db: IDBDatabase, unlock: () => void) {
    this.#name = name;
    this.#db = db;
    this.#unlock = unlock;
  }

  async read(first: number, end: number): Promise<Map<number, Uint8Array>> {
    const transaction = await this.#begin("readonly", {});
    const store = transaction.objectStore(STORE);
    const range = IDBKeyRange.bound(first, end, false, true);
    const [keys, values] = await Promise.all([
      resultOf(store.getAllKeys(range)),
      resultOf(store.getAll(range)),
    ]);
    return new Map(keys.map((key, i) => [key as number, values[i] as Uint8Array]));
  }

  async keys(): Promise<number[]> {
    const transaction = await this.#begin("readonly", {});
    return (await resultOf(transaction.objectStore(STORE).getAllKeys())) as number[];
  }

  async change(
    values: ReadonlyMap<number, Uint8Array | null>,
    { durable }: { durable: boolean },
  ): Promise<void> {
    const transaction = await this.#begin("readwrite", { durability: durable ? "strict" : "relaxed" });
    const end = endOf(transaction);
    const store = transaction.objectStore(STORE);
    try {
      for (const [key, value] of values) {
        if (value) store.put(value, key);
        else store.delete(key);
      }
      transaction.commit();
    } catch (error) {
      end.catch(() => undefined);
      throw mapped("database", error);
    }
    await end;
  }

  close(): void {
    this.#db.close();
    this.#unlock();
  }

  async #begin(mode: IDBTransactionMode, options: IDBTransactionOptions): Promise<IDBTransaction> {
    try {
      return this.#db.transaction(STORE, mode, options);
    } catch (error) {
      if (mapped("database", error).code !== "EBADF") throw mapped("database", error);
    }
    const again = await connect(this.#name, false);
    if (!again) throw new BlockError({ code: "EIO", op: "database", message: "the database is gone" });
    this.#db = again.db;
    return this.#db.transaction(STORE, mode, options);
  }
}

async function open(
  name: string,
  { create = false, replace = false }: { create?: boolean; replace?: boolean } = {},
): Promise<BlockDatabase> {
  const unlock = await lock(`indexeddb:${name}`);
  try {
    if (create && replace) await resultOf(indexedDB.deleteDatabase(PREFIX + name));
    const opened = await connect(name, create);
    if (!opened) throw new BlockError({ code: "ENOENT", op: "open" });
    if (create && !opened.made) {
      opened.db.close();
      throw new BlockError({ code: "EEXIST", op: "create" });
    }
    return new Database(name, opened.db, unlock);
  } catch (error) {
    unlock();
    throw mapped("open", error);
  }
}

async function remove(name: string): Promise<void> {
  const unlock = await lock(`indexeddb:${name}`);
  try {
    const opened = await connect(name, false);
    if (!opened) throw new BlockError({ code: "ENOENT", op: "remove" });
    opened.db.close();
    await resultOf(indexedDB.deleteDatabase(PREFIX + name));
  } finally {
    unlock();
  }
}

/** IndexedDB, where there is one. */
export function browserDatabases(): HostDatabases | undefined {
  const usable = typeof indexedDB !== "undefined" && typeof navigator !== "undefined" && "locks" in navigator;
  return usable ? { open, remove } : undefined;
}
