/**
 * What a file holds for good, and what was changed since the last flush: the power cut keeps the one whole, and of the
 * other any set of sectors, in order.
 *
 * Invariant: a change that was made before a flush began is durable when the flush has ended.
 */
import type { Dice } from "./dice.ts";

const SECTOR = 512;

type Change = { readonly offset: number; readonly data: Uint8Array } | { readonly size: number };

/** Bytes that grow as they are written. */
class Content {
  bytes: Uint8Array;
  size: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.size = bytes.byteLength;
  }

  resize(size: number): void {
    if (size > this.bytes.byteLength) {
      const bytes = new Uint8Array(size * 2);
      bytes.set(this.bytes.subarray(0, this.size));
      this.bytes = bytes;
    } else if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
  }

  write(offset: number, data: Uint8Array): void {
    this.resize(Math.max(this.size, offset + data.byteLength));
    this.bytes.set(data, offset);
  }
}

/** The journal of one file. */
export class Journal {
  readonly #durable: Content;
  readonly #changes: Change[] = [];
  #folded = 0;

  /** `bytes`: what the file holds now, all of it durable. */
  constructor(bytes: Uint8Array) {
    this.#durable = new Content(bytes.slice());
  }

  write(offset: number, data: Uint8Array): void {
    this.#changes.push({ offset, data: data.slice() });
  }

  resize(size: number): void {
    this.#changes.push({ size });
  }

  /** What a flush that begins now will cover. */
  mark(): number {
    return this.#folded + this.#changes.length;
  }

  /** The flush with this mark has ended. */
  flushed(mark: number): void {
    const count = Math.max(0, mark - this.#folded);
    for (const change of this.#changes.splice(0, count)) {
      if ("size" in change) this.#durable.resize(change.size);
      else this.#durable.write(change.offset, change.data);
    }
    this.#folded += count;
  }

  /** What is left after a power cut. */
  cut(dice: Dice): Uint8Array {
    const left = new Content(this.#durable.bytes.slice(0, this.#durable.size));
    const keepPercent = dice.pick([0, 50, 90, 100]);
    for (const change of this.#changes) {
      if ("size" in change) {
        if (dice.below(100) < keepPercent) left.resize(change.size);
        continue;
      }
      const { offset, data } = change;
      for (let from = offset; from < offset + data.byteLength;) {
        const to = Math.min(offset + data.byteLength, from - (from % SECTOR) + SECTOR);
        if (dice.below(100) < keepPercent) left.write(from, data.subarray(from - offset, to - offset));
        from = to;
      }
    }
    return left.bytes.slice(0, left.size);
  }
}
