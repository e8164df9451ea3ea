/**
 * Packs: the objects that hold what the store keeps, many blobs in each. A blob is a chunk of a disk or a node of a tree, called
 * by the SHA-256 of its content and stored compressed where that is shorter.
 *
 * Layout, little endian: magic (8) · the blobs' stored bytes · an entry for each, in their order · the trailer.
 * Entry: SHA-256 of the content (32), XXH3-64 of what is stored (8), offset u32, stored bytes u32, content's bytes u32, codec u32.
 * Trailer: offset of the entries u32, their number u32, XXH3-64 of the entries (8), magic (8).
 *
 * The last blob may be the notes on the others: notes.ts.
 *
 * Invariants: a pack never changes; a pack that does not parse holds nothing, and is told of, not repaired.
 */
import { assert } from "../base/assert.ts";
import { blockError } from "../base/errors.ts";
import { KiB, MiB, limits } from "../base/limits.ts";
import type { ObjectInfo, ObjectStore } from "../base/objects.ts";
import { type Note, encodeNotes, parseNotes } from "./notes.ts";
import { HASH_BYTES, type StoreTools } from "./tools.ts";

const MAGIC = new TextEncoder().encode("bwChunks");
const ENTRY_BYTES = 56;
/** Words of 32 bits of an entry, which begins with the blob's name. */
export const WORDS_OF_ENTRY = ENTRY_BYTES / 4;
const TRAILER_BYTES = 24;
/** What is read of a pack's end at first. */
const TAIL_BYTES = 16 * KiB;
/** A pack is closed when its blobs have so many bytes. */
const PACK_BYTES = 32 * MiB;

/** How a blob is stored: as it is, zstd (RFC 8878), raw DEFLATE (RFC 1951), as a patch of others. `notes`: it is the notes. */
export const Codec = { none: 0, zstd: 1, deflate: 2, patch: 3, notes: 4 } as const;

/** A blob on its way into a pack. */
export interface Blob {
  readonly hash: Uint8Array;
  readonly stored: Uint8Array;
  readonly contentBytes: number;
  readonly codec: number;
  readonly note?: Note | undefined;
}

/** Where a blob lies. */
export interface Place {
  /** The pack's object. */
  readonly pack: string;
  readonly offset: number;
  readonly storedBytes: number;
  readonly contentBytes: number;
  readonly codec: number;
  readonly xxh3: bigint;
}

/** Gathers the blobs of one pack. */
export class PackBuilder {
  readonly #blobs: Blob[] = [];
  #bytes = MAGIC.byteLength;

  /** Bytes of the pack's blobs so far. */
  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#blobs.length === 0;
  }

  /** Whether it is time for another pack. */
  get isFull(): boolean {
    return this.#bytes >= PACK_BYTES;
  }

  add(blob: Blob): void {
    assert(blob.hash.byteLength === HASH_BYTES, "a blob's name is a SHA-256");
    this.#blobs.push(blob);
    this.#bytes += blob.stored.byteLength;
  }

  /** The pack's bytes. */
  finish({ xxh3, sha256 }: Pick<StoreTools, "xxh3" | "sha256">): Uint8Array {
    const notes = encodeNotes(this.#blobs.map(({ note = {} }) => note));
    if (notes)
      this.add({ hash: sha256(notes), stored: notes, contentBytes: notes.byteLength, codec: Codec.notes });
    const entriesBytes = this.#blobs.length * ENTRY_BYTES;
    const bytes = new Uint8Array(this.#bytes + entriesBytes + TRAILER_BYTES);
    const view = new DataView(bytes.buffer);
    bytes.set(MAGIC);
    let at = MAGIC.byteLength;
    let entry = this.#bytes;
    for (const { hash, stored, contentBytes, codec } of this.#blobs) {
      bytes.set(stored, at);
      bytes.set(hash, entry);
      view.setBigUint64(entry + 32, xxh3(stored), true);
      [at, stored.byteLength, contentBytes, codec].forEach((value, index) =>
        view.setUint32(entry + 40 + 4 * index, value, true),
      );
      at += stored.byteLength;
      entry += ENTRY_BYTES;
    }
    view.setUint32(entry, this.#bytes, true);
    view.setUint32(entry + 4, this.#blobs.length, true);
    view.setBigUint64(entry + 8, xxh3(bytes.subarray(this.#bytes, entry)), true);
    bytes.set(MAGIC, entry + 16);
    return bytes;
  }
}

/** The entries of a pack. */
export class PackIndex {
  readonly name: string;
  readonly count: number;
  /** Of all entries. */
  readonly words: Uint32Array;
  readonly #entries: Uint8Array;
  readonly #view: DataView;

  /** The entries begin at a whole word of their memory. */
  constructor(name: string, entries: Uint8Array) {
    this.name = name;
    this.count = entries.byteLength / ENTRY_BYTES;
    this.words = new Uint32Array(entries.buffer, entries.byteOffset, entries.byteLength / 4);
    this.#entries = entries;
    this.#view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  }

  /** The name of a blob. */
  hash(index: number): Uint8Array {
    return this.#entries.subarray(index * ENTRY_BYTES, index * ENTRY_BYTES + HASH_BYTES);
  }

  /** The first blob that does not lie between two offsets, or whose content would be too long; -1: none. */
  outside(first: number, end: number): number {
    for (let index = 0; index < this.count; index += 1) {
      const at = index * ENTRY_BYTES + 40;
      const offset = this.#view.getUint32(at, true);
      if (offset < first || offset + this.#view.getUint32(at + 4, true) > end) return index;
      const isLong = this.#view.getUint32(at + 8, true) > limits.storeMaxBlobBytes;
      if (isLong && this.#view.getUint32(at + 12, true) !== Codec.notes) return index;
    }
    return -1;
  }

  /** Where the notes lie; undefined: there are none. */
  get notes(): Place | undefined {
    const last = this.count === 0 ? undefined : this.place(this.count - 1);
    return last?.codec === Codec.notes ? last : undefined;
  }

  /** Blobs, the notes left out. */
  get blobs(): number {
    return this.notes ? this.count - 1 : this.count;
  }

  isPatch(index: number): boolean {
    return this.#view.getUint32(index * ENTRY_BYTES + 52, true) === Codec.patch;
  }

  place(index: number): Place {
    const at = index * ENTRY_BYTES + 40;
    const u32 = (field: number): number => this.#view.getUint32(at + 4 * field, true);
    const [offset, storedBytes, contentBytes, codec] = [u32(0), u32(1), u32(2), u32(3)];
    const xxh3 = this.#view.getBigUint64(at - 8, true);
    return { pack: this.name, offset, storedBytes, contentBytes, codec, xxh3 };
  }
}

/** Reads a pack's entries. Throws EIO for what is no pack, or not a whole one. */
export async function readPack(tools: StoreTools, info: ObjectInfo): Promise<PackIndex> {
  const refuse = (why: string): never => {
    throw blockError("EIO", "pack", `'${info.name}' is damaged: ${why}`);
  };
  if (info.bytes < MAGIC.byteLength + TRAILER_BYTES || info.bytes > limits.storeMaxPackBytes)
    refuse(`${info.bytes} bytes are no length of a pack`);
  // All that there is of the list in a pack of few blobs.
  const known = Math.max(0, info.bytes - TAIL_BYTES);
  const tail = await range(tools.objects, info, known, info.bytes);
  const trailer = tail.subarray(tail.byteLength - TRAILER_BYTES);
  const view = new DataView(trailer.buffer, trailer.byteOffset, TRAILER_BYTES);
  if (!MAGIC.every((byte, at) => trailer[16 + at] === byte)) refuse("its end is not that of a pack");
  const [start, count] = [view.getUint32(0, true), view.getUint32(4, true)];
  const end = info.bytes - TRAILER_BYTES;
  if (start + count * ENTRY_BYTES !== end) refuse("its list of blobs lies elsewhere");
  const entries = new Uint8Array(end - start);
  if (start < known) entries.set(await range(tools.objects, info, start, known));
  entries.set(tail.subarray(Math.max(0, start - known), end - known), Math.max(0, known - start));
  if (tools.xxh3(entries) !== view.getBigUint64(8, true)) refuse("its list of blobs is not what was written");
  const pack = new PackIndex(info.name, entries);
  const outside = pack.outside(MAGIC.byteLength, start);
  if (outside >= 0) refuse(`blob ${outside} lies outside`);
  return pack;
}

/** What a pack notes of its blobs, the notes themselves left out; empty where it has none. Throws EIO for damaged ones. */
export async function readNotes(tools: StoreTools, { name, notes, blobs }: PackIndex): Promise<Note[]> {
  if (!notes) return [];
  const { offset, storedBytes, xxh3 } = notes;
  const bytes = await range(tools.objects, { name }, offset, offset + storedBytes);
  if (tools.xxh3(bytes) === xxh3) return parseNotes(bytes, blobs);
  throw blockError("EIO", "pack", `'${name}' is damaged: its notes are not what was written`);
}

/** The bytes of an object from `offset` to `end`. Throws EIO where it has fewer. */
async function range(
  objects: ObjectStore,
  { name }: Pick<ObjectInfo, "name">,
  offset: number,
  end: number,
): Promise<Uint8Array> {
  const found = await objects.get(name, { offset, bytes: end - offset });
  if (found.byteLength === end - offset) return found;
  throw blockError("EIO", "pack", `'${name}' is damaged: it ends too early`);
}
