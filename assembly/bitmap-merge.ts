/** Merging of bitmaps: bit by bit at one granularity, run by run between two. */
import {
  bitmapNextOne,
  bitmapNextZero,
  bitmapSet,
  blockOnes,
  blocksOf,
  nextInWords,
  summaryOf,
} from "./bitmap";

/** ORs `from` into `to`, both of `n` bits; returns how many bits of `to` changed. */
export function bitmapMerge(to: usize, n: u32, from: usize): u32 {
  const blocks = blocksOf(n);
  const summary = summaryOf(from, n);
  const target = summaryOf(to, n);
  let changed: u32 = 0;
  let block: u32 = 0;
  while (block < blocks) {
    block = nextInWords(summary, block, blocks);
    if (block == blocks) break;
    const a = to + ((<usize>block) << 6);
    const b = from + ((<usize>block) << 6);
    const before = blockOnes(a);
    v128.store(a, v128.or(v128.load(a, 0), v128.load(b, 0)), 0);
    v128.store(a, v128.or(v128.load(a, 16), v128.load(b, 16)), 16);
    v128.store(a, v128.or(v128.load(a, 32), v128.load(b, 32)), 32);
    v128.store(a, v128.or(v128.load(a, 48), v128.load(b, 48)), 48);
    changed += blockOnes(a) - before;
    block++;
  }
  const words: usize = (<usize>((blocks + 63) >>> 6)) << 3;
  for (let i: usize = 0; i < words; i += 8)
    store<u64>(target + i, load<u64>(target + i) | load<u64>(summary + i));
  return changed;
}

/**
 * ORs `from` (m bits) into `to` (n bits) of another granularity: bit i is bit i >> shift there, or for a negative shift
 * the 2^-shift bits from i << -shift on, as far as they exist. Returns how many bits of `to` changed.
 */
export function bitmapMergeScaled(to: usize, n: u32, from: usize, m: u32, shift: i32): u32 {
  let changed: u32 = 0;
  let at: u32 = 0;
  while (at < m) {
    at = bitmapNextOne(from, m, at, m);
    if (at == m) break;
    const stop = bitmapNextZero(from, m, at, m);
    const first: u64 = shift > 0 ? <u64>(at >>> shift) : (<u64>at) << -shift;
    let end: u64 = shift > 0 ? <u64>((stop - 1) >>> shift) + 1 : (<u64>stop) << -shift;
    if (end > n) end = n;
    if (first < end) changed += bitmapSet(to, n, <u32>first, <u32>(end - first));
    at = stop;
  }
  return changed;
}
