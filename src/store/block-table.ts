/**
 * Blocks of chunks that are looked for by their digests, in a table of so many at most. What it finds is a hint: whoever takes a block from
 * there looks at its bytes, or at those of the chunk that comes of it.
 */
import type { Note } from "./notes.ts";
import { BLOCK_BYTES, blockOf, blocksOf } from "./patch.ts";
import { lastUpTo, type StoreTools } from "./tools.ts";

/** Blocks that are known at most, in 64 MiB of memory: those of 16 GiB. */
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
export interface BlockPlace {
  /** The number of the chunk that has it, as it was added. */
  readonly owner: number;
  readonly block: number;
}

/** Words of a slot: a digest, and its entry and one; 0: the slot is free. */
const SLOT_WORDS = 2;

/** Blocks of owners, by their digests. */
export class BlockTable {
  #slots = new Uint32Array(SLOT_WORDS * 1024);
  #used = 0;
  #count = 0;
  /** Blocks from `first` on are those of the owner of the same place. */
  readonly #first: number[] = [];
  readonly #owners: number[] = [];

  /** Makes room for so many blocks, as far as they may be held. */
  reserve(blocks: number): void {
    let slots = this.#slots.length / SLOT_WORDS;
    while (2 * slots < 3 * Math.min(blocks, MAX_BLOCKS)) slots *= 2;
    if (SLOT_WORDS * slots > this.#slots.length) this.#resize(slots);
  }

  /** Takes an owner's blocks in; of equal ones the first is kept. Beyond what the table may hold nothing is. */
  add(owner: number, digests: Uint32Array): void {
    if (this.#count + digests.length > MAX_BLOCKS) return;
    this.reserve(this.#used + digests.length);
    this.#first.push(this.#count);
    this.#owners.push(owner);
    for (let at = 0; at < digests.length; at += 1) this.#insert(digests[at]!, this.#count + at + 1);
    this.#count += digests.length;
  }

  get isFull(): boolean {
    return this.#count + 16 > MAX_BLOCKS;
  }

  /** How many blocks with one of these digests it has: most chunks have none, and cost no more than this. */
  count(digests: Uint32Array): number {
    let count = 0;
    for (let at = 0; at < digests.length; at += 1) if (this.#entryOf(digests[at]!) !== 0) count += 1;
    return count;
  }

  find(digest: number): BlockPlace | undefined {
    const entry = this.#entryOf(digest);
    if (entry === 0) return undefined;
    const at = lastUpTo(this.#first, entry - 1);
    return { owner: this.#owners[at]!, block: entry - 1 - this.#first[at]! };
  }

  /** 0: it is not there. */
  #entryOf(digest: number): number {
    return digest === 0 ? 0 : this.#slots[this.#slotOf(digest) + 1]!;
  }

  #insert(digest: number, entry: number): void {
    if (digest === 0) return;
    const slot = this.#slotOf(digest);
    if (this.#slots[slot + 1] !== 0) return;
    this.#slots[slot] = digest;
    this.#slots[slot + 1] = entry;
    this.#used += 1;
  }

  #resize(slots: number): void {
    const before = this.#slots;
    this.#slots = new Uint32Array(SLOT_WORDS * slots);
    this.#used = 0;
    for (let at = 0; at < before.length; at += SLOT_WORDS)
      if (before[at + 1] !== 0) this.#insert(before[at]!, before[at + 1]!);
  }

  /** Where the slot begins that has a digest, or the free one where it belongs. */
  #slotOf(digest: number): number {
    const mask = this.#slots.length - 1;
    let slot = (digest << 1) & mask;
    while (this.#slots[slot + 1] !== 0 && this.#slots[slot] !== digest) slot = (slot + SLOT_WORDS) & mask;
    return slot;
  }
}
