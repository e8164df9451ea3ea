/**
 * Objects below a key of a bucket, as whatever is built on objects has them (base/objects.ts): a repository of backups.
 *
 * Invariants: an object that was put is whole, for a store shows no part of one; of two that make the same one, one is told so, as
 * far as the store knows conditions (`If-None-Match`). Who asked again after an answer that was lost and finds its own bytes has made it.
 */
import { sameBytes } from "../../../../base/bytes.ts";
import { blockError, BlockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import { MiB } from "../../../../base/limits.ts";
import type { ObjectInfo, ObjectPlace } from "../../../../base/objects.ts";
import type { GraphView, NodeSpec } from "../../../../block/model/contract.ts";
import { discardBody } from "../body.ts";
import { Store } from "./client.ts";
import { collected } from "./heads.ts";
import type { ObjectPlace as S3Place } from "./names.ts";
import { deleteObject, listPages, putObject } from "./objects.ts";
import { s3Options } from "./options.ts";

/** Most bytes of an object that is read without saying how many. */
const MOST_BYTES = 64 * MiB;

/** The objects below a key. */
export function objectsBelow(graph: GraphView, file: NodeSpec): ObjectPlace {
  const options = s3Options(file, graph);
  return new S3Objects(new Store(graph.host, options), options.place);
}

/** Objects in a bucket. Errors are the store's: ENOENT, EACCES, ENOSPC, EIO after the last try. */
class S3Objects implements ObjectPlace {
  readonly #store: Store;
  readonly #root: S3Place;

  constructor(store: Store, root: S3Place) {
    this.#store = store;
    this.#root = root;
  }

  get isExclusive(): boolean {
    return this.#store.hasConditions;
  }

  async putIfAbsent(name: string, bytes: Uint8Array): Promise<boolean> {
    try {
      await this.#put(name, bytes, "nothing");
      return true;
    } catch (error) {
      if (errnoOf(error) !== "ESTALE") throw error;
      const there = await this.get(name).catch((why: unknown) => {
        // The store refuses what is absent: that is what there is to tell.
        throw errnoOf(why) === "ENOENT" ? error : why;
      });
      return sameBytes(there, bytes);
    }
  }

  put(name: string, bytes: Uint8Array): Promise<void> {
    return this.#put(name, bytes, "anything");
  }

  get(name: string, range?: { offset: number; bytes: number }): Promise<Uint8Array> {
    const headers = range && { Range: `bytes=${range.offset}-${range.offset + range.bytes - 1}` };
    return this.#named(name, "get", async () => {
      if (range?.bytes === 0) return new Uint8Array();
      const request = { method: "GET", place: this.#place(name), fine: [200, 206, 416] } as const;
      return this.#store.request({ ...request, ...(headers && { headers }) }, async (response) => {
        if (response.status === 416) {
          await discardBody(response);
          return new Uint8Array();
        }
        if (range && response.status === 200)
          throw blockError("ENOTSUP", "get", "the store answers a request for a range with the whole object");
        return new Uint8Array(await collected(response.body, range?.bytes ?? MOST_BYTES));
      });
    });
  }

  async list(prefix: string): Promise<ObjectInfo[]> {
    const place = this.#place(prefix);
    const found: ObjectInfo[] = [];
    await this.#named(prefix, "list", async () => {
      for await (const page of listPages(this.#store, place))
        for (const { key, bytes, changedMs } of page) {
          const name = key.slice(place.key.length);
          if (name !== "" && !name.includes("/")) found.push({ name: `${prefix}${name}`, bytes, changedMs });
        }
    });
    return found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  async remove(name: string): Promise<void> {
    await this.#named(name, "remove", () => deleteObject(this.#store, this.#place(name)));
  }

  /** Whether there is nothing below the key. */
  async isEmpty(): Promise<boolean> {
    for await (const page of listPages(this.#store, this.#place(""))) return page.length === 0;
    return true;
  }

  /** What was begun and not ended has left nothing: an object is put by one request. */
  sweep(): Promise<void> {
    return Promise.resolve();
  }

  #place(name: string): S3Place {
    const { bucket, key } = this.#root;
    return { bucket, key: `${key.replace(/\/+$/, "")}/${name}` };
  }

  async #put(name: string, bytes: Uint8Array, over: "nothing" | "anything"): Promise<void> {
    const body = new Uint8Array(bytes);
    await this.#named(name, "put", () =>
      putObject(this.#store, this.#place(name), { body, condition: { over } }),
    );
  }

  /** Errors say which object it was. */
  async #named<T>(name: string, op: string, body: () => Promise<T>): Promise<T> {
    try {
      return await body();
    } catch (error) {
      throw new BlockError({
        code: errnoOf(error),
        op,
        message: `'${name}': ${messageOf(error)}`,
        cause: error,
      });
    }
  }
}
