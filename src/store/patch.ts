/**
 * Patches: chunks most of whose blocks lie in chunks that the store has whole, wherever they lie there. A disk's files begin at blocks, not
 * at chunks, so that what a file system moves is new to chunks, and not to blocks.
 *
 * A patch, little endian: bases u8, codec of the rest u8, blocks u16 · the bases' SHA-256 · for each block u16: its base times 256 and the block
 * there, or 0xffff for one of the rest · the rest: the blocks that no base has, in order, compressed where that is shorter.
 *
 * Invariant: a base is no patch itself, so that a chunk is read with at most MAX_BASES others.
 */
import { blockError } from "../base/errors.ts";
import { KiB } from "../base/limits.ts";
import { HASH_BYTES } from "./tools.ts";

/** What is looked for elsewhere: what file systems lay files out by. */
export const BLOCK_BYTES = 4 * KiB;
/** Chunks that one patch is made of. */
export const MAX_BASES = 4;
const NEW = 0xffff;
const HEAD_BYTES = 4;

/** Where a block lies in the patch's bases; undefined: in the rest. */
export type BlockSource = { readonly base: number; readonly block: number } | undefined;

/** A chunk by others. */
export interface Patch {
  readonly bases: readonly Uint8Array[];
  readonly sources: readonly BlockSource[];
  /** How the rest is stored. */
  readonly codec: number;
  readonly rest: Uint8Array;
}

/** Block `at` of a content. */
export function blockOf(content: Uint8Array, at: number): Uint8Array {
  return content.subarray(at * BLOCK_BYTES, (at + 1) * BLOCK_BYTES);
}

/** Blocks of so many bytes; the last one may be shorter. */
export function blocksOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK_BYTES);
}

/** A patch as it is stored. */
export function encodePatch({ bases, sources, codec, rest }: Patch): Uint8Array {
  const map = HEAD_BYTES + bases.length * HASH_BYTES;
  const bytes = new Uint8Array(map + 2 * sources.length + rest.byteLength);
  const view = new DataView(bytes.buffer);
  bytes[0] = bases.length;
  bytes[1] = codec;
  view.setUint16(2, sources.length, true);
  for (const [at, base] of bases.entries()) bytes.set(base, HEAD_BYTES + at * HASH_BYTES);
  for (const [at, source] of sources.entries())
    view.setUint16(map + 2 * at, source ? (source.base << 8) | source.block : NEW, true);
  bytes.set(rest, map + 2 * sources.length);
  return bytes;
}

/** Reads the patch of a chunk of so many bytes. Throws EIO for what is none. */
export function parsePatch(stored: Uint8Array, contentBytes: number): Patch {
  const count = stored[0] ?? 0;
  const blocks = blocksOf(contentBytes);
  const map = HEAD_BYTES + count * HASH_BYTES;
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength);
  if (count > MAX_BASES || stored.byteLength < map + 2 * blocks || view.getUint16(2, true) !== blocks)
    throw malformed();
  const bases = Array.from({ length: count }, (_, at) =>
    stored.subarray(HEAD_BYTES + at * HASH_BYTES, HEAD_BYTES + (at + 1) * HASH_BYTES),
  );
  const sources = Array.from({ length: blocks }, (_, at): BlockSource => {
    const word = view.getUint16(map + 2 * at, true);
    if (word === NEW) return undefined;
    if (word >> 8 >= count) throw malformed();
    return { base: word >> 8, block: word & 0xff };
  });
  return { bases, sources, codec: stored[1]!, rest: stored.subarray(map + 2 * blocks) };
}

/** Bytes of the blocks that no base has, of a chunk of so many bytes. */
export function restBytes({ sources }: Pick<Patch, "sources">, contentBytes: number): number {
  const bytesOf = (at: number): number => Math.min(BLOCK_BYTES, contentBytes - at * BLOCK_BYTES);
  return sources.reduce((sum, source, at) => sum + (source ? 0 : bytesOf(at)), 0);
}

/** Builds a chunk of its rest and of the blocks that `blockIn` has. Throws EIO where there are not enough bytes. */
export function applyPatch(
  { sources }: Pick<Patch, "sources">,
  { rest, content }: { rest: Uint8Array; content: Uint8Array },
  blockIn: (base: number, block: number) => Uint8Array,
): void {
  let used = 0;
  for (const [at, source] of sources.entries()) {
    const place = blockOf(content, at);
    const from = source
      ? blockIn(source.base, source.block).subarray(0, place.byteLength)
      : rest.subarray(used, used + place.byteLength);
    if (from.byteLength !== place.byteLength) throw malformed();
    place.set(from);
    if (!source) used += place.byteLength;
  }
}

function malformed(): Error {
  return blockError("EIO", "patch", "a patch is malformed");
}
