/**
 * The kernels in WebAssembly with SIMD.
 *
 * One memory of fixed size holds, from the bottom: the binary's own data, a run list, two staging buffers, and the
 * arena's area. Views into that memory are worked on in place; others are staged in pieces, unless their first byte
 * already gives the answer.
 */
import { assert } from "../base/assert.ts";
import { KiB } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import type { KernelExports } from "./abi.ts";
import { checkGranule, checkLengths } from "./checks.ts";
import type { Bits, KernelArea, Kernels } from "./kernels.ts";
import { BitPool, SimdBits } from "./simd-bits.ts";
import type { NoiseKey } from "./twin-noise.ts";
import { joinGranules } from "./twin.ts";

/** Size of a staging buffer, bytes: fits into the second-level cache twice. A multiple of 1024. */
const STAGE = 256 * KiB;
/** Pairs that the run list holds. */
const PAIRS = 1024;

/** Makes an instance of the binary over a memory. */
export type Instantiate = (memory: WebAssembly.Memory) => KernelExports;

/** Bytes of memory below the arena's area, a multiple of 4096, when the binary's own data end at `dataStart`. */
export function reservedBytes(dataStart: number): number {
  return alignUp(dataStart + PAIRS * 8 + 2 * STAGE, 4 * KiB);
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
    this.#pairs = new Uint32Array(memory.buffer, base, PAIRS * 2);
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
      const wanted = Math.min(max - count + 1, PAIRS);
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
