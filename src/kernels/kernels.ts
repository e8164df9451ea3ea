/**
 * The interface of the kernels: byte work that is worth WebAssembly. Two implementations answer alike, the SIMD one
 * (simd.ts) and its plain-TypeScript twin (twin.ts); load.ts chooses.
 *
 * Callers pass plain views. A view into `area` (the arena's memory) is worked on in place; any other is staged through a
 * scratch buffer in pieces. All kernels are synchronous and keep no reference to what they are given.
 */
import type { NoiseKey } from "./twin-noise.ts";

/** The memory that an Arena hands out: `bytes` bytes from `start` (4096-aligned) of a buffer that is never detached. */
export interface KernelArea {
  readonly buffer: ArrayBuffer;
  readonly start: number;
  readonly bytes: number;
}

/** The byte kernels. */
export interface Kernels {
  /** Which implementation this is. */
  readonly kind: "simd" | "twin";
  readonly area: KernelArea;

  /** Whether every byte is 0; true for no bytes. */
  isZero(bytes: Uint8Array): boolean;

  /**
   * Finds the zero granules and joins neighbours: writes (offset, bytes) pairs, in bytes of the view, to `out` and
   * returns how many pairs. `granule` is a power of two >= 512; the last granule may be short. When all of `out` was
   * used, go on with the subarray behind the last pair.
   */
  zeroRuns(bytes: Uint8Array, granule: number, out: Uint32Array): number;

  /** Offset of the first byte that differs, or -1. Both must have one length. */
  firstDifference(a: Uint8Array, b: Uint8Array): number;

  /** As zeroRuns(), for the granules in which `a` and `b` (of one length) differ. */
  differenceRuns(a: Uint8Array, b: Uint8Array, granule: number, out: Uint32Array): number;

  /** Copies `source` into `target` (of one length); they may overlap. */
  copy(target: Uint8Array, source: Uint8Array): void;

  /** Copies as copy() does, but the two must not overlap, and says whether `source` is all zero. */
  copyAndTestZero(target: Uint8Array, source: Uint8Array): boolean;

  /** CRC-32C (Castagnoli), 0 … 2^32-1. `crc` is the result for the bytes before these, 0 at first. */
  crc32c(bytes: Uint8Array, crc?: number): number;

  /** XXH3-64 with seed 0, 0n … 2^64-1. */
  xxh3(bytes: Uint8Array): bigint;

  /**
   * Fills `bytes` with the words (32 bits, little-endian) of a stream of noise from number `at` on: each follows from its
   * number, mod 2^32, and the key alone. Not for cryptography.
   */
  noise(bytes: Uint8Array, key: NoiseKey, at: number): void;

  /** A bit array of `bits` (0 … 2^31) zeros. Throws BlockError ENOMEM when the memory for bitmaps is used up. */
  createBits(bits: number): Bits;
}

/**
 * A bit array with fast scans: what Bitmap (bitmap.ts) is made of. Indices are 0 … length; ranges are checked by the
 * caller. After free() nothing else may be called.
 */
export interface Bits {
  readonly length: number;
  /** Sets `count` bits; returns how many were 0. */
  set(first: number, count: number): number;
  /** Clears `count` bits; returns how many were 1. */
  reset(first: number, count: number): number;
  test(index: number): boolean;
  /** The next 1 in `from` … `end`, or `end`. */
  nextOne(from: number, end: number): number;
  /** The next 0 in `from` … `end`, or `end`. */
  nextZero(from: number, end: number): number;
  /**
   * Runs of ones in `from` … `end` as (first, count) pairs, each times `unit`, as many as `out` holds; returns the pairs.
   */
  extents(from: number, end: number, out: Float64Array, unit: number): number;
  /** Number of ones in `from` … `end`. */
  count(from: number, end: number): number;
  /**
   * ORs another array of the same kernels in; returns how many bits changed. Bit i of `source` is bit i >> shift here,
   * or for a negative shift the 2^-shift bits from i << -shift on. With shift 0 the lengths must be equal.
   */
  merge(source: Bits, shift: number): number;
  /** All bits to 0, at a cost that follows the ones. */
  clear(): void;
  /** Copies the bits' bytes (bit i is bit i & 7 of byte i >> 3) from byte `at` on into `target`. */
  read(at: number, target: Uint8Array): void;
  /** The reverse of read(); bits at and beyond `length` are dropped. */
  write(at: number, source: Uint8Array): void;
  /** Gives the memory back. */
  free(): void;
}

/** Largest granule of zeroRuns() and differenceRuns(), bytes. */
export const MAX_GRANULE = 2 ** 30;

/** Most bits of one Bits. */
export const MAX_BITS = 2 ** 31;
