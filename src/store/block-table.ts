/**
 * Blocks of chunks that are looked for by their digests: a table of 12 bytes a block, of so many at most. What it finds is a hint: whoever
 * takes a block from there looks at its bytes, or at those of the chunk that comes of it.
 */
import type { Note } from "./notes.ts";
import { BLOCK_BYTES, blockOf, blocksOf } from "./patch.ts";
import { lastUpTo, type StoreTools } from "./tools.ts";

/** Blocks that are known at most, each 12 bytes of memory: those of 16 GiB. */
const MAX_BLOCKS = 2 ** 22;

let digestOfZeroes: number | undefined;

/** The digests of a content's blocks; 0 for zeroes, which cost nothing anyway, and for a part. */
function digestsOf(content: Uint8Array, xxh3: StoreTools["xxh3"]): Uint32Array {
  const digest = (block: Uint8Array): number => Number(BigInt.asUintN(32, xxh3(block)));
  const nothing = (digestOfZeroes ??= digest(new Uint8Array(BLOCK_BYTES)));
  const digests = new Uint32Array(blocksOf(content.byteLength));
  for (let at = 0; at < digests.length; at += 1) {
    const block = blockOf(content, at);
    const found = block.byteLength < BLOCK_BYTES ? nothing : digest(block);
    digests[at] = found === nothing ? 0 : found;
  }
  return digests;
}

/** What is noted of a chunk that is whole; of a short one, and of nodes of trees, nothing is. */
export function noteOf(content: Uint8Array, xxh3: StoreTools["xxh3"]): Note {
  return content.byteLength < 2 * BLOCK_BYTES ? {} : { blocks: digestsOf(content, xxh3) };
}

/** Where a block may lie. */
export interface BlockPlace<Owner> {
  readonly owner: Owner;
  readonly block: number;
}

/** Blocks of owners, by their digests. */
export class BlockTable<Owner> {
  #slots = new Uint32Array(1024);
  #digests = new Uint32Array(512);
  #count = 0;
  /** Blocks from `first` on are those of the owner of the same place. */
  readonly #first: number[] = [];
  readonly #owners: Owner[] = [];

  /** Takes an owner's blocks in; of equal ones the first is kept. Beyond what the table may hold nothing is. */
  add(owner: Owner, digests: Uint32Array): void {
    if (this.#count + digests.length > MAX_BLOCKS) return;
    this.#first.push(this.#count);
    this.#owners.push(owner);
    for (let at = 0; at < digests.length; at += 1) this.#append(digests[at]!);
  }

  get isFull(): boolean {
    return this.#count + 16 > MAX_BLOCKS;
  }

  /** How many blocks with one of these digests it has: most chunks have none, and cost no more than this. */
  count(digests: Uint32Array): number {
    let count = 0;
    for (let at = 0; at < digests.length; at += 1)
      if (digests[at] !== 0 && this.#slots[this.#slotOf(digests[at]!)] !== 0) count += 1;
    return count;
  }

  find(digest: number): BlockPlace<Owner> | undefined {
    const entry = digest === 0 ? 0 : this.#slots[this.#slotOf(digest)]!;
    if (entry === 0) return undefined;
    const at = lastUpTo(this.#first, entry - 1);
    return { owner: this.#owners[at]!, block: entry - 1 - this.#first[at]! };
  }

  #append(digest: number): void {
    if (this.#count === this.#digests.length) this.#grow();
    this.#digests[this.#count] = digest;
    this.#count += 1;
    this.#insert(this.#count - 1);
  }

  #insert(entry: number): void {
    const digest = this.#digests[entry]!;
    if (digest === 0) return;
    const slot = this.#slotOf(digest);
    if (this.#slots[slot] === 0) this.#slots[slot] = entry + 1;
  }

  #grow(): void {
    const digests = new Uint32Array(2 * this.#digests.length);
    digests.set(this.#digests);
    this.#digests = digests;
    this.#slots = new Uint32Array(2 * digests.length);
    for (let entry = 0; entry < this.#count; entry += 1) this.#insert(entry);
  }

  /** The slot that has a digest, or the free one where it belongs. */
  #slotOf(digest: number): number {
    const mask = this.#slots.length - 1;
    let slot = digest & mask;
    for (let entry = this.#slots[slot]!; entry !== 0; entry = this.#slots[slot]!) {
      if (this.#digests[entry - 1] === digest) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }
}
