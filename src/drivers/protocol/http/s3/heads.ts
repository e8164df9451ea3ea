/**
 * Reading and putting heads of disks in chunks, and reading what they name.
 */
import { blockError, errnoOf } from "../../../../base/errors.ts";
import type { Host } from "../../../../base/host.ts";
import { bodyText } from "./answers.ts";
import { type Condition, type Store } from "./client.ts";
import { putObject } from "./objects.ts";
import { formatHead, type Head, HEAD_TYPE, isHeadType, MAX_HEAD_BYTES, parseHead } from "./format.ts";
import { type ObjectPlace, urlOf } from "./names.ts";

/** A head that was read. */
export interface ReadHead {
  readonly head: Head;
  readonly etag: string;
}

/** Reads the head of a disk. Undefined: the object is no head. */
export function readHead(store: Store, place: ObjectPlace): Promise<ReadHead | undefined> {
  return store.request({ method: "GET", place }, async (response) => {
    if (!isHeadType(response.headers.get("content-type"))) {
      await response.body?.cancel();
      return undefined;
    }
    const etag = response.headers.get("etag");
    if (etag === null) throw blockError("EIO", "open", `${urlOf(place)}: the store tells no ETag`);
    return { head: parseHead(await bodyText(response, MAX_HEAD_BYTES)), etag };
  });
}

/** A name of letters that hardly anybody else has. */
export function randomName({ random }: Host): string {
  return Array.from({ length: 16 }, () => random.below(36).toString(36)).join("");
}

/** Puts a head, and answers its ETag; another try of a request that had succeeded is told from another writer's. */
export async function putHead(
  store: Store,
  place: ObjectPlace,
  { head, condition }: { head: Head; condition: Condition },
): Promise<string> {
  try {
    return await putObject(store, place, { body: formatHead(head), condition, type: HEAD_TYPE });
  } catch (error) {
    if (errnoOf(error) !== "ESTALE") throw error;
    const there = await readHead(store, place).catch(() => undefined);
    const isOurs = there?.head.writer === head.writer && there.head.generation === head.generation;
    if (isOurs) return there.etag;
    throw error;
  }
}

/** A body of at most so many bytes. */
export async function collected(body: ReadableStream<Uint8Array> | null, most: number): Promise<ArrayBuffer> {
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const reader = body?.getReader();
  for (;;) {
    const { value, done } = (await reader?.read()) ?? { done: true, value: undefined };
    if (done || value === undefined) break;
    bytes += value.byteLength;
    if (bytes > most) {
      await reader?.cancel();
      throw blockError("EIO", "pread", `an object is longer than ${most} bytes`);
    }
    pieces.push(new Uint8Array(value));
  }
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.byteLength;
  }
  return all.buffer;
}
