/**
 * Publishing a draft: the store joins its chunks to one object, or copies them, and then the head appears.
 */
import { BlockError, blockError, errnoOf } from "../../../../base/errors.ts";
import { settleAll } from "../../../../base/signals.ts";
import type { GraphView } from "../../../../block/model/contract.ts";
import { bodyText, elements, storeError } from "./answers.ts";
import type { Condition, Store } from "./client.ts";
import { isHeadType, partPlace } from "./format.ts";
import { putHead, readHead } from "./heads.ts";
import { IndexMap } from "./index-map.ts";
import { encodedKey, type ObjectPlace, urlOf } from "./names.ts";
import { deleteObject, DRAFT_HEADER, listKeys, onCondition, putObject, statObject } from "./objects.ts";

/** Parts of an object, at most. */
const MOST_PARTS = 10_000;
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

/** What takes which place. */
export interface Publishing {
  readonly store: Store;
  readonly place: ObjectPlace;
  readonly draft: ObjectPlace;
  readonly condition: Condition;
  readonly graph: GraphView;
}

function lostRace(place: ObjectPlace, cause: unknown): BlockError {
  const message = `${urlOf(place)}: another writer has made or changed it meanwhile; it is as that one left it`;
  return new BlockError({ code: "ESTALE", op: "create", message, cause });
}

async function indexOf({ store, draft, graph }: Publishing): Promise<IndexMap> {
  const read = await readHead(store, draft);
  if (!read) throw blockError("ESTALE", "create", `${urlOf(draft)}: it is no draft any more`);
  return new IndexMap(store, draft, { read, host: graph.host });
}

/** Has the store copy an object, or its beginning. */
async function copied(
  store: Store,
  {
    from,
    to,
    query = {},
    headers = {},
  }: {
    from: ObjectPlace;
    to: ObjectPlace;
    query?: Record<string, string>;
    headers?: Record<string, string>;
  },
): Promise<string> {
  const source = { "x-amz-copy-source": `/${from.bucket}/${encodedKey(from.key)}`, ...headers };
  return store.request({ method: "PUT", place: to, query, headers: source }, async (response) => {
    const xml = await bodyText(response);
    const [etag] = elements(xml, "ETag");
    if (etag !== undefined) return etag;
    throw storeError({ what: urlOf(to), status: 503, code: elements(xml, "Code")[0] ?? "" });
  });
}

/** Whether the draft has its place already: the object says of which draft it is, a disk has the draft's head. */
export async function isPublished({ store, place, draft }: Publishing): Promise<boolean> {
  const there = await statObject(store, place);
  if (!there || !isHeadType(there.type)) return there?.draft === encodedKey(draft.key);
  const [disk, own] = [await readHead(store, place), await ifThere(readHead(store, draft))];
  return (
    disk !== undefined &&
    disk.head.writer === own?.head.writer &&
    disk.head.generation === own.head.generation
  );
}

function ifThere<T>(answer: Promise<T>): Promise<T | undefined> {
  return answer.catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  });
}

/** The draft's chunks become the disk's: copied by the store, and then the head. */
export async function publishDisk(made: Publishing): Promise<void> {
  const { store, place, draft, condition } = made;
  const read = await readHead(store, draft);
  if (!read) throw blockError("ESTALE", "create", `${urlOf(draft)}: it is no draft any more`);
  const prefix = partPlace(draft, "").key;
  const keys = await listKeys(store, { bucket: draft.bucket, key: prefix });
  await atOnce(keys, async (key) => {
    const to = partPlace(place, key.slice(prefix.length));
    await copied(store, { from: { bucket: draft.bucket, key }, to });
  });
  try {
    await putHead(store, place, { head: read.head, condition });
  } catch (error) {
    if (errnoOf(error) !== "ESTALE") throw error;
    await atOnce(keys, (key) => deleteObject(store, partPlace(place, key.slice(prefix.length))));
    throw lostRace(place, error);
  }
}

/** The draft's chunks are joined to one object. */
export async function publishObject(made: Publishing): Promise<void> {
  const { store, place, draft, condition } = made;
  const index = await indexOf(made);
  if (index.chunks > MOST_PARTS)
    throw blockError(
      "EFBIG",
      "create",
      `${urlOf(place)}: an object has ${MOST_PARTS} parts at most; give a larger 'chunk-size'`,
    );
  if (index.size === 0) {
    await putObject(store, place, { body: new Uint8Array(0), condition });
    return;
  }
  const upload = await beginUpload(store, place, draft.key);
  try {
    const parts = await copyParts(made, { index, upload });
    await complete(made, { upload, parts });
  } catch (error) {
    const query = { uploadId: upload };
    await store
      .request({ method: "DELETE", place, query, fine: [200, 204, 404] }, bodyText)
      .catch(() => undefined);
    throw error;
  }
}

async function beginUpload(store: Store, place: ObjectPlace, draft: string): Promise<string> {
  const headers = { "Content-Type": "application/octet-stream", [DRAFT_HEADER]: encodedKey(draft) };
  return store.request({ method: "POST", place, query: { uploads: "" }, headers }, async (response) => {
    const [upload] = elements(await bodyText(response), "UploadId");
    if (upload !== undefined) return upload;
    throw blockError("EIO", "create", `${urlOf(place)}: the store begins no upload`);
  });
}

/** Copies each chunk as a part; answers the parts' ETags. */
async function copyParts(
  { store, place, draft }: Publishing,
  { index, upload }: { index: IndexMap; upload: string },
): Promise<string[]> {
  const zeroes = partPlace(draft, "zeroes");
  let zeroesThere: Promise<unknown> | undefined;
  const parts: string[] = [];
  await atOnce(Array.from({ length: index.chunks }), async (_none, chunk) => {
    const name = await index.get(chunk);
    const bytes = Math.min(index.chunkBytes, index.size - chunk * index.chunkBytes);
    if (name === null) {
      const body = new Uint8Array(Math.min(index.chunkBytes, index.size));
      await (zeroesThere ??= putObject(store, zeroes, { body, condition: { over: "anything" } }));
    }
    const from = name === null ? zeroes : partPlace(draft, name);
    const isPartOfZeroes = name === null && bytes < Math.min(index.chunkBytes, index.size);
    parts[chunk] = await copied(store, {
      ...{ from, to: place, query: { partNumber: String(chunk + 1), uploadId: upload } },
      headers: isPartOfZeroes ? { "x-amz-copy-source-range": `bytes=0-${bytes - 1}` } : {},
    });
  });
  return parts;
}

async function complete(
  { store, place, draft, condition }: Publishing,
  { upload, parts }: { upload: string; parts: readonly string[] },
): Promise<void> {
  const rows = parts.map(
    (etag, i) =>
      `<Part><PartNumber>${i + 1}</PartNumber><ETag>${etag.replaceAll('"', "&quot;")}</ETag></Part>`,
  );
  const xml = `<CompleteMultipartUpload>${rows.join("")}</CompleteMultipartUpload>`;
  const body = new TextEncoder().encode(xml);
  const request = { method: "POST", place, query: { uploadId: upload }, body } as const;
  const type = { "Content-Type": "application/xml" };
  try {
    await onCondition({ store, place, condition }, (met) =>
      store.request({ ...request, headers: { ...met, ...type } }, async (response) => {
        const answer = await bodyText(response);
        if (/<CompleteMultipartUploadResult[\s>]/.test(answer)) return;
        throw storeError({ what: urlOf(place), status: 503, code: elements(answer, "Code")[0] ?? "" });
      }),
    );
  } catch (error) {
    // A try whose answer was lost may have done it.
    if ((await statObject(store, place).catch(() => undefined))?.draft === encodedKey(draft.key)) return;
    if (errnoOf(error) === "ESTALE") throw lostRace(place, error);
    throw error;
  }
}
