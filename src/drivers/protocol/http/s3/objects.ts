/**
 * What is done with objects of a store: put, asked about, removed, listed.
 */
import { BlockError } from "../../../../base/errors.ts";
import { discardBody } from "../body.ts";
import { bodyText, elements } from "./answers.ts";
import { type Condition, conditionHeaders, type Store } from "./client.ts";
import { type ObjectPlace, urlOf } from "./names.ts";

/** Stores an object; answers its ETag. ESTALE where the condition is not met. */
export function putObject(
  store: Store,
  place: ObjectPlace,
  put: { body: Uint8Array<ArrayBuffer>; condition: Condition; type?: string },
): Promise<string> {
  const type: Record<string, string> = put.type === undefined ? {} : { "Content-Type": put.type };
  const headers = { ...conditionHeaders(put.condition), ...type };
  return store.request({ method: "PUT", place, headers, body: put.body }, async (response) => {
    await bodyText(response);
    const etag = response.headers.get("etag");
    if (etag !== null) return etag;
    const message = `${urlOf(place)}: the store tells no ETag of what it has stored`;
    throw new BlockError({ code: "EIO", op: "s3", message });
  });
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

/** All keys of a bucket that begin so. */
export async function listKeys(store: Store, { bucket, key: prefix }: ObjectPlace): Promise<string[]> {
  const keys: string[] = [];
  let token: string | undefined;
  do {
    const query = {
      "list-type": "2",
      prefix,
      ...(token === undefined ? {} : { "continuation-token": token }),
    };
    const xml = await store.request({ method: "GET", place: { bucket, key: "" }, query }, (response) =>
      bodyText(response, 4 * 2 ** 20),
    );
    keys.push(...elements(xml, "Key"));
    [token] = elements(xml, "IsTruncated")[0] === "true" ? elements(xml, "NextContinuationToken") : [];
  } while (token !== undefined);
  return keys;
}
