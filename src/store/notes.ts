/**
 * What a pack says of its blobs beyond its list, as its last blob: the digests of the blocks of those that are whole, by which later chunks
 * find what they have alike, and the bases of patches, by which a prune knows that they are needed.
 *
 * Words of 32 bits, little endian, for each blob in order: how many words follow; the digests, or the highest bit and the bases.
 */
import { blockError } from "../base/errors.ts";
import { HASH_BYTES } from "./tools.ts";

const HASH_WORDS = HASH_BYTES / 4;
const PATCH = 2 ** 31;

/** What is noted of a blob: one of the two, or nothing. */
export interface Note {
  /** A digest for each block: 32 bits of XXH3, a hint and no proof. */
  readonly blocks?: Uint32Array | undefined;
  readonly bases?: readonly Uint8Array[] | undefined;
}

/** The notes of a pack; undefined where there is nothing to be said. */
export function encodeNotes(notes: readonly Note[]): Uint8Array | undefined {
  if (notes.every(({ blocks, bases }) => !blocks && !bases)) return undefined;
  const words = notes.reduce(
    (sum, { blocks, bases }) => sum + 1 + (blocks?.length ?? HASH_WORDS * (bases?.length ?? 0)),
    0,
  );
  const bytes = new Uint8Array(4 * words);
  const view = new DataView(bytes.buffer);
  let at = 0;
  const put = (word: number): void => {
    view.setUint32(at, word, true);
    at += 4;
  };
  for (const { blocks, bases = [] } of notes) {
    put(blocks ? blocks.length : bases.length && PATCH + HASH_WORDS * bases.length);
    for (const word of blocks ?? []) put(word);
    for (const base of bases) {
      bytes.set(base, at);
      at += HASH_BYTES;
    }
  }
  return bytes;
}

/** Reads the notes of so many blobs. Throws EIO for what is none. */
export function parseNotes(bytes: Uint8Array, count: number): Note[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const all = new Uint32Array(Math.floor(bytes.byteLength / 4));
  for (let word = 0; word < all.length; word += 1) all[word] = view.getUint32(4 * word, true);
  let at = 0;
  const take = (words: number): number => {
    const from = at;
    at += words;
    if (at > all.length) throw malformed();
    return from;
  };
  const notes: Note[] = [];
  for (let blob = 0; blob < count; blob += 1) {
    const head = all[take(1)]!;
    const words = head % PATCH;
    const from = take(words);
    if (head === 0) notes.push({});
    else if (head < PATCH) notes.push({ blocks: all.subarray(from, from + words) });
    else notes.push({ bases: basesOf(bytes.subarray(4 * from, 4 * (from + words))) });
  }
  if (4 * at !== bytes.byteLength) throw malformed();
  return notes;
}

function basesOf(hashes: Uint8Array): Uint8Array[] {
  return Array.from({ length: hashes.byteLength / HASH_BYTES }, (_, base) =>
    hashes.subarray(base * HASH_BYTES, (base + 1) * HASH_BYTES),
  );
}

function malformed(): Error {
  return blockError("EIO", "pack", "its notes are malformed");
}
