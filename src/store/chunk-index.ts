/**
 * Which blobs the store has, and where: a table in memory over the entries of all packs.
 *
 * Invariants: of several places of a blob the first one counts, and one where it is whole before patches; so the bases of patches, which
 * were whole when those were written, are found whole.
 */
import { blockError } from "../base/errors.ts";
import { HASH_BYTES, hex, lastUpTo } from "./tools.ts";
import { type PackIndex, type Place, WORDS_OF_ENTRY } from "./pack.ts";

/** Words of 32 bits of a hash. */
const HASH_WORDS = HASH_BYTES / 4;

/** A table of blobs by their hashes; 4 bytes a slot, at most half full. */
export class ChunkIndex {
  #slots = new Uint32Array(1024);
  /** Entry `n` of the table is the blob `index` of `pack`. */
  readonly #packs: PackIndex[] = [];
  readonly #first: number[] = [];
  #entries = 0;
  readonly #broken = new Set<string>();
  /** A hash that is looked for, and its words. */
  readonly #wanted = new Uint8Array(HASH_BYTES);
  readonly #words = new Uint32Array(this.#wanted.buffer);

  /** Packs in the table. */
  get packs(): readonly PackIndex[] {
    return this.#packs;
  }

  /** Takes packs in, in their order. What earlier ones hold stays theirs. */
  add(packs: readonly PackIndex[]): void {
    const entries = packs.reduce((sum, { count }) => sum + count, this.#entries);
    if (2 * entries > this.#slots.length) this.#grow(entries);
    for (const pack of packs) {
      this.#packs.push(pack);
      this.#first.push(this.#entries);
      this.#insert(pack, this.#entries);
      this.#entries += pack.count;
    }
  }

  /** The number of a blob, below `size`; undefined: it is nowhere. */
  numberOf(hash: Uint8Array): number | undefined {
    this.#wanted.set(hash);
    const entry = this.#slots[this.#slotOf(this.#words, 0)]!;
    const isBroken = entry > 0 && this.isBroken(hash) && this.#isPatch(entry - 1);
    return entry === 0 || isBroken ? undefined : entry - 1;
  }

  /** A patch that can't be read any more is not there: the blob has to be stored whole. */
  disown(hash: Uint8Array): void {
    this.#broken.add(hex(hash));
  }

  /** Whether a blob is there as such a patch, perhaps among others. */
  isBroken(hash: Uint8Array): boolean {
    return this.#broken.size > 0 && this.#broken.has(hex(hash));
  }

  /** Blobs in all packs. */
  get size(): number {
    return this.#entries;
  }

  /** The name of the blob that has a number. */
  hashOf(number: number): Uint8Array {
    const pack = this.#packOf(number);
    return this.#packs[pack]!.hash(number - this.#first[pack]!);
  }

  /** The number of the first blob of the pack at a place of `packs`. */
  firstOf(pack: number): number {
    return this.#first[pack]!;
  }

  /** Where a blob lies; undefined: nowhere. */
  find(hash: Uint8Array): Place | undefined {
    const number = this.numberOf(hash);
    if (number === undefined) return undefined;
    const pack = this.#packOf(number);
    return this.#packs[pack]!.place(number - this.#first[pack]!);
  }

  /** Throws EIO where a blob lies nowhere. */
  require(hash: Uint8Array): Place {
    const place = this.find(hash);
    if (!place) throw blockError("EIO", "chunk", `chunk ${hex(hash)} is missing`);
    return place;
  }

  has(hash: Uint8Array): boolean {
    return this.numberOf(hash) !== undefined;
  }

  #isPatch(entry: number): boolean {
    const at = this.#packOf(entry);
    return this.#packs[at]!.isPatch(entry - this.#first[at]!);
  }

  #insert(pack: PackIndex, first: number): void {
    const { words, count } = pack;
    for (let index = 0; index < count; index += 1) {
      const slot = this.#slotOf(words, index * WORDS_OF_ENTRY);
      const known = this.#slots[slot]!;
      if (known === 0 || (this.#isPatch(known - 1) && !pack.isPatch(index)))
        this.#slots[slot] = first + index + 1;
    }
  }

  /** Makes room for so many entries. */
  #grow(entries: number): void {
    let slots = this.#slots.length;
    while (slots < 2 * entries) slots *= 2;
    this.#slots = new Uint32Array(slots);
    for (const [at, pack] of this.#packs.entries()) this.#insert(pack, this.#first[at]!);
  }

  /** The slot that has the hash whose words begin at `at`, or the free one where it belongs. */
  #slotOf(words: Uint32Array, at: number): number {
    const mask = this.#slots.length - 1;
    let slot = words[at]! & mask;
    for (let entry = this.#slots[slot]!; entry !== 0; entry = this.#slots[slot]!) {
      const pack = this.#packOf(entry - 1);
      const other = (entry - 1 - this.#first[pack]!) * WORDS_OF_ENTRY;
      if (isSame(this.#packs[pack]!.words, other, words, at)) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  /** Which pack has an entry. */
  #packOf(entry: number): number {
    return lastUpTo(this.#first, entry);
  }
}

function isSame(a: Uint32Array, from: number, b: Uint32Array, at: number): boolean {
  for (let word = 0; word < HASH_WORDS; word += 1) if (a[from + word] !== b[at + word]) return false;
  return true;
}
