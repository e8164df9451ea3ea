/**
 * Uploads in parts, by which a draft's chunks are joined to one object. Of each a word lies beside its draft, so that whoever comes after one
 * who was killed in it finds it: what is open costs its owner, and no listing of objects shows it.
 */
import { blockError } from "../../../../base/errors.ts";
import type { GraphView } from "../../../../block/model/contract.ts";
import { bodyText, elements } from "./answers.ts";
import type { Store } from "./client.ts";
import { randomName } from "./heads.ts";
import { encodedKey, type ObjectPlace, urlOf } from "./names.ts";
import { atOnce, DRAFT_HEADER, listKeys, putObject } from "./objects.ts";

/** Behind a draft's key: an upload that was begun for it. */
const WORD = "-upload-";

/** What is made of a draft. */
interface Joining {
  readonly store: Store;
  readonly place: ObjectPlace;
  readonly draft: ObjectPlace;
}

/** Begins an upload; answers its id. */
export async function beginUpload({ store, place, draft }: Joining): Promise<string> {
  const headers = { "Content-Type": "application/octet-stream", [DRAFT_HEADER]: encodedKey(draft.key) };
  return store.request({ method: "POST", place, query: { uploads: "" }, headers }, async (response) => {
    const [upload] = elements(await bodyText(response), "UploadId");
    if (upload !== undefined) return upload;
    throw blockError("EIO", "create", `${urlOf(place)}: the store begins no upload`);
  });
}

/** Says beside the draft that the upload is open. */
export async function announceUpload(
  { store, draft: { bucket, key }, graph }: Joining & { readonly graph: GraphView },
  upload: string,
): Promise<void> {
  const body = new TextEncoder().encode(upload);
  const word = { bucket, key: `${key}${WORD}${randomName(graph.host)}` };
  await putObject(store, word, { body, condition: { over: "anything" } });
}

/** Ended, not there, and of stores that end none: not allowed, not implemented. */
const ENDED = [200, 204, 404, 405, 501];

/** Ends an upload, of which nothing comes any more. */
export function endUpload({ store, place }: Omit<Joining, "draft">, upload: string): Promise<unknown> {
  const query = { uploadId: upload };
  return store.request({ method: "DELETE", place, query, fine: ENDED }, bodyText);
}

/** Ends the uploads that were begun for a draft. */
export async function endUploads({ store, place, draft: { bucket, key: draft } }: Joining): Promise<void> {
  const words = await listKeys(store, { bucket, key: `${draft}${WORD}` });
  await atOnce(words, async (key) => {
    const request = { method: "GET", place: { bucket, key }, fine: [200, 404] } as const;
    const upload = await store.request(request, async (response) => {
      const text = await bodyText(response);
      return response.status === 200 ? text : "";
    });
    if (upload !== "") await endUpload({ store, place }, upload);
  });
}
