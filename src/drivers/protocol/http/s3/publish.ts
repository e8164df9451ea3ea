/**
 * Publishing a draft: the store joins its chunks to one object, or copies them, and then the head appears.
 */
import { assert } from "../../../../base/assert.ts";
import { BlockError, blockError, errnoOf, messageOf } from "../../../../base/errors.ts";
import type { GraphView } from "../../../../block/model/contract.ts";
import { bodyText, elements, storeError } from "./answers.ts";
import type { Condition, Store } from "./client.ts";
import { type Head, isHeadType, PAGE_CHUNKS, partPlace } from "./format.ts";
import { putHead, type ReadHead, readHead } from "./heads.ts";
import { IndexMap } from "./index-map.ts";
import { encodedKey, type ObjectPlace, urlOf } from "./names.ts";
import { atOnce, deleteObject, listKeys, onCondition, putObject, statObject } from "./objects.ts";
import { announceUpload, beginUpload, endUpload } from "./uploads.ts";

/** Parts of an object, at most. */
export const MOST_PARTS = 10_000;

/** What takes which place. */
export interface Publishing {
  readonly store: Store;
  readonly place: ObjectPlace;
  readonly draft: ObjectPlace;
  /** Where its chunks are: each has those of so many bytes of the disk. */
  readonly parts: readonly ObjectPlace[];
  readonly partBytes: number;
  readonly condition: Condition;
  readonly graph: GraphView;
}

function lostRace(place: ObjectPlace, cause: unknown): BlockError {
  const message = `${urlOf(place)}: another writer has made or changed it meanwhile; it is as that one left it`;
  return new BlockError({ code: "ESTALE", op: "create", message, cause });
}

/** The heads of the draft's parts. */
async function headsOf({ store, parts }: Publishing): Promise<ReadHead[]> {
  const heads: ReadHead[] = [];
  await atOnce(parts, async (place, part) => {
    const read = await readHead(store, place);
    if (!read) throw blockError("ESTALE", "create", `${urlOf(place)}: it is no draft any more`);
    heads[part] = read;
  });
  return heads;
}

/** The head that the draft becomes: of each part the pages of its own range. */
async function headOf(made: Publishing): Promise<Head> {
  const heads = (await headsOf(made)).map(({ head }) => head);
  const first = heads[0]!;
  if (heads.length === 1) return first;
  const pageBytes = first.chunkBytes * PAGE_CHUNKS;
  assert(made.partBytes % pageBytes === 0, "a page is of one part");
  const pages = first.pages.map((_none, i) => {
    const head = heads[Math.floor((i * pageBytes) / made.partBytes)];
    return head?.pages[i] ?? null;
  });
  return { ...first, writer: encodedKey(made.draft.key), generation: 1, pages };
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
export async function isPublished(made: Publishing): Promise<boolean> {
  const { store, place, draft } = made;
  const there = await statObject(store, place);
  if (!there || !isHeadType(there.type)) return there?.draft === encodedKey(draft.key);
  const [disk, own] = [await readHead(store, place), await ifThere(headOf(made))];
  return disk !== undefined && disk.head.writer === own?.writer && disk.head.generation === own.generation;
}

function ifThere<T>(answer: Promise<T>): Promise<T | undefined> {
  return answer.catch((error: unknown) => {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  });
}

/** The draft's chunks become the disk's: copied by the store, and then the head. */
export async function publishDisk(made: Publishing): Promise<void> {
  const { store, place, parts, condition } = made;
  const head = await headOf(made);
  const copies: ObjectPlace[] = [];
  for (const { bucket, key } of parts.map((part) => partPlace(part, ""))) {
    const keys = await listKeys(store, { bucket, key });
    await atOnce(keys, async (one) => {
      const to = partPlace(place, one.slice(key.length));
      copies.push(to);
      await copied(store, { from: { bucket, key: one }, to });
    });
  }
  try {
    await putHead(store, place, { head, condition });
  } catch (error) {
    if (errnoOf(error) !== "ESTALE") throw error;
    await atOnce(copies, (copy) => deleteObject(store, copy));
    throw lostRace(place, error);
  }
}

/** The draft's chunks are joined to one object. */
export async function publishObject(made: Publishing): Promise<void> {
  const { store, place, condition, graph, parts: drafts } = made;
  const heads = await headsOf(made);
  const indexes = heads.map((read, i) => new IndexMap(store, drafts[i]!, { read, host: graph.host }));
  const index = indexes[0]!;
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
  const upload = await beginUpload(made);
  try {
    await announceUpload(made, upload);
    const parts = await copyParts(made, { indexes, upload });
    await complete(made, { upload, parts });
  } catch (error) {
    await endUpload(made, upload).catch(() => undefined);
    throw error;
  }
}

/** Some stores copy objects, but not into parts of another one. */
function joinsNothing(cause: unknown): BlockError {
  const message = `${messageOf(cause)}: the store does not join objects to one (UploadPartCopy); a disk in chunks ('?form=chunks') needs none of that`;
  return new BlockError({ code: "ENOTSUP", op: "create", message, cause });
}

/** Copies each chunk as a part; answers the parts' ETags. */
async function copyParts(
  { store, place, draft, parts: drafts, partBytes }: Publishing,
  { indexes, upload }: { indexes: readonly IndexMap[]; upload: string },
): Promise<string[]> {
  const zeroes = partPlace(draft, "zeroes");
  const { chunks, chunkBytes, size } = indexes[0]!;
  let zeroesThere: Promise<unknown> | undefined;
  const parts: string[] = [];
  await atOnce(Array.from({ length: chunks }), async (_none, chunk) => {
    const draftPart = Math.floor((chunk * chunkBytes) / partBytes);
    const name = await indexes[draftPart]!.get(chunk);
    const bytes = Math.min(chunkBytes, size - chunk * chunkBytes);
    if (name === null) {
      const body = new Uint8Array(Math.min(chunkBytes, size));
      await (zeroesThere ??= putObject(store, zeroes, { body, condition: { over: "anything" } }));
    }
    const from = name === null ? zeroes : partPlace(drafts[draftPart]!, name);
    const isPartOfZeroes = name === null && bytes < Math.min(chunkBytes, size);
    const part = { from, to: place, query: { partNumber: String(chunk + 1), uploadId: upload } };
    const headers = isPartOfZeroes ? { "x-amz-copy-source-range": `bytes=0-${bytes - 1}` } : {};
    parts[chunk] = await copied(store, { ...part, headers }).catch((error: unknown) => {
      throw errnoOf(error) === "ENOTSUP" ? joinsNothing(error) : error;
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
