/**
 * The tree of a disk: which chunk lies where. Chunks have 64 KiB, a node has 64 children, what is nothing but zeroes has no chunk
 * and no node. Two disks that have a range alike share its nodes, so that a backup of what changed costs little more than that.
 *
 * A node as a blob: which children there are, a bit each (u64, little endian), then their SHA-256 in order.
 *
 * Invariants: the lowest level are leaves, whose children are chunks; all of them lie at one depth; a level above them is made
 * anew from the leaves whenever a tree is written, since what is there already costs nothing.
 */
import { blockError } from "../base/errors.ts";
import { KiB } from "../base/limits.ts";
import { HASH_BYTES } from "./tools.ts";

/** Bytes of a chunk; the last one of a disk may have fewer. */
export const CHUNK_BYTES = 64 * KiB;
const FANOUT = 64;
/** Bytes of a disk below one leaf. */
export const LEAF_BYTES = FANOUT * CHUNK_BYTES;
const NODE_BYTES = FANOUT * HASH_BYTES;
const BITMAP_BYTES = 8;

/** What the root of a tree is called; none: the disk is nothing but zeroes. */
export interface Root {
  readonly hash: Uint8Array | undefined;
  /** Levels of nodes: 1 for a root that is a leaf. */
  readonly depth: number;
}

/** The depth of a disk's tree. */
export function depthOf(size: number): number {
  let depth = 1;
  for (let bytes = LEAF_BYTES; bytes < size; bytes *= FANOUT) depth += 1;
  return depth;
}

/** 64 children: hashes, or zeroes where there is none. */
export class TreeNode {
  readonly #hashes: Uint8Array;

  constructor(hashes = new Uint8Array(NODE_BYTES)) {
    this.#hashes = hashes;
  }

  /** Reads a node's blob. Throws EIO. */
  static parse(blob: Uint8Array): TreeNode {
    const node = new TreeNode();
    if (blob.byteLength < BITMAP_BYTES) throw malformed();
    let at = BITMAP_BYTES;
    for (let child = 0; child < FANOUT; child += 1) {
      if (!((blob[child >> 3]! >> (child & 7)) & 1)) continue;
      if (at + HASH_BYTES > blob.byteLength) throw malformed();
      node.#hashes.set(blob.subarray(at, at + HASH_BYTES), child * HASH_BYTES);
      at += HASH_BYTES;
    }
    if (at !== blob.byteLength) throw malformed();
    return node;
  }

  /** A child's hash; undefined: nothing but zeroes. */
  get(child: number): Uint8Array | undefined {
    const hash = this.#hashes.subarray(child * HASH_BYTES, (child + 1) * HASH_BYTES);
    return hash.some((byte) => byte !== 0) ? hash : undefined;
  }

  set(child: number, hash: Uint8Array | undefined): void {
    const at = child * HASH_BYTES;
    if (hash) this.#hashes.set(hash, at);
    else this.#hashes.fill(0, at, at + HASH_BYTES);
  }

  copy(): TreeNode {
    return new TreeNode(this.#hashes.slice());
  }

  /** The node as a blob; undefined where it has no children. */
  encode(): Uint8Array | undefined {
    const present = Array.from({ length: FANOUT }, (_, child) => child).filter((child) => this.get(child));
    if (present.length === 0) return undefined;
    const blob = new Uint8Array(BITMAP_BYTES + present.length * HASH_BYTES);
    present.forEach((child, index) => {
      blob[child >> 3]! |= 1 << (child & 7);
      blob.set(this.get(child)!, BITMAP_BYTES + index * HASH_BYTES);
    });
    return blob;
  }
}

function malformed(): Error {
  return blockError("EIO", "tree", "a node of a tree is malformed");
}

type Read = (hash: Uint8Array) => Promise<Uint8Array>;
type Write = (blob: Uint8Array) => Promise<Uint8Array>;

/** The hashes of a disk's leaves, by their numbers. Memory follows the data: 2 KiB for what has data in 256 MiB. */
export class LeafTable {
  readonly #nodes = new Map<number, TreeNode>();

  get(leaf: number): Uint8Array | undefined {
    return this.#nodes.get(Math.floor(leaf / FANOUT))?.get(leaf % FANOUT);
  }

  set(leaf: number, hash: Uint8Array | undefined): void {
    const at = Math.floor(leaf / FANOUT);
    const node = this.#nodes.get(at);
    if (node) node.set(leaf % FANOUT, hash);
    else if (hash) {
      const made = new TreeNode();
      made.set(leaf % FANOUT, hash);
      this.#nodes.set(at, made);
    }
  }

  /** The leaves that there are, ascending. */
  *leaves(): Generator<{ leaf: number; hash: Uint8Array }> {
    for (const at of [...this.#nodes.keys()].sort((a, b) => a - b)) {
      for (let child = 0; child < FANOUT; child += 1) {
        const hash = this.#nodes.get(at)!.get(child);
        if (hash) yield { leaf: at * FANOUT + child, hash };
      }
    }
  }

  /** Reads the leaves of a tree; `visit` is told every node above them. Throws what `read` throws, EIO for nodes that are none. */
  static async load(root: Root, read: Read, visit?: (hash: Uint8Array) => void): Promise<LeafTable> {
    const table = new LeafTable();
    const walk = async (hash: Uint8Array, level: number, first: number): Promise<void> => {
      if (level === 1) return table.set(first, hash);
      visit?.(hash);
      const node = TreeNode.parse(await read(hash));
      for (let child = 0; child < FANOUT; child += 1) {
        const below = node.get(child);
        if (below) await walk(below, level - 1, first * FANOUT + child);
      }
    };
    if (root.hash) await walk(root.hash, root.depth, 0);
    return table;
  }

  /** Writes the levels above the leaves of a disk of `size` bytes; `write` keeps a blob and answers its hash. */
  async save(size: number, write: Write): Promise<Root> {
    const depth = depthOf(size);
    if (depth === 1) return { hash: this.get(0), depth };
    let level = new Map(this.#nodes);
    for (let at = 2; at < depth; at += 1) level = await parents(level, write);
    const blob = level.get(0)?.encode();
    return { hash: blob && (await write(blob)), depth };
  }
}

async function parents(level: ReadonlyMap<number, TreeNode>, write: Write): Promise<Map<number, TreeNode>> {
  const above = new Map<number, TreeNode>();
  for (const [at, node] of [...level].sort(([a], [b]) => a - b)) {
    const blob = node.encode();
    if (!blob) continue;
    const parent = above.get(Math.floor(at / FANOUT)) ?? new TreeNode();
    parent.set(at % FANOUT, await write(blob));
    above.set(Math.floor(at / FANOUT), parent);
  }
  return above;
}
