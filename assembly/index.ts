/**
 * The whole ABI of the kernels, on a page. Pointers and lengths go in, numbers come out.
 *
 * Invariants: no kernel allocates, keeps a pointer or calls out. Memory is imported (`env.memory`) and never grown from
 * here; everything below `dataStart()` is the module's own (tables, scratch), everything above is the caller's. Lengths
 * are below 2^31. Pointers need no alignment unless a line says so. A caller that passes a range outside of its memory
 * gets a trap.
 *
 *   dataStart()                                      first address that the caller may use
 *
 *   isZero(ptr, bytes)                               1 when every byte is 0 (also for no bytes)
 *   zeroRuns(ptr, bytes, shift, out, max)            zero granules of 2^shift bytes (>= 512), joined to (offset, bytes) pairs
 *   firstDifference(a, b, bytes)                     offset of the first byte that differs, or -1
 *   differenceRuns(a, b, bytes, shift, out, max)     differing granules of 2^shift bytes, joined to (offset, bytes) pairs
 *   copyAndTestZero(target, source, bytes)           copies (no overlap) and answers as isZero(source, bytes)
 *   crc32c(ptr, bytes, crc)                          CRC-32C; `crc` is the result so far, 0 at first
 *   xxh3(ptr, bytes)                                 XXH3-64, seed 0
 *   xxh3Begin(), xxh3Blocks(ptr, n), xxh3End(...)    the same for more than 240 bytes that come in pieces
 *   noise(ptr, bytes, low, high, at)                 fills with the words of a stream of noise, from number `at` on
 *
 * Run lists are arrays of u32 at `out` (4-aligned), at most `max` pairs; the number of pairs is returned, and a full list
 * says nothing about what follows its last pair.
 *
 * A bitmap of n bits (n <= 2^31) is a pointer to bitmapBytes(n) bytes, 64-aligned and zero at first; see bitmap.ts.
 *
 *   bitmapBytes(n)                                   bytes that it takes
 *   bitmapSet/Reset(map, n, first, count)            returns how many bits changed
 *   bitmapTest(map, i)                               0 or 1
 *   bitmapNextOne/NextZero(map, n, from, end)        the next such bit below end, or end
 *   bitmapExtents(map, n, from, end, out, max)       runs of ones as (first, count) pairs
 *   bitmapCount(map, n, from, end)                   number of ones
 *   bitmapMerge(to, n, from)                         to |= from, equal n; returns how many bits changed
 *   bitmapMergeScaled(to, n, from, m, shift)         the same between granularities: bit i of `from` is bit i >> shift of
 *                                                    `to` (shift > 0) or its bits i << -shift … (shift < 0)
 *   bitmapClear(map, n)                              all bits 0; cost follows the ones
 *   bitmapRebuild(map, n, first, count)              call it after writing these bits' bytes from outside
 */
import { END } from "./layout";

export function dataStart(): usize {
  return END;
}

export { isZero, zeroRuns } from "./is-zero";
export { firstDifference, differenceRuns } from "./compare";
export { copyAndTestZero } from "./copy";
export { crc32c } from "./crc32c";
export { xxh3, xxh3Begin, xxh3Blocks, xxh3End } from "./xxh3";
export { noise } from "./noise";
export {
  bitmapBytes,
  bitmapSet,
  bitmapReset,
  bitmapTest,
  bitmapNextOne,
  bitmapNextZero,
  bitmapExtents,
  bitmapCount,
  bitmapClear,
  bitmapRebuild,
} from "./bitmap";
export { bitmapMerge, bitmapMergeScaled } from "./bitmap-merge";
