/**
 * Reading a backup: its chunks in order, or a range of bytes.
 */
import { blockError, messageOf } from "../base/errors.ts";
import { BlobReader, type Elsewhere } from "./blobs.ts";
import type { ChunkIndex } from "./chunk-index.ts";
import { type Backup, rootOf } from "./description.ts";
import type { StoreTools } from "./tools.ts";
import { CHUNK_BYTES, LEAF_BYTES, LeafTable, TreeNode } from "./tree.ts";

const CHUNKS_OF_LEAF = LEAF_BYTES / CHUNK_BYTES;

/** A chunk that is not all zeroes. */
export interface ChunkRef {
  /** Its number: it lies at that many times CHUNK_BYTES. */
  readonly chunk: number;
  readonly hash: Uint8Array;
}

/** A disk as it was. Errors name the backup: EIO for what is missing or damaged. */
export class BackupReader {
  readonly #blobs: BlobReader;
  readonly #backup: Backup;
  #leaves: Promise<LeafTable> | undefined;
  /** The leaf that was looked at last: ranges are mostly asked for in order. */
  #last: { readonly leaf: number; readonly node: Promise<TreeNode | undefined> } | undefined;

  /** `elsewhere`: has chunks that others are built of. */
  constructor(tools: StoreTools, index: ChunkIndex, backup: Backup, elsewhere?: Elsewhere) {
    this.#blobs = new BlobReader(tools, index, elsewhere && { elsewhere });
    this.#backup = backup;
  }

  /** The content of a blob. */
  readonly blob = async (hash: Uint8Array): Promise<Uint8Array> => {
    try {
      return await this.#blobs.read(hash);
    } catch (error) {
      throw blockError("EIO", "backup", `backup ${this.#backup.id}: ${messageOf(error)}`);
    }
  };

  /** The leaves of its tree; `visit` is told the nodes above them. */
  leaves(visit?: (hash: Uint8Array) => void): Promise<LeafTable> {
    if (visit) return LeafTable.load(rootOf(this.#backup), this.blob, visit);
    return (this.#leaves ??= LeafTable.load(rootOf(this.#backup), this.blob).catch((error: unknown) => {
      this.#leaves = undefined;
      throw error;
    }));
  }

  /** Its chunks, ascending; `visit` is told the leaves too. */
  async *chunks(visit?: (hash: Uint8Array) => void): AsyncGenerator<ChunkRef> {
    for (const { leaf, hash } of (await this.leaves(visit)).leaves()) {
      visit?.(hash);
      const node = TreeNode.parse(await this.blob(hash));
      for (let child = 0; child < CHUNKS_OF_LEAF; child += 1) {
        const chunk = node.get(child);
        if (chunk) yield { chunk: leaf * CHUNKS_OF_LEAF + child, hash: chunk };
      }
    }
  }

  /** Whether what begins at `offset` is data, or zeroes that nobody needs to read, and how far that is so: 1 … `bytes`. */
  async extent(offset: number, bytes: number): Promise<{ data: boolean; bytes: number }> {
    const end = Math.min(offset + bytes, this.#backup.size);
    const chunk = Math.floor(offset / CHUNK_BYTES);
    const leaf = Math.floor(chunk / CHUNKS_OF_LEAF);
    const node = await this.#leaf(leaf);
    if (!node) return { data: false, bytes: Math.min(end, (leaf + 1) * LEAF_BYTES) - offset };
    const data = node.get(chunk % CHUNKS_OF_LEAF) !== undefined;
    let next = chunk + 1;
    while (next % CHUNKS_OF_LEAF !== 0 && (node.get(next % CHUNKS_OF_LEAF) !== undefined) === data) next += 1;
    return { data, bytes: Math.min(end, next * CHUNK_BYTES) - offset };
  }

  /** The bytes from `offset` on, at most `bytes`, fewer at the disk's end. */
  async read(offset: number, bytes: number): Promise<Uint8Array> {
    const end = Math.min(offset + bytes, this.#backup.size);
    const buffer = new Uint8Array(Math.max(0, end - offset));
    for (let at = offset; at < end;) {
      const chunk = Math.floor(at / CHUNK_BYTES);
      const node = await this.#leaf(Math.floor(chunk / CHUNKS_OF_LEAF));
      const next = Math.min((chunk + 1) * CHUNK_BYTES, end);
      const hash = node?.get(chunk % CHUNKS_OF_LEAF);
      if (hash) {
        const content = await this.blob(hash);
        const from = at - chunk * CHUNK_BYTES;
        buffer.set(content.subarray(from, from + next - at), at - offset);
      }
      at = next;
    }
    return buffer;
  }

  /** A leaf; undefined: nothing but zeroes. */
  #leaf(leaf: number): Promise<TreeNode | undefined> {
    if (this.#last?.leaf === leaf) return this.#last.node;
    const node = this.#readLeaf(leaf);
    const found = { leaf, node };
    this.#last = found;
    // What failed is tried again by whoever asks next.
    node.catch(() => {
      if (this.#last === found) this.#last = undefined;
    });
    return node;
  }

  async #readLeaf(leaf: number): Promise<TreeNode | undefined> {
    const hash = (await this.leaves()).get(leaf);
    return hash && TreeNode.parse(await this.blob(hash));
  }
}
