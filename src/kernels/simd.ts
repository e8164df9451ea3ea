/**
 * The kernels in WebAssembly with SIMD.
 *
 * One memory of fixed size holds, from the bottom: the binary's own data, a run list, two staging buffers, and the
 * arena's area. Views into that memory are worked on in place; others are staged in pieces, unless their first byte
 * already gives the answer.
 *
 * Bit arrays live in an instance of their own, whose memory grows: it is used synchronously
 * only, so no view outlives a call, and the arena's memory stays where it is.
 *
 * Invariant: memory that no array holds is zero, so a new array costs nothing to clear; free() clears what was set.
 *
 * Spans is a first-fit allocator in a range of units, lowest address first, with free neighbours joined. It keeps only
 * numbers: what lies in the spans is the caller's. The arena's slots and bitmaps are made of them.
 */
import { assert } from "../base/assert.ts";
import { KiB, limits } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import type { KernelExports } from "./abi.ts";
import { checkGranule, checkLengths } from "./checks.ts";
import { type Bits, type KernelArea, type Kernels, MAX_BITS } from "./kernels.ts";
import type { NoiseKey } from "./twin-noise.ts";
import { joinGranules } from "./twin.ts";
import { BlockError } from "../base/errors.ts";
import { JoinedBits, mergeRuns } from "./joined-bits.ts";

/** The free spans of `total` units; units are whatever the caller counts in. */
export class Spans {
  /** Starts of the free spans, ascending, and their lengths. */
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  #total: number;
  #free: number;

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
    if (total > 0) {
      this.#starts.push(0);
      this.#lengths.push(total);
    }
  }

  /** Units in all. */
  get total(): number {
    return this.#total;
  }

  /** Units that are free. */
  get free(): number {
    return this.#free;
  }

  /** Takes `units` (> 0) and returns their start, or -1 when no free span is long enough. */
  take(units: number): number {
    for (let i = 0; i < this.#lengths.length; i++) {
      const length = this.#lengths[i]!;
      if (length < units) continue;
      const start = this.#starts[i]!;
      if (length === units) {
        this.#starts.splice(i, 1);
        this.#lengths.splice(i, 1);
      } else {
        this.#starts[i] = start + units;
        this.#lengths[i] = length - units;
      }
      this.#free -= units;
      return start;
    }
    return -1;
  }

  /** Gives back what take() returned. */
  give(start: number, units: number): void {
    const end = start + units;
    let i = this.#starts.findIndex((other) => other >= start);
    if (i < 0) i = this.#starts.length;
    const before = i > 0 ? this.#starts[i - 1]! + this.#lengths[i - 1]! : 0;
    assert(units > 0 && end <= this.#total && before <= start, "span given back twice");
    assert(i === this.#starts.length || end <= this.#starts[i]!, "span given back twice");
    this.#free += units;
    const joinsNext = i < this.#starts.length && this.#starts[i] === end;
    if (i > 0 && before === start) {
      this.#lengths[i - 1]! += units + (joinsNext ? this.#lengths[i]! : 0);
      if (joinsNext) this.#remove(i);
    } else if (joinsNext) {
      this.#starts[i] = start;
      this.#lengths[i]! += units;
    } else {
      this.#starts.splice(i, 0, start);
      this.#lengths.splice(i, 0, units);
    }
  }

  /** Adds `units` free units at the end. */
  extend(units: number): void {
    const start = this.#total;
    this.#total += units;
    this.give(start, units);
  }

  #remove(i: number): void {
    this.#starts.splice(i, 1);
    this.#lengths.splice(i, 1);
  }
}

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

/** Size of a staging buffer, bytes: fits into the second-level cache twice. A multiple of 1024. */
const STAGE = 256 * KiB;
/** Pairs that the run list holds. */
const RUN_PAIRS = 1024;

/** Makes an instance of the binary over a memory. */
export type Instantiate = (memory: WebAssembly.Memory) => KernelExports;

/** Bytes of memory below the arena's area, a multiple of 4096, when the binary's own data end at `dataStart`. */
export function reservedBytes(dataStart: number): number {
  return alignUp(dataStart + RUN_PAIRS * 8 + 2 * STAGE, 4 * KiB);
}

/** See Kernels. */
export class SimdKernels implements Kernels {
  readonly kind = "simd";
  readonly area: KernelArea;
  readonly #wasm: KernelExports;
  readonly #instantiate: Instantiate;
  readonly #buffer: ArrayBuffer;
  readonly #memory: Uint8Array;
  readonly #pairs: Uint32Array;
  readonly #equals: ((a: Uint8Array, b: Uint8Array) => boolean) | undefined;
  readonly #stageA: number;
  readonly #stageB: number;
  #pool: BitPool | undefined;

  /** `memory` is never grown; `area` is a part of it that leaves what reservedBytes() says below. */
  constructor(
    memory: WebAssembly.Memory,
    area: KernelArea,
    platform: { instantiate: Instantiate; equals?: ((a: Uint8Array, b: Uint8Array) => boolean) | undefined },
  ) {
    const { instantiate } = platform;
    this.#equals = platform.equals;
    this.#instantiate = instantiate;
    this.#wasm = instantiate(memory);
    this.#buffer = memory.buffer;
    this.#memory = new Uint8Array(memory.buffer);
    const base = this.#wasm.dataStart();
    assert(reservedBytes(base) <= area.start, "the kernels' own data reach into the arena");
    this.#pairs = new Uint32Array(memory.buffer, base, RUN_PAIRS * 2);
    this.#stageB = area.start - STAGE;
    this.#stageA = this.#stageB - STAGE;
    this.area = area;
  }

  isZero(bytes: Uint8Array): boolean {
    if (bytes.buffer === this.#buffer) return this.#wasm.isZero(bytes.byteOffset, bytes.length) === 1;
    if (bytes.length > 0 && bytes[0] !== 0) return false;
    for (let at = 0; at < bytes.length; at += STAGE) {
      const size = Math.min(STAGE, bytes.length - at);
      if (this.#wasm.isZero(this.#stage(bytes, at, size), size) === 0) return false;
    }
    return true;
  }

  zeroRuns(bytes: Uint8Array, granule: number, out: Uint32Array): number {
    checkGranule(granule);
    const inPlace = bytes.buffer === this.#buffer;
    if (!inPlace && granule > STAGE) {
      return joinGranules(bytes.length, granule, out, (start, end) =>
        this.isZero(bytes.subarray(start, end)),
      );
    }
    const shift = shiftOf(granule);
    const list = this.#pairs.byteOffset;
    return this.#collect(out, bytes.length, inPlace, (at, size, max) =>
      this.#wasm.zeroRuns(this.#stage(bytes, at, size), size, shift, list, max),
    );
  }

  firstDifference(a: Uint8Array, b: Uint8Array): number {
    checkLengths(a, b);
    // Equal is the common answer, and the platform's memcmp gives it faster than 128-bit lanes can.
    if (this.#equals?.(a, b)) return -1;
    if (a.buffer === this.#buffer && b.buffer === this.#buffer) {
      return this.#wasm.firstDifference(a.byteOffset, b.byteOffset, a.length);
    }
    if (a.length > 0 && a[0] !== b[0]) return 0;
    for (let at = 0; at < a.length; at += STAGE) {
      const size = Math.min(STAGE, a.length - at);
      const left = this.#stage(a, at, size);
      const found = this.#wasm.firstDifference(left, this.#stageSecond(b, at, size), size);
      if (found >= 0) return at + found;
    }
    return -1;
  }

  differenceRuns(a: Uint8Array, b: Uint8Array, granule: number, out: Uint32Array): number {
    checkLengths(a, b);
    checkGranule(granule);
    const inPlace = a.buffer === this.#buffer && b.buffer === this.#buffer;
    if (!inPlace && granule > STAGE) {
      const differs = (start: number, end: number): boolean =>
        this.firstDifference(a.subarray(start, end), b.subarray(start, end)) >= 0;
      return joinGranules(a.length, granule, out, differs);
    }
    const shift = shiftOf(granule);
    const list = this.#pairs.byteOffset;
    return this.#collect(out, a.length, inPlace, (at, size, max) => {
      const left = this.#stage(a, at, size);
      return this.#wasm.differenceRuns(left, this.#stageSecond(b, at, size), size, shift, list, max);
    });
  }

  copy(target: Uint8Array, source: Uint8Array): void {
    checkLengths(target, source);
    target.set(source);
  }

  copyAndTestZero(target: Uint8Array, source: Uint8Array): boolean {
    checkLengths(target, source);
    if (target.buffer === this.#buffer && source.buffer === this.#buffer) {
      return this.#wasm.copyAndTestZero(target.byteOffset, source.byteOffset, source.length) === 1;
    }
    target.set(source);
    // Whichever lies in this memory needs no staging.
    return this.isZero(target.buffer === this.#buffer ? target : source);
  }

  crc32c(bytes: Uint8Array, crc = 0): number {
    if (bytes.buffer === this.#buffer) return this.#wasm.crc32c(bytes.byteOffset, bytes.length, crc) >>> 0;
    let result = crc;
    for (let at = 0; at < bytes.length; at += STAGE) {
      const size = Math.min(STAGE, bytes.length - at);
      result = this.#wasm.crc32c(this.#stage(bytes, at, size), size, result);
    }
    return result >>> 0;
  }

  xxh3(bytes: Uint8Array): bigint {
    const { length } = bytes;
    if (bytes.buffer === this.#buffer || length <= STAGE) {
      return BigInt.asUintN(64, this.#wasm.xxh3(this.#stage(bytes, 0, length), length));
    }
    const tail = (length - 1) & ~1023;
    this.#wasm.xxh3Begin();
    for (let at = 0; at < tail; at += STAGE) {
      const size = Math.min(STAGE, tail - at);
      this.#wasm.xxh3Blocks(this.#stage(bytes, at, size), size >>> 10);
    }
    // The last stripe may begin up to 64 bytes before the tail.
    const last = this.#stage(bytes, tail - 64, length - tail + 64);
    return BigInt.asUintN(64, this.#wasm.xxh3End(last + 64, length - tail, BigInt(length)));
  }

  noise(bytes: Uint8Array, key: NoiseKey, at: number): void {
    if (bytes.buffer === this.#buffer)
      return this.#wasm.noise(bytes.byteOffset, bytes.length, key.low, key.high, at);
    for (let done = 0; done < bytes.length; done += STAGE) {
      const size = Math.min(STAGE, bytes.length - done);
      this.#wasm.noise(this.#stageA, size, key.low, key.high, at + done / 4);
      bytes.set(this.#memory.subarray(this.#stageA, this.#stageA + size), done);
    }
  }

  createBits(bits: number): Bits {
    this.#pool ??= new BitPool(this.#instantiate);
    return new SimdBits(this.#pool, bits);
  }

  /** The address of a piece of `bytes`: its own, or that of a staged copy (`size` <= STAGE then). */
  #stage(bytes: Uint8Array, at: number, size: number): number {
    if (bytes.buffer === this.#buffer) return bytes.byteOffset + at;
    return this.#put(bytes, at, at + size, this.#stageA);
  }

  /** As #stage(), with the second buffer. */
  #stageSecond(bytes: Uint8Array, at: number, size: number): number {
    if (bytes.buffer === this.#buffer) return bytes.byteOffset + at;
    return this.#put(bytes, at, at + size, this.#stageB);
  }

  // oxlint-disable-next-line max-params -- hot: an object a call costs more than the copy of a sector
  #put(bytes: Uint8Array, start: number, end: number, address: number): number {
    this.#memory.set(end - start === bytes.length ? bytes : bytes.subarray(start, end), address);
    return address;
  }

  /**
   * Gathers runs into `out`, joining those that meet. `scan` looks at a piece and fills the run list with at most `max`
   * pairs, relative to the piece.
   */
  // oxlint-disable-next-line max-params -- private; each is of its own type
  #collect(
    out: Uint32Array,
    length: number,
    inPlace: boolean,
    scan: (at: number, size: number, max: number) => number,
  ): number {
    const max = out.length >>> 1;
    const pairs = this.#pairs;
    let count = 0;
    let runEnd = -1;
    for (let at = 0; at < length;) {
      const size = inPlace ? length - at : Math.min(STAGE, length - at);
      // One more than fits may still join the last.
      const wanted = Math.min(max - count + 1, RUN_PAIRS);
      const got = scan(at, size, wanted);
      for (let i = 0; i < 2 * got; i += 2) {
        const start = at + pairs[i]!;
        if (start === runEnd) out[2 * count - 1]! += pairs[i + 1]!;
        else {
          if (count === max) return count;
          out[2 * count] = start;
          out[2 * count + 1] = pairs[i + 1]!;
          count++;
        }
        runEnd = start + pairs[i + 1]!;
      }
      at = got === wanted ? runEnd : at + size;
    }
    return count;
  }
}

/** The exponent of a granule. */
function shiftOf(granule: number): number {
  return 31 - Math.clz32(granule);
}
