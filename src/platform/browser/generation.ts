/**
 * The generation of a disk's content in IndexedDB, so that the saved states of an emulator are good over reloads: a small
 * database of the origin's, with one number for each disk. Pages and workers. Source: W3C Indexed Database 3.0.
 *
 * Invariant: a number that was saved survives a power cut (durability `strict`).
 */
import { endOf, resultOf } from "./databases.ts";
import { mapped } from "./exceptions.ts";

const NAME = "blockwright-generations";
const STORE = "generations";

/** A GenerationKeeper that can also forget. */
export interface StoredGeneration {
  load(): Promise<number | undefined>;
  save(generation: number): Promise<void>;
  /**
   * To be called where the disk is made anew or its content changes without its guest (a snapshot is applied, the overlay
   * discarded): states that were saved before are refused from then on.
   */
  forget(): Promise<void>;
}

async function connect(): Promise<IDBDatabase> {
  const request = indexedDB.open(NAME, 1);
  request.addEventListener("upgradeneeded", () => request.result.createObjectStore(STORE));
  return resultOf(request);
}

/** Runs `body` on the numbers. Errors: ENOSPC, EIO, ENOTSUP. */
async function within<T>(
  mode: IDBTransactionMode,
  body: (store: IDBObjectStore) => IDBRequest<T>,
): Promise<T> {
  try {
    const database = await connect();
    try {
      const transaction = database.transaction(STORE, mode, { durability: "strict" });
      const [value] = await Promise.all([resultOf(body(transaction.objectStore(STORE))), endOf(transaction)]);
      return value;
    } finally {
      database.close();
    }
  } catch (error) {
    throw mapped("generation", error);
  }
}

/** Keeps the generation of the disk `name`, which is any name that its page gives no other disk. */
export function keepGeneration(name: string): StoredGeneration {
  return {
    async load() {
      const kept: unknown = await within("readonly", (store) => store.get(name));
      return typeof kept === "number" ? kept : undefined;
    },
    async save(generation) {
      await within("readwrite", (store) => store.put(generation, name));
    },
    async forget() {
      await within("readwrite", (store) => store.delete(name));
    },
  };
}
