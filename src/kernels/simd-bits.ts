/**
 * Bit arrays in WebAssembly memory. They live in an instance of their own, whose memory grows: it is used synchronously
 * only, so no view outlives a call, and the arena's memory stays where it is.
 *
 * Invariant: memory that no array holds is zero, so a new array costs nothing to clear; free() clears what was set.
 */
import { assert } from "../base/assert.ts";
import { BlockError } from "../base/errors.ts";
import { KiB, limits } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import type { KernelExports } from "./abi.ts";
import { JoinedBits, mergeRuns } from "./joined-bits.ts";
import { type Bits, MAX_BITS } from "./kernels.ts";
import { Spans } from "./spans.ts";

const WASM_PAGE = 64 * KiB;
/** Arrays begin at multiples of this, as the kernel wants. */
const UNIT = 64;
/** Runs that one call into the kernel fetches. */
const PAIRS = 1024;

/** The memory that all bit arrays of one set of kernels share. */
export class BitPool {
  readonly wasm: KernelExports;
  readonly #memory: WebAssembly.Memory;
  readonly #spans: Spans;
  readonly #base: number;
  /** The run list's address. */
  readonly list: number;
  #bytes: Uint8Array;
  #pairs: Float64Array;

  constructor(instantiate: (memory: WebAssembly.Memory) => KernelExports) {
    const maximum = limits.maxBitmapPoolBytes / WASM_PAGE;
    this.#memory = new WebAssembly.Memory({ initial: 2, maximum });
    this.wasm = instantiate(this.#memory);
    this.list = this.wasm.dataStart();
    this.#base = alignUp(this.list + PAIRS * 16, UNIT);
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#pairs = new Float64Array(this.#memory.buffer, this.list, PAIRS * 2);
    this.#spans = new Spans(Math.floor((this.#bytes.length - this.#base) / UNIT));
  }

  /** All of the memory. Fetch it anew for each use: it moves when the memory grows. */
  get bytes(): Uint8Array {
    return this.#bytes;
  }

  /** The run list; as `bytes`. */
  get pairs(): Float64Array {
    return this.#pairs;
  }

  /** The address of `bytes` zero bytes. Throws BlockError ENOMEM. */
  take(bytes: number): number {
    const units = Math.max(1, Math.ceil(bytes / UNIT));
    let unit = this.#spans.take(units);
    if (unit < 0) {
      this.#grow(units * UNIT);
      unit = this.#spans.take(units);
    }
    return this.#base + unit * UNIT;
  }

  /** Gives back what take() gave; it must be zero again. */
  give(address: number, bytes: number): void {
    this.#spans.give((address - this.#base) / UNIT, Math.max(1, Math.ceil(bytes / UNIT)));
  }

  /** By `bytes` at least, and by an eighth of what there is, so that many small arrays do not grow it each time. */
  #grow(bytes: number): void {
    const room = limits.maxBitmapPoolBytes - this.#bytes.length;
    const wanted = Math.min(alignUp(Math.max(bytes, this.#bytes.length / 8), WASM_PAGE), room);
    try {
      if (wanted < bytes) throw new RangeError("the memory for bitmaps is used up");
      this.#memory.grow(wanted / WASM_PAGE);
    } catch (cause) {
      const message = `Cannot allocate ${bytes} bytes for a bitmap`;
      throw new BlockError({ code: "ENOMEM", op: "bitmap", message, cause });
    }
    this.#bytes = new Uint8Array(this.#memory.buffer);
    this.#pairs = new Float64Array(this.#memory.buffer, this.list, PAIRS * 2);
    this.#spans.extend(Math.floor((this.#bytes.length - this.#base) / UNIT) - this.#spans.total);
  }
}

/** See Bits. */
export class SimdBits implements Bits {
  readonly length: number;
  readonly #pool: BitPool;
  readonly #wasm: KernelExports;
  readonly #map: number;
  readonly #bytes: number;

  constructor(pool: BitPool, bits: number) {
    assert(bits >= 0 && bits <= MAX_BITS, "too many bits");
    this.length = bits;
    this.#pool = pool;
    this.#wasm = pool.wasm;
    this.#bytes = pool.wasm.bitmapBytes(bits) >>> 0;
    this.#map = pool.take(this.#bytes);
  }

  set(first: number, count: number): number {
    return this.#wasm.bitmapSet(this.#map, this.length, first, count) >>> 0;
  }

  reset(first: number, count: number): number {
    return this.#wasm.bitmapReset(this.#map, this.length, first, count) >>> 0;
  }

  test(index: number): boolean {
    return this.#wasm.bitmapTest(this.#map, index) === 1;
  }

  nextOne(from: number, end: number): number {
    return this.#wasm.bitmapNextOne(this.#map, this.length, from, end) >>> 0;
  }

  nextZero(from: number, end: number): number {
    return this.#wasm.bitmapNextZero(this.#map, this.length, from, end) >>> 0;
  }

  extents(from: number, end: number, out: Float64Array, unit: number): number {
    const { pairs, list } = this.#pool;
    const max = out.length >>> 1;
    let count = 0;
    for (let at = from; count < max;) {
      const wanted = Math.min(PAIRS, max - count);
      const got = this.#wasm.bitmapExtents(this.#map, this.length, at, end, list, wanted, unit);
      out.set(got === PAIRS ? pairs : pairs.subarray(0, 2 * got), 2 * count);
      count += got;
      if (got < wanted) break;
      at = (pairs[2 * got - 2]! + pairs[2 * got - 1]!) / unit;
    }
    return count;
  }

  count(from: number, end: number): number {
    return this.#wasm.bitmapCount(this.#map, this.length, from, end) >>> 0;
  }

  merge(source: Bits, shift: number): number {
    if (source instanceof JoinedBits) return mergeRuns(this, source, shift);
    assert(source instanceof SimdBits && source.#pool === this.#pool, "bit arrays of different kernels");
    assert(shift !== 0 || source.length === this.length, "bit arrays of different lengths");
    if (shift === 0) return this.#wasm.bitmapMerge(this.#map, this.length, source.#map) >>> 0;
    return this.#wasm.bitmapMergeScaled(this.#map, this.length, source.#map, source.length, shift) >>> 0;
  }

  clear(): void {
    this.#wasm.bitmapClear(this.#map, this.length);
  }

  read(at: number, target: Uint8Array): void {
    const start = this.#map + at;
    target.set(this.#pool.bytes.subarray(start, start + target.length));
  }

  write(at: number, source: Uint8Array): void {
    this.#pool.bytes.set(source, this.#map + at);
    const first = at * 8;
    const count = Math.min(this.length - first, source.length * 8);
    this.#wasm.bitmapRebuild(this.#map, this.length, first, count);
  }

  free(): void {
    this.clear();
    this.#pool.give(this.#map, this.#bytes);
  }
}
