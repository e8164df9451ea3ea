/**
 * Which blobs the store has, and where: a table in memory over the entries of all packs.
 *
 * Invariant: a blob that lies in several packs is found in one that is not condemned, where there is one.
 */
import { blockError } from "../base/errors.ts";
import { HASH_BYTES, hex } from "./tools.ts";
import type { PackIndex, Place } from "./pack.ts";

/** A table of blobs by their hashes; 4 bytes a slot, at most half full. */
export class ChunkIndex {
  #slots = new Uint32Array(1024);
  #used = 0;
  /** Entry `n` of the table is the blob `index` of `pack`. */
  readonly #packs: PackIndex[] = [];
  readonly #first: number[] = [];
  #entries = 0;

  /** Packs in the table. */
  get packs(): readonly PackIndex[] {
    return this.#packs;
  }

  /** Takes a pack in. What earlier ones hold stays theirs. */
  add(pack: PackIndex): void {
    this.#packs.push(pack);
    this.#first.push(this.#entries);
    this.#entries += pack.count;
    for (let index = 0; index < pack.count; index += 1)
      this.#insert(pack.hash(index), this.#entries - pack.count + index);
  }

  /** The number of a blob, below `size`; undefined: it is nowhere. */
  numberOf(hash: Uint8Array): number | undefined {
    const entry = this.#slots[this.#slotOf(hash)]!;
    return entry === 0 ? undefined : entry - 1;
  }

  /** Blobs in all packs. */
  get size(): number {
    return this.#entries;
  }

  /** Where a blob lies; undefined: nowhere. */
  find(hash: Uint8Array): Place | undefined {
    const number = this.numberOf(hash);
    if (number === undefined) return undefined;
    const { pack, index } = this.#entry(number);
    return pack.place(index);
  }

  /** Throws EIO where a blob lies nowhere. */
  require(hash: Uint8Array): Place {
    const place = this.find(hash);
    if (!place) throw blockError("EIO", "chunk", `chunk ${hex(hash)} is missing`);
    return place;
  }

  has(hash: Uint8Array): boolean {
    return this.#slots[this.#slotOf(hash)] !== 0;
  }

  #insert(hash: Uint8Array, entry: number): void {
    if (2 * (this.#used + 1) > this.#slots.length) this.#grow();
    const slot = this.#slotOf(hash);
    if (this.#slots[slot] !== 0) return;
    this.#slots[slot] = entry + 1;
    this.#used += 1;
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (const entry of old) {
      if (entry === 0) continue;
      const { pack, index } = this.#entry(entry - 1);
      this.#slots[this.#slotOf(pack.hash(index))] = entry;
    }
  }

  /** The slot that has the hash, or the free one where it belongs. */
  #slotOf(hash: Uint8Array): number {
    const mask = this.#slots.length - 1;
    let slot = (hash[0]! | (hash[1]! << 8) | (hash[2]! << 16) | (hash[3]! << 24)) & mask;
    for (let entry = this.#slots[slot]!; entry !== 0; entry = this.#slots[slot]!) {
      const { pack, index } = this.#entry(entry - 1);
      if (isSame(pack.hash(index), hash)) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #entry(entry: number): { pack: PackIndex; index: number } {
    let [low, high] = [0, this.#first.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#first[middle]! <= entry) low = middle;
      else high = middle - 1;
    }
    return { pack: this.#packs[low]!, index: entry - this.#first[low]! };
  }
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < HASH_BYTES; at += 1) if (a[at] !== b[at]) return false;
  return true;
}
