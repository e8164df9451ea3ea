/**
 * New chunks as patches of those that the store has, where that is shorter by enough.
 *
 * Invariants: a base is a chunk that the store has whole; what a patch takes from there was held against the chunk's own bytes.
 */
import { type BlockPlace, BlockTable, noteOf } from "./block-table.ts";
import { type BlobMaker, BlobReader, unpack } from "./blobs.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { type Blob, Codec, readNotes } from "./pack.ts";
import { BLOCK_BYTES, type BlockSource, MAX_BASES, blockOf, encodePatch } from "./patch.ts";
import { hex, isSame, type StoreTools } from "./tools.ts";

/** Blocks that must be found elsewhere: reading the base costs time. */
const WORTH_BLOCKS = 2;
/** A patch has at most this share of the bytes that the chunk has as it is. */
const WORTH_SHARE = 0.9;
/** Of a chunk of which this share is found nobody needs to know how long it would be as it is: compressing costs the most time. */
const CLEAR_SHARE = 0.5;
/** A store far away answers several as fast as one. */
const PACKS_AT_ONCE = 16;

/** Whose blocks the table knows. */
type Owner = Uint8Array;

/** Finds what chunks have alike. */
export class SimilarChunks {
  readonly #tools: StoreTools;
  readonly #index: ChunkIndex;
  readonly #maker: BlobMaker;
  readonly #reader: BlobReader;
  /** Blobs that are not in a pack yet, by their hashes. */
  readonly #pending: ReadonlyMap<string, Blob>;
  #table: Promise<BlockTable<Owner>> | undefined;

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
    if (note?.blocks) (await this.#known()).add(hash, note.blocks);
  }

  /** A chunk as a patch, and how many of its blocks were found elsewhere; undefined: too few. */
  async #patch(
    content: Uint8Array,
    blocks: Uint32Array,
  ): Promise<{ blob: Pick<Blob, "stored" | "codec" | "note">; found: number } | undefined> {
    const table = await this.#known();
    if (table.count(blocks) < WORTH_BLOCKS) return undefined;
    const places = Array.from(blocks, (digest) => table.find(digest));
    const { bases, sources } = await this.#sources(content, places);
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
    places: readonly (BlockPlace<Owner> | undefined)[],
  ): Promise<{ bases: Uint8Array[]; sources: BlockSource[] }> {
    const counts = new Map<Owner, number>();
    for (const place of places) if (place) counts.set(place.owner, (counts.get(place.owner) ?? 0) + 1);
    const best = [...counts.keys()].sort((a, b) => counts.get(b)! - counts.get(a)!).slice(0, MAX_BASES);
    const contents = await Promise.all(best.map((owner) => this.#contentOf(owner)));
    const bases: Owner[] = [];
    const sources = places.map((place, at): BlockSource => {
      const from = place && contents[best.indexOf(place.owner)];
      if (!from || !isSame(blockOf(from, place.block), blockOf(content, at))) return undefined;
      if (!bases.includes(place.owner)) bases.push(place.owner);
      return { base: bases.indexOf(place.owner), block: place.block };
    });
    return { bases, sources };
  }

  /** The content of a chunk that the store has whole; undefined where it can't be read. */
  async #contentOf(hash: Owner): Promise<Uint8Array | undefined> {
    if (!this.#pending.has(hex(hash)) && this.#index.find(hash)?.codec === Codec.patch) return undefined;
    return this.#reader.base(hash).catch(() => undefined);
  }

  /** All that is known of the store's blocks, the newest packs first. */
  #known(): Promise<BlockTable<Owner>> {
    return (this.#table ??= this.#load());
  }

  async #load(): Promise<BlockTable<Owner>> {
    const table = new BlockTable<Owner>();
    const packs = this.#index.packs.toReversed();
    for (let at = 0; at < packs.length && !table.isFull; at += PACKS_AT_ONCE) {
      const some = packs.slice(at, at + PACKS_AT_ONCE);
      // Without the notes of a pack, which a verify tells of, chunks are whole that could be patches.
      const notes = await Promise.all(some.map((pack) => readNotes(this.#tools, pack).catch(() => [])));
      for (const [which, pack] of some.entries())
        for (const [blob, { blocks }] of notes[which]!.entries())
          if (blocks) table.add(pack.hash(blob), blocks);
    }
    return table;
  }
}

function joined(blocks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(blocks.reduce((sum, block) => sum + block.byteLength, 0));
  for (const [at, block] of blocks.entries()) bytes.set(block, at * BLOCK_BYTES);
  return bytes;
}
