/**
 * Making disks in an object store: one in chunks at once, one object out of a draft. A draft is a disk in chunks beside the
 * place; when it is whole, the store itself joins its chunks to the one object (parts copied by the store, so that nothing is sent
 * twice), or the draft's head becomes the disk's. A draft in parts is a disk for each, of the whole length, in which only its part is written:
 * its writers are kept apart as those of any disk are.
 *
 * Invariants: until then what was at the place is there, and it is replaced only if it still is the one that was there when the draft was begun;
 * of two drafts for one place one wins, and the other is ESTALE. A draft that was not published is removed.
 */
import { blockError } from "../../../../base/errors.ts";
import type { GraphView, NodeSpec } from "../../../../block/model/contract.ts";
import type { Parts, StoredDraft } from "../../../../block/model/stores.ts";
import type { StoredChunks } from "../../../../block/model/terms.ts";
import { type Condition, Store } from "./client.ts";
import { atOnce, deleteObject, listKeys, statObject } from "./objects.ts";
import { isPublished, MOST_PARTS, publishDisk, publishObject } from "./publish.ts";
import { endUploads } from "./uploads.ts";
import { isHeadType, PAGE_CHUNKS, partPlace } from "./format.ts";
import { putHead, randomName } from "./heads.ts";
import { type ObjectPlace, plainS3Name, urlOf } from "./names.ts";
import { CHUNK_BYTES, draftOptions, type S3Options, s3Options } from "./options.ts";

/** Parts but the last have so many bytes at least. */
const LEAST_PART_BYTES = 5 * 2 ** 20;

async function withStore<T>(
  graph: GraphView,
  file: NodeSpec,
  body: (store: Store, options: S3Options) => Promise<T>,
): Promise<T> {
  const options = s3Options(file, graph);
  const store = new Store(graph.host, options);
  try {
    return await body(store, options);
  } finally {
    store.close();
  }
}

/** Whether there is an object of that name. */
export function objectExists(graph: GraphView, file: NodeSpec): Promise<boolean> {
  return withStore(graph, file, async (store, { place }) => (await statObject(store, place)) !== undefined);
}

/** Removes a draft, what is said of its uploads with it. */
async function removeDraft(store: Store, draft: ObjectPlace): Promise<void> {
  const keys = await listKeys(store, draft);
  await atOnce(keys, (key) => deleteObject(store, { bucket: draft.bucket, key }));
}

/** Makes an empty disk in chunks; what was there is replaced, and with `exclusive` refused (EEXIST). */
export function makeDisk(
  graph: GraphView,
  { file, exclusive = false }: { file: NodeSpec; exclusive?: boolean },
): Promise<void> {
  return withStore(graph, file, async (store, options) => {
    const { place, url } = options;
    const before = await statObject(store, place);
    if (before && exclusive)
      throw blockError("EEXIST", "create", `Could not create '${url}': there is an object of that name`);
    const { bucket, key } = partPlace(place, "");
    const old = isHeadType(before?.type) ? await listKeys(store, { bucket, key }) : [];
    const own = old.filter((one) => !one.startsWith(`${key}draft-`));
    await newHead(store, graph, { options, condition: conditionOf(before), chunkBytes: CHUNK_BYTES });
    await atOnce(own, (one) => deleteObject(store, { bucket, key: one }));
  });
}

function conditionOf(before: { readonly etag: string | null } | undefined): Condition {
  if (!before) return { over: "nothing" };
  return { over: before.etag === null ? "anything" : { etag: before.etag } };
}

async function newHead(
  store: Store,
  { host }: GraphView,
  { options, condition, chunkBytes }: { options: S3Options; condition: Condition; chunkBytes: number },
): Promise<void> {
  const head = {
    ...{ writer: randomName(host), generation: 0, size: 0 },
    ...{ chunkBytes: options.chunkBytes ?? chunkBytes, pages: [] },
  };
  await putHead(store, options.place, { head, condition });
}

/**
 * What a draft is known by: its key, what was at its place when it was begun (null: nothing, "": something without an ETag), and its parts,
 * if it has such.
 */
interface Token {
  readonly key: string;
  readonly before: string | null;
  readonly parts?: Parts | undefined;
}

async function newToken(
  graph: GraphView,
  file: NodeSpec,
  { place, parts }: { place: ObjectPlace; parts: Parts | undefined },
): Promise<Token> {
  const before = await withStore(graph, file, (store) => statObject(store, place));
  // Stores differ in how they read the name of what they are to copy: a draft's has letters that all of them read alike.
  const key = `${place.key.replaceAll(/[^\w./-]/g, "_")}.blockwright/draft-${randomName(graph.host)}`;
  return { key, before: before ? (before.etag ?? "") : null, parts };
}

/** What a draft is made of. A page of a disk's index is written by one part. */
export async function chunksOf(file: NodeSpec): Promise<StoredChunks> {
  const { form, chunkBytes: bytes } = draftOptions(file);
  const hint = (larger: number): string =>
    `say '?chunk-size=${larger}' behind the target's name, or 'form=chunks'`;
  return form === "object"
    ? { bytes, partUnit: bytes, most: MOST_PARTS, hint }
    : { bytes, partUnit: PAGE_CHUNKS * bytes, hint };
}

/**
 * Begins what takes the place of an object, or becomes it; or goes on with the draft of a token. Parts begin at multiples of a chunk, and of
 * a disk in chunks of PAGE_CHUNKS of them.
 */
export async function draftOf(
  graph: GraphView,
  file: NodeSpec,
  known?: string | Parts,
): Promise<StoredDraft> {
  const { form, chunkBytes } = draftOptions(file);
  const isObject = form === "object";
  if (isObject && chunkBytes < LEAST_PART_BYTES)
    throw blockError(
      "EINVAL",
      "create",
      "Parameter 'chunk-size' is at least 8 MiB for what becomes one object",
    );
  const { place } = s3Options(file, graph);
  const token =
    typeof known === "string"
      ? (JSON.parse(known) as Token)
      : await newToken(graph, file, { place, parts: known });
  const draft = { bucket: place.bucket, key: token.key };
  const { bucket: _bucket, key: _key, ...others } = file;
  const specOf = (at: ObjectPlace): NodeSpec => ({ ...others, url: urlOf(at), "chunk-size": chunkBytes });
  const { driver: _driver, ...named } = specOf(draft);
  const { count, bytes: partBytes } = token.parts ?? { count: 0, bytes: Infinity };
  const parts = Array.from({ length: count }, (_none, i) => ({ ...draft, key: `${draft.key}-${i}` }));
  return {
    file: specOf(draft),
    name: plainS3Name(named) ?? "",
    token: JSON.stringify(token),
    ...(count > 0 && { parts: parts.map(specOf) }),
    publish: () =>
      withStore(graph, file, async (store) => {
        const condition = conditionOf(token.before === null ? undefined : { etag: token.before || null });
        const made = { store, place, draft, parts: count > 0 ? parts : [draft], partBytes, condition, graph };
        // Of one who was killed in it, or is silent: what he began ends before it is looked whether it got there.
        if (isObject) await endUploads(made);
        if (!(await isPublished(made))) await (isObject ? publishObject(made) : publishDisk(made));
        await removeDraft(store, draft).catch(() => undefined);
      }),
    discard: () =>
      withStore(graph, file, async (store) => {
        await endUploads({ store, place, draft });
        await removeDraft(store, draft);
      }),
  };
}
