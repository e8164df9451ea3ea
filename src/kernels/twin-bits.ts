/** The plain-TypeScript bit array: 32-bit words, no summary. Oracle of simd-bits.ts, and its stand-in without SIMD. */
import { assert } from "../base/assert.ts";
import { BlockError } from "../base/errors.ts";
import { mergeRuns } from "./joined-bits.ts";
import type { Bits } from "./kernels.ts";

/** Number of ones in a 32-bit word. */
function popcount(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

/** Index of the lowest one of a word that is not 0. */
function lowestOne(word: number): number {
  return 31 - Math.clz32(word & -word);
}

/** Bits of word `w` that lie in `first` … `end`. */
function maskOf(w: number, first: number, end: number): number {
  const low = Math.max(first - w * 32, 0);
  const high = Math.min(end - w * 32, 32);
  return ((-1 << low) & (-1 >>> (32 - high))) >>> 0;
}

/** See Bits. */
export class TwinBits implements Bits {
  readonly length: number;
  #words: Uint32Array;

  constructor(bits: number) {
    this.length = bits;
    try {
      this.#words = new Uint32Array(Math.ceil(bits / 32));
    } catch (cause) {
      throw new BlockError({ code: "ENOMEM", op: "bitmap", cause });
    }
  }

  set(first: number, count: number): number {
    return this.#change(first, count, true);
  }

  reset(first: number, count: number): number {
    return this.#change(first, count, false);
  }

  #change(first: number, count: number, value: boolean): number {
    const end = first + count;
    let changed = 0;
    for (let w = first >>> 5; w * 32 < end; w++) {
      const mask = maskOf(w, first, end);
      const old = this.#words[w]!;
      this.#words[w] = value ? old | mask : old & ~mask;
      changed += popcount(old ^ this.#words[w]!);
    }
    return changed;
  }

  test(index: number): boolean {
    return ((this.#words[index >>> 5]! >>> (index & 31)) & 1) === 1;
  }

  nextOne(from: number, end: number): number {
    return this.#next(from, end, 0);
  }

  nextZero(from: number, end: number): number {
    return this.#next(from, end, -1);
  }

  /** The next bit that differs from `background`'s bits (all 0 or all 1). */
  #next(from: number, end: number, background: number): number {
    for (let w = from >>> 5; w * 32 < end; w++) {
      const word = (this.#words[w]! ^ background) & maskOf(w, from, end);
      if (word !== 0) return w * 32 + lowestOne(word);
    }
    return end;
  }

  extents(from: number, end: number, out: Float64Array, unit: number): number {
    const max = Math.floor(out.length / 2);
    let count = 0;
    for (let at = from; count < max; count++) {
      const first = this.nextOne(at, end);
      if (first >= end) break;
      at = this.nextZero(first, end);
      out[2 * count] = first * unit;
      out[2 * count + 1] = (at - first) * unit;
    }
    return count;
  }

  count(from: number, end: number): number {
    let ones = 0;
    for (let w = from >>> 5; w * 32 < end; w++) ones += popcount(this.#words[w]! & maskOf(w, from, end));
    return ones;
  }

  merge(source: Bits, shift: number): number {
    assert(shift !== 0 || source.length === this.length, "bit arrays of different lengths");
    return mergeRuns(this, source, shift);
  }

  clear(): void {
    this.#words.fill(0);
  }

  read(at: number, target: Uint8Array): void {
    for (let i = 0; i < target.length; i++) {
      const byte = at + i;
      target[i] = this.#words[byte >>> 2]! >>> ((byte & 3) * 8);
    }
  }

  write(at: number, source: Uint8Array): void {
    for (let i = 0; i < source.length; i++) {
      const byte = at + i;
      const shift = (byte & 3) * 8;
      this.#words[byte >>> 2] = (this.#words[byte >>> 2]! & ~(255 << shift)) | (source[i]! << shift);
    }
    const padded = this.#words.length * 32;
    if (padded > this.length) this.reset(this.length, padded - this.length);
  }

  free(): void {
    this.#words = new Uint32Array(0);
  }
}
