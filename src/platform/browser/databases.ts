/**
 * IndexedDB as numbered values: one database for each disk, in it one store whose keys are numbers. A connection that was
 * lost (browsers close it by themselves, Safari's ends with its server) is opened again: by the request that finds it lost,
 * which is made once more, or by the next one where that would be a lie. Source: W3C Indexed Database 3.0.
 *
 * Invariants: a durable change is never made again by itself, since its failure may mean that earlier ones are lost; a
 * database that is not there any more is told as EIO and never made anew.
 */
import { BlockError } from "../../base/errors.ts";
import type { BlockDatabase, HostDatabases } from "../../base/host.ts";
import { lock, mapped } from "./exceptions.ts";

const STORE = "blocks";
/** What the names of our databases begin with. */
export const PREFIX = "blockwright:";

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

/** What a failed request says of its connection. An abort without a reason is the browser's own: it closed the connection. */
function tellsLoss(error: unknown): boolean {
  const cause = error instanceof BlockError ? error.cause : error;
  if (cause === null) return true;
  const name = cause instanceof DOMException ? cause.name : "";
  return ["UnknownError", "AbortError", "InvalidStateError"].includes(name);
}

/** Sets or removes values within a transaction, and waits for its end. */
async function put(
  transaction: IDBTransaction,
  values: ReadonlyMap<number, Uint8Array | null>,
): Promise<void> {
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

class Database implements BlockDatabase {
  readonly #name: string;
  readonly #unlock: () => void;
  /** Undefined: it was lost. */
  #db: IDBDatabase | undefined;
  #connecting: Promise<IDBDatabase> | undefined;

  constructor(name: string, db: IDBDatabase, unlock: () => void) {
    this.#name = name;
    this.#unlock = unlock;
    this.#use(db);
  }

  read(first: number, end: number): Promise<Map<number, Uint8Array>> {
    return this.#within({ mode: "readonly", again: true }, async (transaction) => {
      const store = transaction.objectStore(STORE);
      const range = IDBKeyRange.bound(first, end, false, true);
      const [keys, values] = await Promise.all([
        resultOf(store.getAllKeys(range)),
        resultOf(store.getAll(range)),
      ]);
      return new Map(keys.map((key, i) => [key as number, values[i] as Uint8Array]));
    });
  }

  keys(): Promise<number[]> {
    return this.#within({ mode: "readonly", again: true }, async (transaction) => {
      return (await resultOf(transaction.objectStore(STORE).getAllKeys())) as number[];
    });
  }

  change(values: ReadonlyMap<number, Uint8Array | null>, { durable }: { durable: boolean }): Promise<void> {
    return this.#within({ mode: "readwrite", durable, again: !durable }, (transaction) =>
      put(transaction, values),
    );
  }

  close(): void {
    this.#db?.close();
    this.#unlock();
  }

  /** Runs `body` in a transaction; `again`: once more on a new connection if the old one turns out to be lost. */
  async #within<T>(
    how: { mode: IDBTransactionMode; durable?: boolean; again: boolean },
    body: (transaction: IDBTransaction) => Promise<T>,
  ): Promise<T> {
    const db = this.#db ?? (await this.#connect());
    try {
      const durability = how.durable ? "strict" : "relaxed";
      return await body(db.transaction(STORE, how.mode, how.mode === "readwrite" ? { durability } : {}));
    } catch (error) {
      if (!tellsLoss(error)) throw mapped("database", error);
      this.#forget(db);
      if (!how.again) throw mapped("database", error);
    }
    return this.#within({ ...how, again: false }, body);
  }

  #use(db: IDBDatabase): void {
    this.#db = db;
    db.addEventListener("close", () => this.#forget(db));
  }

  /** The connection is lost, unless there is a newer one already. */
  #forget(db: IDBDatabase): void {
    if (this.#db !== db) return;
    this.#db = undefined;
    db.close();
  }

  #connect(): Promise<IDBDatabase> {
    return (this.#connecting ??= this.#connectAnew().finally(() => (this.#connecting = undefined)));
  }

  async #connectAnew(): Promise<IDBDatabase> {
    const again = await connect(this.#name, false);
    if (!again) throw goneError();
    this.#use(again.db);
    return again.db;
  }
}

function goneError(): BlockError {
  const message = "the disk's database is gone: the browser has cleared the site's data";
  return new BlockError({ code: "EIO", op: "database", message });
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

/** How many values a database has; undefined: it is gone, or none of ours. */
export async function countBlocks(name: string): Promise<number | undefined> {
  const opened = await connect(name, false);
  if (!opened) return undefined;
  const { db } = opened;
  try {
    if (!db.objectStoreNames.contains(STORE)) return undefined;
    return await resultOf(db.transaction(STORE).objectStore(STORE).count());
  } finally {
    db.close();
  }
}

/** IndexedDB, where there is one. */
export function browserDatabases(): HostDatabases | undefined {
  const usable = typeof indexedDB !== "undefined" && typeof navigator !== "undefined" && "locks" in navigator;
  return usable ? { open, remove } : undefined;
}
