/**
 * New chunks as patches of those that the store has, where that is shorter by enough.
 *
 * Invariants: a base is a chunk that the store has whole; what a patch takes from there was held against the chunk's own bytes.
 */
import { type BlockPlace, BlockTable, noteOf } from "./block-table.ts";
import { type BlobMaker, BlobReader, unpack } from "./blobs.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import type { Note } from "./notes.ts";
import { type Blob, Codec, type PackIndex, readNotes } from "./pack.ts";
import { BLOCK_BYTES, type BlockSource, MAX_BASES, blockOf, encodePatch } from "./patch.ts";
import { askEach, hex, isSame, type StoreTools } from "./tools.ts";

/** Blocks that must be found elsewhere: reading the base costs time. */
const WORTH_BLOCKS = 2;
/** A patch has at most this share of the bytes that the chunk has as it is. */
const WORTH_SHARE = 0.9;
/** Of a chunk of which this share is found nobody needs to know how long it would be as it is: compressing costs the most time. */
const CLEAR_SHARE = 0.5;
/** Whose blocks the table knows: a chunk of the store by its number in the index, or the one learned at ~owner. */
type Owner = number;

/** Finds what chunks have alike. */
export class SimilarChunks {
  readonly #tools: StoreTools;
  readonly #index: ChunkIndex;
  readonly #maker: BlobMaker;
  readonly #reader: BlobReader;
  /** Blobs that are not in a pack yet, by their hashes. */
  readonly #pending: ReadonlyMap<string, Blob>;
  readonly #learned: Uint8Array[] = [];
  #table: Promise<BlockTable> | undefined;

  constructor(init: {
    tools: StoreTools;
    index: ChunkIndex;
    maker: BlobMaker;
    pending: ReadonlyMap<string, Blob>;
  }) {
    this.#tools = init.tools;
    this.#index = init.index;
    this.#maker = init.maker;
    this.#pending = init.pending;
    const elsewhere = (hash: Uint8Array): Promise<Uint8Array> | undefined => {
      const blob = init.pending.get(hex(hash));
      return blob && unpack(init.tools, blob);
    };
    this.#reader = new BlobReader(init.tools, init.index, { elsewhere, gathers: true });
  }

  /** A new chunk as it is stored best: whole, with the digests of its blocks, or as a patch. `content` is not to change before it is. */
  async make(hash: Uint8Array, content: Uint8Array): Promise<Blob> {
    const note = noteOf(content, this.#tools.xxh3);
    if (!note.blocks) return this.#maker.make(hash, content);
    // A reader would find the one that is broken before another.
    const patch = this.#index.isBroken(hash) ? undefined : await this.#patch(content, note.blocks);
    const asPatch = patch && { hash, contentBytes: content.byteLength, ...patch.blob };
    if (asPatch && patch.found >= note.blocks.length * CLEAR_SHARE) return asPatch;
    const whole = await this.#maker.make(hash, content);
    const limit = whole.stored.byteLength * WORTH_SHARE;
    return asPatch && asPatch.stored.byteLength <= limit ? asPatch : { ...whole, note };
  }

  /** From now on later chunks may be patches of this one. */
  async learn({ hash, note }: Blob): Promise<void> {
    if (note?.blocks) (await this.#known()).add(~(this.#learned.push(hash) - 1), note.blocks);
  }

  /** A chunk as a patch, and how many of its blocks were found elsewhere; undefined: too few. */
  async #patch(
    content: Uint8Array,
    blocks: Uint32Array,
  ): Promise<{ blob: Pick<Blob, "stored" | "codec" | "note">; found: number } | undefined> {
    const table = await this.#known();
    if (table.count(blocks) < WORTH_BLOCKS) return undefined;
    const places = Array.from(blocks, (digest) => table.find(digest));
    const { owners, sources } = await this.#sources(content, places);
    const bases = owners.map((owner) => this.#hashOf(owner));
    const news = [...sources.keys()].filter((at) => !sources[at]).map((at) => blockOf(content, at));
    const found = sources.length - news.length;
    if (found < WORTH_BLOCKS) return undefined;
    const rest = await this.#maker.store(joined(news));
    const stored = encodePatch({ bases, sources, codec: rest.codec, rest: rest.stored });
    return { blob: { stored, codec: Codec.patch, note: { bases } }, found };
  }

  /** Which of a chunk's blocks are those of others for sure; the chunks that have most of them come first. */
  async #sources(
    content: Uint8Array,
    places: readonly (BlockPlace | undefined)[],
  ): Promise<{ owners: Owner[]; sources: BlockSource[] }> {
    const counts = new Map<Owner, number>();
    for (const place of places) if (place) counts.set(place.owner, (counts.get(place.owner) ?? 0) + 1);
    const best = [...counts.keys()].sort((a, b) => counts.get(b)! - counts.get(a)!).slice(0, MAX_BASES);
    const contents = await Promise.all(best.map((owner) => this.#contentOf(this.#hashOf(owner))));
    const owners: Owner[] = [];
    const sources = places.map((place, at): BlockSource => {
      const from = place && contents[best.indexOf(place.owner)];
      if (!from || !isSame(blockOf(from, place.block), blockOf(content, at))) return undefined;
      if (!owners.includes(place.owner)) owners.push(place.owner);
      return { base: owners.indexOf(place.owner), block: place.block };
    });
    return { owners, sources };
  }

  /** The content of a chunk that the store has whole; undefined where it can't be read. */
  async #contentOf(hash: Uint8Array): Promise<Uint8Array | undefined> {
    if (!this.#pending.has(hex(hash)) && this.#index.find(hash)?.codec === Codec.patch) return undefined;
    return this.#reader.base(hash).catch(() => undefined);
  }

  #hashOf(owner: Owner): Uint8Array {
    return owner < 0 ? this.#learned[~owner]! : this.#index.hashOf(owner);
  }

  /** All that is known of the store's blocks, the newest packs first. */
  #known(): Promise<BlockTable> {
    return (this.#table ??= this.#load());
  }

  async #load(): Promise<BlockTable> {
    const table = new BlockTable();
    const index = this.#index;
    const packs = [...index.packs.entries()].reverse();
    // A word for each block, and one for each chunk.
    table.reserve(packs.reduce((sum, [, { notes }]) => sum + (notes?.storedBytes ?? 0) / 4, 0));
    // Without the notes of a pack, which a verify tells of, chunks are whole that could be patches.
    const ask = (pack: PackIndex): Promise<Note[]> => readNotes(this.#tools, pack).catch(() => []);
    for await (const [[at], notes] of askEach(packs, ([, pack]) => ask(pack))) {
      if (table.isFull) break;
      const first = index.firstOf(at);
      for (const [blob, { blocks }] of notes.entries()) if (blocks) table.add(first + blob, blocks);
    }
    return table;
  }
}

function joined(blocks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.byteLength, 0));
  for (const [at, block] of blocks.entries()) bytes.set(block, at * BLOCK_BYTES);
  return bytes;
}
