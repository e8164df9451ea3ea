/**
 * What is done with objects of a store: put, asked about, removed, listed.
 */
import { BlockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import { settleAll } from "../../../../base/signals.ts";
import { discardBody } from "../body.ts";
import { bodyText, elements, storeError } from "./answers.ts";
import type { Condition, Store } from "./client.ts";
import { type ObjectPlace, urlOf } from "./names.ts";

/**
 * Puts something on a condition, by `send` with the condition's headers. A store that is told to have no conditions is asked before
 * what is there. ESTALE where the condition is not met.
 */
export async function onCondition<T>(
  { store, place, condition: { over } }: { store: Store; place: ObjectPlace; condition: Condition },
  send: (headers: Record<string, string>) => Promise<T>,
): Promise<T> {
  if (over === "anything") return send({});
  if (!store.hasConditions) {
    const there = await statObject(store, place);
    if (over === "nothing" ? !there : there?.etag === over.etag) return send({});
    throw storeError({ what: urlOf(place), status: 412, code: "" });
  }
  try {
    return await send(over === "nothing" ? { "If-None-Match": "*" } : { "If-Match": over.etag });
  } catch (error) {
    if (errnoOf(error) !== "ENOTSUP") throw error;
    const why = "the store has no conditional writes; 'conditional-writes=off' keeps no two writers apart";
    throw new BlockError({ code: "ENOTSUP", op: "s3", message: `${messageOf(error)}: ${why}`, cause: error });
  }
}

/** Stores an object; answers its ETag. ESTALE where the condition is not met. */
export function putObject(
  store: Store,
  place: ObjectPlace,
  put: { body: Uint8Array<ArrayBuffer>; condition: Condition; type?: string },
): Promise<string> {
  const { body, condition } = put;
  const type: Record<string, string> = put.type === undefined ? {} : { "Content-Type": put.type };
  return onCondition({ store, place, condition }, (met) =>
    store.request({ method: "PUT", place, headers: { ...met, ...type }, body }, async (response) => {
      await bodyText(response);
      const etag = response.headers.get("etag");
      if (etag !== null) return etag;
      const message = `${urlOf(place)}: the store tells no ETag of what it has stored`;
      throw new BlockError({ code: "EIO", op: "s3", message });
    }),
  );
}

/** What is told of an object without its content. */
export interface ObjectFacts {
  readonly etag: string | null;
  readonly type: string | null;
  readonly draft: string | null;
}

/** The metadata that says which draft an object was made of. */
export const DRAFT_HEADER = "x-amz-meta-blockwright-draft";

/** Asks for an object's head; undefined where there is none. */
export function statObject(store: Store, place: ObjectPlace): Promise<ObjectFacts | undefined> {
  return store.request({ method: "HEAD", place, fine: [200, 404] }, async (response) => {
    await discardBody(response);
    if (response.status === 404) return undefined;
    const header = (name: string): string | null => response.headers.get(name);
    return { etag: header("etag"), type: header("content-type"), draft: header(DRAFT_HEADER) };
  });
}

/** Removes an object, if it is there. */
export function deleteObject(store: Store, place: ObjectPlace): Promise<void> {
  return store.request({ method: "DELETE", place, fine: [200, 204, 404] }, async (response) => {
    await bodyText(response);
  });
}

/** An object as a listing tells of it. */
export interface ListedObject {
  readonly key: string;
  readonly bytes: number;
  /** By the store's clock, milliseconds since 1970. */
  readonly changedMs: number;
}

/** The objects of a bucket whose keys begin so, in pages. */
export async function* listPages(
  store: Store,
  { bucket, key: prefix }: ObjectPlace,
): AsyncGenerator<ListedObject[]> {
  let token: string | undefined;
  do {
    const query = {
      ...{ "list-type": "2", prefix },
      ...(token === undefined ? {} : { "continuation-token": token }),
    };
    const xml = await store.request({ method: "GET", place: { bucket, key: "" }, query }, (response) =>
      bodyText(response, 4 * 2 ** 20),
    );
    yield listed(xml);
    [token] = elements(xml, "IsTruncated")[0] === "true" ? elements(xml, "NextContinuationToken") : [];
  } while (token !== undefined);
}

function listed(xml: string): ListedObject[] {
  return [...xml.matchAll(/<Contents(?:\s[^>]*)?>(.*?)<\/Contents>/gs)].map(([, about = ""]) => {
    const one = (name: string): string => elements(about, name)[0] ?? "";
    return { key: one("Key"), bytes: Number(one("Size")), changedMs: Date.parse(one("LastModified")) };
  });
}

/** All keys of a bucket that begin so. */
export async function listKeys(store: Store, place: ObjectPlace): Promise<string[]> {
  const keys: string[] = [];
  for await (const page of listPages(store, place)) keys.push(...page.map(({ key }) => key));
  return keys;
}

/** Requests at once. */
const AT_ONCE = 8;

/** Calls for each, a few at a time. */
export async function atOnce<T>(
  items: readonly T[],
  body: (item: T, i: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const i = next++;
      await body(items[i]!, i);
    }
  };
  await settleAll(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
}
