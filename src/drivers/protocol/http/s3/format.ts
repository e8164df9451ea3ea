/**
 * A disk in chunks. Under its key lies the head, a small JSON document of the type HEAD_TYPE; beside it, below
 * `KEY.blockwright/`, chunks and pages of the index, which never change:
 *
 *   head    { "blockwright-disk": 1, writer, generation, size, "chunk-size", pages: [name | null …] }
 *   page    { chunks: [name | null …] }   of PAGE_CHUNKS chunks each; null: zeroes
 *   name    WRITER-NUMBER-HASH, the hash being the first half of the content's SHA-256 in hexadecimal
 *
 * Invariants: what is read of a name has its hash; an object is taken for a head by its type, which whoever writes into a disk
 * has no say in, and by nothing in its content. A chunk has the chunk size, but for the last one, which ends where the disk does.
 */
import { BlockError } from "../../../../base/errors.ts";
import { KiB, MiB, limits } from "../../../../base/limits.ts";
import { isPowerOfTwo } from "../../../../base/ranges.ts";
import type { ObjectPlace } from "./names.ts";

/** The type of heads. */
export const HEAD_TYPE = "application/vnd.blockwright.disk+json";

/** Whether an object of that type is a head. */
export function isHeadType(type: string | null | undefined): boolean {
  return type?.split(";")[0]?.trim().toLowerCase() === HEAD_TYPE;
}

/** Chunks that a page of the index names. */
export const PAGE_CHUNKS = 1024;

/** Most bytes of a head. */
export const MAX_HEAD_BYTES = 64 * MiB;
/** Most bytes of a page. */
export const MAX_PAGE_BYTES = 256 * KiB;

/** What a head says. */
export interface Head {
  readonly writer: string;
  readonly generation: number;
  readonly size: number;
  readonly chunkBytes: number;
  readonly pages: readonly (string | null)[];
}

const NAME = /^[0-9a-z]{1,32}-[0-9a-z]{1,16}-[0-9a-f]{32}$/;

/** Where chunks and pages of a disk are. */
export function partPlace({ bucket, key }: ObjectPlace, name: string): ObjectPlace {
  return { bucket, key: `${key}.blockwright/${name}` };
}

/** The hash in a name. */
export function hashInName(name: string): string {
  return name.slice(name.lastIndexOf("-") + 1);
}

/** Pages of a disk. */
export function pageCount(size: number, chunkBytes: number): number {
  return Math.ceil(Math.ceil(size / chunkBytes) / PAGE_CHUNKS);
}

function broken(what: string): BlockError {
  return new BlockError({ code: "EIO", op: "s3", message: `the disk's ${what} is damaged` });
}

function parsed(text: string, what: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw broken(what);
}

function names(value: unknown, count: number, what: string): (string | null)[] {
  const isName = (one: unknown): boolean => one === null || (typeof one === "string" && NAME.test(one));
  if (!Array.isArray(value) || value.length !== count || !value.every(isName)) throw broken(what);
  return value as (string | null)[];
}

/** Reads a head. EIO where it is none. */
export function parseHead(text: string): Head {
  const { writer, generation, size, pages, ...rest } = parsed(text, "head");
  const chunkBytes = rest["chunk-size"];
  if (rest["blockwright-disk"] !== 1)
    throw new BlockError({ code: "ENOTSUP", op: "s3", message: "the disk is of a later version" });
  const isCount = (value: unknown, most: number): value is number =>
    Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
  if (!isCount(size, limits.maxImageBytes) || !isCount(chunkBytes, 512 * MiB)) throw broken("head");
  if (!isPowerOfTwo(chunkBytes) || chunkBytes < 64 * KiB) throw broken("head");
  if (typeof writer !== "string" || !isCount(generation, Number.MAX_SAFE_INTEGER)) throw broken("head");
  return { writer, generation, size, chunkBytes, pages: names(pages, pageCount(size, chunkBytes), "head") };
}

/** Writes a head. */
export function formatHead({ writer, generation, size, chunkBytes, pages }: Head): Uint8Array<ArrayBuffer> {
  const head = { "blockwright-disk": 1, writer, generation, size, "chunk-size": chunkBytes, pages };
  return new TextEncoder().encode(JSON.stringify(head));
}

/** Reads a page. */
export function parsePage(text: string): (string | null)[] {
  return names(parsed(text, "index")["chunks"], PAGE_CHUNKS, "index");
}

/** Writes a page. */
export function formatPage(chunks: readonly (string | null)[]): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(JSON.stringify({ chunks }));
}
