/**
 * Chunks of a backup that are wanted still, and where on the disk each belongs: 4 bytes for each chunk of the disk and each blob of the
 * store, so that a disk of a TiB needs some 130 MiB.
 */
import type { ChunkIndex } from "./chunk-index.ts";
import type { ChunkRef } from "./reader.ts";
import { hex } from "./tools.ts";

/** A chunk, and the numbers of the places where it lies, ascending. */
export interface ChunkPlaces {
  readonly hash: Uint8Array;
  readonly at: readonly number[];
}

/** Chunks by their hashes. */
export class WantedChunks {
  readonly #index: ChunkIndex;
  /** By a blob's number in the index: its last place and one; 0: it is not wanted. */
  readonly #last: Uint32Array;
  /** By a place: the one before with the same chunk, and one; 0: there is none. */
  readonly #before: Uint32Array;
  /** Of chunks that the store has lost. */
  readonly #lost = new Map<string, number>();
  #left = 0;

  /** For a disk of so many chunks. */
  constructor(index: ChunkIndex, chunks: number) {
    this.#index = index;
    this.#last = new Uint32Array(index.size);
    this.#before = new Uint32Array(chunks);
  }

  get isEmpty(): boolean {
    return this.#left === 0;
  }

  /** Places come in ascending order. */
  add(chunk: number, hash: Uint8Array): void {
    const last = this.#lastOf(hash);
    if (last === 0) this.#left += 1;
    this.#before[chunk] = last;
    this.#setLast(hash, chunk + 1);
  }

  /** The places where a chunk is wanted, ascending; it is wanted no more. */
  take(hash: Uint8Array): number[] {
    const places: number[] = [];
    for (let last = this.#lastOf(hash); last !== 0; last = this.#before[last - 1]!) places.push(last - 1);
    if (places.length === 0) return places;
    this.#left -= 1;
    this.#setLast(hash, 0);
    return places.reverse();
  }

  /** What is wanted still of a disk's chunks, which it is told once more, by their first places. */
  async *rest(chunks: AsyncIterable<ChunkRef>): AsyncGenerator<ChunkPlaces> {
    if (this.isEmpty) return;
    for await (const { hash } of chunks) {
      const at = this.take(hash);
      if (at.length > 0) yield { hash, at };
      if (this.isEmpty) return;
    }
  }

  #lastOf(hash: Uint8Array): number {
    const number = this.#index.numberOf(hash);
    return number === undefined ? (this.#lost.get(hex(hash)) ?? 0) : this.#last[number]!;
  }

  #setLast(hash: Uint8Array, last: number): void {
    const number = this.#index.numberOf(hash);
    if (number === undefined) this.#lost.set(hex(hash), last);
    else this.#last[number] = last;
  }
}

/** Where seeds have the store's blobs: 4 bytes for each of those. */
export class SeedPlaces {
  readonly #index: ChunkIndex;
  /** By a blob's number in the index: its place among all chunks of the seeds, and one; 0: none has it. */
  readonly #at: Uint32Array;

  constructor(index: ChunkIndex) {
    this.#index = index;
    this.#at = new Uint32Array(index.size);
  }

  add(hash: Uint8Array, place: number): void {
    const number = this.#index.numberOf(hash);
    if (number !== undefined) this.#at[number] = place + 1;
  }

  find(hash: Uint8Array): number | undefined {
    const number = this.#index.numberOf(hash);
    const at = number === undefined ? 0 : this.#at[number]!;
    return at === 0 ? undefined : at - 1;
  }
}
