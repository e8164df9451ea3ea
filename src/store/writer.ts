/**
 * Writing a backup: chunks come in ascending order, those that the store has cost nothing, the others go into packs.
 *
 * Invariants: a blob is written at most once by one writer; what finish() answers needs no pack that is not durable.
 */
import { assert } from "../base/assert.ts";
import { BlobMaker } from "./blobs.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { type Blob, PackBuilder, readPack } from "./pack.ts";
import type { Holder } from "./holders.ts";
import { PACKS } from "./repository.ts";
import { SimilarChunks } from "./similar.ts";
import { hex, type StoreTools } from "./tools.ts";
import { CHUNK_BYTES, LEAF_BYTES, type LeafTable, type Root, TreeNode } from "./tree.ts";

const CHUNKS_OF_LEAF = LEAF_BYTES / CHUNK_BYTES;

/** Writes blobs into packs of its own. */
export class BlobWriter {
  readonly #tools: StoreTools;
  readonly #index: ChunkIndex;
  readonly #holder: Holder;
  readonly #maker: BlobMaker;
  readonly #similar: SimilarChunks | undefined;
  /** What lies in the pack that is being filled. */
  readonly #pending = new Map<string, Blob>();
  #pack = new PackBuilder();
  #packs = 0;
  /** Bytes of blobs that were new: their contents, and as they are stored. */
  newBytes = 0;
  storedBytes = 0;

  /** `patches`: chunks may be stored as patches of others. */
  constructor(init: {
    tools: StoreTools;
    index: ChunkIndex;
    holder: Holder;
    level?: number | undefined;
    patches: boolean;
  }) {
    this.#tools = init.tools;
    this.#index = init.index;
    this.#holder = init.holder;
    const maker = new BlobMaker(init.tools, init.level);
    this.#maker = maker;
    if (init.patches) this.#similar = new SimilarChunks({ ...init, maker, pending: this.#pending });
  }

  /** A chunk that the store lacks, as a blob; undefined: it has it. May run for several contents at once. */
  async prepare(hash: Uint8Array, content: Uint8Array): Promise<Blob | undefined> {
    return this.#knows(hash) ? undefined : (this.#similar ?? this.#maker).make(hash, content);
  }

  /** Keeps a blob. */
  async put(blob: Blob): Promise<void> {
    if (this.#knows(blob.hash)) return;
    this.#pack.add(blob);
    this.#pending.set(hex(blob.hash), blob);
    await this.#similar?.learn(blob);
    this.newBytes += blob.contentBytes;
    this.storedBytes += blob.stored.byteLength;
    if (this.#pack.isFull) await this.flush();
  }

  /** Keeps a node of a tree, and answers its hash. */
  readonly write = async (content: Uint8Array): Promise<Uint8Array> => {
    const hash = this.#tools.sha256(content);
    if (!this.#knows(hash)) await this.put(await this.#maker.make(hash, content));
    return hash;
  };

  /** Makes everything that was put durable. */
  async flush(): Promise<void> {
    if (this.#pack.isEmpty) return;
    const name = `${PACKS}${this.#holder.id}-${this.#packs}`;
    const bytes = this.#pack.finish(this.#tools);
    const made = await this.#tools.objects.putIfAbsent(name, bytes);
    assert(made, "somebody else writes packs in our name");
    this.#index.add([await readPack(this.#tools, { name, bytes: bytes.byteLength, changedMs: 0 })]);
    this.#packs += 1;
    this.#pack = new PackBuilder();
    this.#pending.clear();
  }

  #knows(hash: Uint8Array): boolean {
    return this.#index.has(hash) || this.#pending.has(hex(hash));
  }
}

/** Writes the tree of a disk over the chunks of another, or of none. */
export class DiskWriter {
  readonly #blobs: BlobWriter;
  readonly #leaves: LeafTable;
  readonly #read: (hash: Uint8Array) => Promise<Uint8Array>;
  #at = -1;
  #leaf = new TreeNode();

  /** `leaves`: those of the disk that it begins as; `read`: reads its nodes. */
  constructor(blobs: BlobWriter, leaves: LeafTable, read: (hash: Uint8Array) => Promise<Uint8Array>) {
    this.#blobs = blobs;
    this.#leaves = leaves;
    this.#read = read;
  }

  /** Chunk number `chunk` is called `hash`; undefined: it is nothing but zeroes. Chunks come in ascending order. */
  async set(chunk: number, hash: Uint8Array | undefined): Promise<void> {
    const leaf = Math.floor(chunk / CHUNKS_OF_LEAF);
    if (leaf !== this.#at) await this.#turnTo(leaf);
    this.#leaf.set(chunk % CHUNKS_OF_LEAF, hash);
  }

  /** Nothing is left of the chunks from `chunk` on. */
  async truncate(chunk: number): Promise<void> {
    const first = Math.floor(chunk / CHUNKS_OF_LEAF);
    for (const { leaf } of [...this.#leaves.leaves()]) if (leaf > first) this.#leaves.set(leaf, undefined);
    if (first !== this.#at) await this.#turnTo(first);
    for (let at = chunk % CHUNKS_OF_LEAF; at < CHUNKS_OF_LEAF; at += 1) this.#leaf.set(at, undefined);
  }

  /** Writes what is left of the tree of a disk of `size` bytes, and makes all of it durable. */
  async finish(size: number): Promise<Root> {
    await this.#turnTo(-1);
    const root = await this.#leaves.save(size, this.#blobs.write);
    await this.#blobs.flush();
    return root;
  }

  async #turnTo(leaf: number): Promise<void> {
    assert(leaf === -1 || leaf >= this.#at, "chunks come in ascending order");
    if (this.#at >= 0) {
      const blob = this.#leaf.encode();
      this.#leaves.set(this.#at, blob && (await this.#blobs.write(blob)));
    }
    this.#at = leaf;
    if (leaf < 0) return;
    const hash = this.#leaves.get(leaf);
    this.#leaf = hash ? TreeNode.parse(await this.#read(hash)) : new TreeNode();
  }
}
