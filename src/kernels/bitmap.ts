/**
 * A bitmap over a byte range, as QEMU's HBitmap: one bit for each granule, set when any byte of it is. All offsets are
 * bytes, 0 … length. Names and states of dirty bitmaps are the block layer's business (block/dirty-bitmap).
 *
 * Invariants: the number of set bits is kept with every change, so count() costs nothing. Cost in memory is one bit a
 * granule and a 512th; it is checked against limits.maxBitmapBytes before anything is allocated.
 */
import { assert } from "../base/assert.ts";
import { blockError } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { type ByteRange, isPowerOfTwo } from "../base/ranges.ts";
import { createLongBits } from "./joined-bits.ts";
import type { Bits, Kernels } from "./kernels.ts";

/** Runs that one pass asks the kernel for. */
const BATCH = 256;

/** One bit for each `granularity` bytes of `length` bytes. */
export class Bitmap {
  /** Bytes in a granule, a power of two. */
  readonly granularity: number;
  readonly #kernels: Kernels;
  /** Granules in a byte: a power of two, so that a product is as exact as the quotient. */
  readonly #perByte: number;
  #length: number;
  #bits: Bits;
  #ones = 0;
  #freed = false;

  /**
   * All clean. `lengthBytes` is any size up to limits.maxImageBytes. Throws BlockError EFBIG when the bits would take
   * more than limits.maxBitmapBytes, ENOMEM when the memory for bitmaps is used up.
   */
  constructor(lengthBytes: number, granularityBytes: number, kernels: Kernels) {
    assert(isPowerOfTwo(granularityBytes), "the granularity is no power of two");
    assert(
      granularityBytes >= limits.minGranularity && granularityBytes <= limits.maxBitmapGranularity,
      "the granularity is out of range",
    );
    this.granularity = granularityBytes;
    this.#perByte = 1 / granularityBytes;
    this.#length = lengthBytes;
    this.#kernels = kernels;
    this.#bits = createBits(kernels, lengthBytes, granularityBytes);
  }

  /** Bytes that the bitmap covers; the last granule may be short. */
  get length(): number {
    return this.#length;
  }

  /** Bytes of the serialized form: a bit a granule, rounded up. */
  get serializedBytes(): number {
    return Math.ceil(this.#bits.length / 8);
  }

  /** Dirty bytes, in whole granules (a short last one counts as a whole one, as QEMU counts it). */
  count(): number {
    return this.#ones * this.granularity;
  }

  /** Whether nothing is dirty. */
  get isEmpty(): boolean {
    return this.#ones === 0;
  }

  /** Marks every granule dirty that the range touches. */
  set(offset: number, bytes: number): void {
    this.#check(offset, bytes);
    if (bytes === 0) return;
    const first = this.#indexOf(offset);
    this.#ones += this.#bits.set(first, this.#indexOf(offset + bytes - 1) - first + 1);
  }

  /**
   * Marks the range clean. It must cover whole granules (offset aligned; the end aligned or the bitmap's end): cleaning a
   * part of a granule would lose the rest.
   */
  reset(offset: number, bytes: number): void {
    this.#check(offset, bytes);
    const end = offset + bytes;
    assert(offset % this.granularity === 0, "reset does not begin at a granule");
    assert(end % this.granularity === 0 || end === this.#length, "reset does not end at a granule");
    if (bytes === 0) return;
    const first = this.#indexOf(offset);
    this.#ones -= this.#bits.reset(first, this.#indexOf(end - 1) - first + 1);
  }

  /** Whether the granule that holds byte `offset` is dirty. */
  get(offset: number): boolean {
    this.#check(offset, 1);
    return this.#bits.test(this.#indexOf(offset));
  }

  /** The first dirty byte in `offset` … `end` (default: length), or -1. */
  nextDirty(offset: number, end: number = this.#length): number {
    const stop = this.#endIndex(offset, end);
    if (this.#ones === 0 || offset >= end) return -1;
    const found = this.#bits.nextOne(this.#indexOf(offset), stop);
    return found === stop ? -1 : Math.max(offset, found * this.granularity);
  }

  /** The first clean byte in `offset` … `end` (default: length), or -1. */
  nextZero(offset: number, end: number = this.#length): number {
    const stop = this.#endIndex(offset, end);
    if (offset >= end) return -1;
    const found = this.#bits.nextZero(this.#indexOf(offset), stop);
    return found === stop ? -1 : Math.max(offset, found * this.granularity);
  }

  /**
   * The dirty extents in `offset` … `end`, clipped to it, lowest first, at most `max`. The last of a full list may be
   * followed by more: go on at its end.
   */
  extents(offset: number, end: number, max: number): ByteRange[] {
    const found: ByteRange[] = [];
    const pairs = new Float64Array(Math.min(max, BATCH) * 2);
    for (let at = offset; found.length < max && at < end;) {
      const count = this.writeExtents(at, end, pairs);
      for (let i = 0; i < count && found.length < max; i++) {
        found.push({ offset: pairs[2 * i]!, bytes: pairs[2 * i + 1]! });
      }
      if (count * 2 < pairs.length) break;
      at = pairs[2 * count - 2]! + pairs[2 * count - 1]!;
    }
    return found;
  }

  /** As extents(), but writes (offset, bytes) pairs to `out`, as many as it holds, and returns how many. */
  writeExtents(offset: number, end: number, out: Float64Array): number {
    const stop = this.#endIndex(offset, end);
    if (this.#ones === 0 || offset >= end) return 0;
    const count = this.#bits.extents(this.#indexOf(offset), stop, out, this.granularity);
    if (count > 0) clip(out, count, offset, end);
    return count;
  }

  /** Marks dirty what `other` (of the same length, of any granularity) has dirty. */
  merge(other: Bitmap): void {
    assert(this.#length === other.#length, "bitmaps of different lengths do not merge");
    assert(this.#kernels === other.#kernels, "bitmaps of different kernels do not merge");
    const shift = Math.log2(this.granularity) - Math.log2(other.granularity);
    if (other.#ones > 0) this.#ones += this.#bits.merge(other.#bits, shift);
  }

  /** Marks everything clean. */
  clear(): void {
    if (this.#ones > 0) this.#bits.clear();
    this.#ones = 0;
  }

  /** Marks everything dirty. */
  setAll(): void {
    this.set(0, this.#length);
  }

  /** A copy with its own memory. */
  clone(): Bitmap {
    const copy = new Bitmap(this.#length, this.granularity, this.#kernels);
    copy.merge(this);
    return copy;
  }

  /**
   * Changes the length. What is cut off is forgotten; what is added is clean, but for the rest of a last granule that was
   * dirty. Throws as the constructor does, and then nothing has changed.
   */
  truncate(newLength: number): void {
    const bits = createBits(this.#kernels, newLength, this.granularity);
    const run = new Float64Array(2 * BATCH);
    let ones = 0;
    const common = Math.min(bits.length, this.#bits.length);
    for (let at = 0; at < common;) {
      const got = this.#bits.extents(at, common, run, 1);
      for (let i = 0; i < got; i++) ones += bits.set(run[2 * i]!, run[2 * i + 1]!);
      if (got < BATCH) break;
      at = run[2 * got - 2]! + run[2 * got - 1]!;
    }
    this.#bits.free();
    this.#bits = bits;
    this.#length = newLength;
    this.#ones = ones;
  }

  /** The bits as QEMU stores them: bit i is bit i & 7 of byte i >> 3. */
  serialize(): Uint8Array<ArrayBuffer> {
    const target = new Uint8Array(this.serializedBytes);
    this.serializePart(0, target);
    return target;
  }

  /** Writes the serialized form's bytes from byte `at` on to `target`; together within serializedBytes. */
  serializePart(at: number, target: Uint8Array): void {
    assert(at >= 0 && at + target.length <= this.serializedBytes, "part of a bitmap out of range");
    this.#bits.read(at, target);
  }

  /** Replaces everything by a serialized form of exactly serializedBytes; bits beyond the length are dropped. */
  deserialize(source: Uint8Array): void {
    assert(source.length === this.serializedBytes, "a serialized bitmap of the wrong size");
    this.deserializePart(0, source);
  }

  /** Replaces the serialized form's bytes from byte `at` on. */
  deserializePart(at: number, source: Uint8Array): void {
    assert(at >= 0 && at + source.length <= this.serializedBytes, "part of a bitmap out of range");
    const first = at * 8;
    const end = Math.min(this.#bits.length, first + source.length * 8);
    const before = this.#bits.count(first, end);
    this.#bits.write(at, source);
    this.#ones += this.#bits.count(first, end) - before;
  }

  /** Gives the memory back. Nothing else may be called after it; a second call does nothing. */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#bits.free();
  }

  #indexOf(offset: number): number {
    return Math.floor(offset * this.#perByte);
  }

  /** Checks a scan's range and returns the index behind its last granule. */
  #endIndex(offset: number, end: number): number {
    assert(!this.#freed, "the bitmap is freed");
    assert(offset >= 0 && end <= this.#length, "scan of a bitmap out of range");
    return Math.ceil(end / this.granularity);
  }

  #check(offset: number, bytes: number): void {
    assert(!this.#freed, "the bitmap is freed");
    assert(Number.isSafeInteger(offset) && Number.isSafeInteger(bytes), "range of a bitmap is no range");
    assert(offset >= 0 && bytes >= 0 && offset + bytes <= this.#length, "range of a bitmap out of range");
  }
}

/** Cuts what whole granules have before `offset` and from `end` on off the first and the last of `count` extents. */
function clip(pairs: Float64Array, count: number, offset: number, end: number): void {
  const before = Math.max(0, offset - pairs[0]!);
  pairs[0]! += before;
  pairs[1]! -= before;
  const last = 2 * count - 2;
  pairs[last + 1] = Math.min(pairs[last + 1]!, end - pairs[last]!);
}

function createBits(kernels: Kernels, lengthBytes: number, granularity: number): Bits {
  assert(Number.isSafeInteger(lengthBytes) && lengthBytes >= 0, "the length of a bitmap is no length");
  const bits = Math.ceil(lengthBytes / granularity);
  if (bits / 8 > limits.maxBitmapBytes) {
    const message =
      `A bitmap of ${lengthBytes} bytes at granularity ${granularity} takes more than ` +
      `${limits.maxBitmapBytes} bytes of memory: choose a larger granularity`;
    throw blockError("EFBIG", "bitmap", message);
  }
  return createLongBits(kernels, bits);
}
