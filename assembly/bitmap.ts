/**
 * Bitmaps: flat bits in 64-bit little-endian words, with one summary bit for each block of 512 bits.
 *
 * Layout: the bits, padded to whole blocks (64 bytes), then the summary, padded to whole words.
 * Invariants: bits at and beyond n are 0. A clear summary bit means that its block is all zero; a set one means that
 * the block may hold ones (a scan that finds none clears it).
 */

/** Bytes that a bitmap of `n` bits takes, a multiple of 64. */
export function bitmapBytes(n: u32): u32 {
  const blocks = (n + 511) >>> 9;
  return (blocks << 6) + (((blocks + 511) >>> 9) << 6);
}

/** Number of blocks of `n` bits. */
export function blocksOf(n: u32): u32 {
  return (n + 511) >>> 9;
}

/** Where the summary of a bitmap begins. */
export function summaryOf(map: usize, n: u32): usize {
  return map + ((<usize>blocksOf(n)) << 6);
}

/** Address of the word that holds bit `i`. */
function wordAt(words: usize, i: u32): usize {
  return words + ((<usize>(i >>> 6)) << 3);
}

/** Bits of a word from bit `i & 63` on. */
function maskFrom(i: u32): u64 {
  return (<u64>-1) << (i & 63);
}

/** Bits of a word up to and including bit `i & 63`. */
function maskTo(i: u32): u64 {
  return <u64>-1 >>> (63 - (i & 63));
}

/** ORs `mask` into a word and returns how many bits that set. */
function setWord(word: usize, mask: u64): u32 {
  const old = load<u64>(word);
  store<u64>(word, old | mask);
  return <u32>popcnt(mask & ~old);
}

/** Clears `mask` in a word and returns how many bits that cleared. */
function resetWord(word: usize, mask: u64): u32 {
  const old = load<u64>(word);
  store<u64>(word, old & ~mask);
  return <u32>popcnt(mask & old);
}

/** Sets bits first … last (inclusive); returns how many were 0. */
function setBits(words: usize, first: u32, last: u32): u32 {
  let word = wordAt(words, first);
  const lastWord = wordAt(words, last);
  if (word == lastWord) return setWord(word, maskFrom(first) & maskTo(last));
  let changed = setWord(word, maskFrom(first));
  for (word += 8; word < lastWord; word += 8) {
    changed += 64 - <u32>popcnt(load<u64>(word));
    store<u64>(word, -1);
  }
  return changed + setWord(word, maskTo(last));
}

/** Clears bits first … last (inclusive); returns how many were 1. */
function resetBits(words: usize, first: u32, last: u32): u32 {
  let word = wordAt(words, first);
  const lastWord = wordAt(words, last);
  if (word == lastWord) return resetWord(word, maskFrom(first) & maskTo(last));
  let changed = resetWord(word, maskFrom(first));
  for (word += 8; word < lastWord; word += 8) {
    changed += <u32>popcnt(load<u64>(word));
    store<u64>(word, 0);
  }
  return changed + resetWord(word, maskTo(last));
}

/** Number of ones in a block. */
export function blockOnes(block: usize): u32 {
  return <u32>(
    (popcnt(load<u64>(block, 0)) +
      popcnt(load<u64>(block, 8)) +
      popcnt(load<u64>(block, 16)) +
      popcnt(load<u64>(block, 24)) +
      popcnt(load<u64>(block, 32)) +
      popcnt(load<u64>(block, 40)) +
      popcnt(load<u64>(block, 48)) +
      popcnt(load<u64>(block, 56)))
  );
}

function zeroBlock(block: usize): void {
  const zero = i64x2.splat(0);
  v128.store(block, zero, 0);
  v128.store(block, zero, 16);
  v128.store(block, zero, 32);
  v128.store(block, zero, 48);
}

/** The next set bit of `words` at or after `from` and below `end` (> from), or `end`, by words alone. */
export function nextInWords(words: usize, from: u32, end: u32): u32 {
  let word = wordAt(words, from);
  const lastWord = wordAt(words, end - 1);
  let bits = load<u64>(word) & maskFrom(from);
  while (!bits) {
    word += 8;
    if (word > lastWord) return end;
    bits = load<u64>(word);
  }
  const found = ((<u32>(word - words)) << 3) + <u32>ctz(bits);
  return found < end ? found : end;
}

/** Sets `count` bits from `first`; returns how many were 0. */
export function bitmapSet(map: usize, n: u32, first: u32, count: u32): u32 {
  if (!count) return 0;
  const last = first + count - 1;
  const word = wordAt(map, first);
  if (word != wordAt(map, last)) {
    setBits(summaryOf(map, n), first >>> 9, last >>> 9);
    return setBits(map, first, last);
  }
  const mask = maskFrom(first) & maskTo(last);
  const old = load<u64>(word);
  if ((old & mask) == mask) return 0;
  store<u64>(word, old | mask);
  const summary = wordAt(summaryOf(map, n), first >>> 9);
  store<u64>(summary, load<u64>(summary) | ((<u64>1) << ((first >>> 9) & 63)));
  return <u32>popcnt(mask & ~old);
}

/** Clears `count` bits from `first`; returns how many were 1. Whole empty blocks cost nothing. */
export function bitmapReset(map: usize, n: u32, first: u32, count: u32): u32 {
  const end = first + count;
  const blockEnd = end >>> 9;
  let block = (first + 511) >>> 9;
  if (!count) return 0;
  if (block >= blockEnd) return resetBits(map, first, end - 1);
  let changed: u32 = 0;
  if (first & 511) changed = resetBits(map, first, (block << 9) - 1);
  if (end & 511) changed += resetBits(map, blockEnd << 9, end - 1);
  const summary = summaryOf(map, n);
  const firstBlock = block;
  while (block < blockEnd) {
    block = nextInWords(summary, block, blockEnd);
    if (block == blockEnd) break;
    const at = map + ((<usize>block) << 6);
    changed += blockOnes(at);
    zeroBlock(at);
    block++;
  }
  resetBits(summary, firstBlock, blockEnd - 1);
  return changed;
}

/** Bit `i`. */
export function bitmapTest(map: usize, i: u32): bool {
  return ((load<u64>(wordAt(map, i)) >>> (i & 63)) & 1) != 0;
}

/** The next 1 at or after `from` and below `end`, or `end`. */
export function bitmapNextOne(map: usize, n: u32, from: u32, end: u32): u32 {
  if (from >= end) return end;
  // The rest of the first block by its words, the others by the summary.
  const boundary = (from | 511) + 1;
  const near = boundary < end ? boundary : end;
  let found = nextInWords(map, from, near);
  if (found < near || near == end) return found;
  const summary = summaryOf(map, n);
  const blockEnd = blocksOf(end);
  let block = near >>> 9;
  while (block < blockEnd) {
    block = nextInWords(summary, block, blockEnd);
    if (block == blockEnd) break;
    const first = block << 9;
    found = nextInWords(map, first, first + 512);
    if (found < first + 512) return found < end ? found : end;
    resetBits(summary, block, block);
    block++;
  }
  return end;
}

/** The next 0 at or after `from` and below `end`, or `end`. */
export function bitmapNextZero(map: usize, n: u32, from: u32, end: u32): u32 {
  if (from >= end) return end;
  let word = wordAt(map, from);
  const lastWord = wordAt(map, end - 1);
  let zeros = ~load<u64>(word) & maskFrom(from);
  while (!zeros) {
    word += 8;
    // Whole blocks of ones are passed by vectors.
    if (!((word - map) & 63)) {
      while (word + 64 <= lastWord && allOnes(word)) word += 64;
    }
    if (word > lastWord) return end;
    zeros = ~load<u64>(word);
  }
  const found = ((<u32>(word - map)) << 3) + <u32>ctz(zeros);
  return found < end ? found : end;
}

/** Whether a block holds ones only. */
function allOnes(block: usize): bool {
  const both = v128.and(
    v128.and(v128.load(block, 0), v128.load(block, 16)),
    v128.and(v128.load(block, 32), v128.load(block, 48)),
  );
  return i8x16.all_true(i8x16.eq(both, i8x16.splat(-1)));
}

/** Writes a run as a pair, in units of `unit`, and returns where the next pair goes. */
function storeRun(pair: usize, first: u32, end: u32, unit: f64): usize {
  store<f64>(pair, <f64>first * unit);
  store<f64>(pair, <f64>(end - first) * unit, 8);
  return pair + 16;
}

/**
 * Runs of ones in from … end, clipped to it, as (first × unit, count × unit) pairs of f64; at most `max`. A word's runs are found at once: bits
 * of `starts` and `ends` are where one begins and where one is over, and they follow each other in turn.
 */
export function bitmapExtents(map: usize, n: u32, from: u32, end: u32, out: usize, max: u32, unit: f64): u32 {
  let first = max ? bitmapNextOne(map, n, from, end) : end;
  if (first >= end) return 0;
  const lastWord = wordAt(map, end - 1);
  const full = out + ((<usize>max) << 4);
  let pair = out;
  let word = wordAt(map, first);
  let bits = load<u64>(word) & maskFrom(first);
  let open: u64 = 0;
  for (;;) {
    if (word == lastWord) bits &= maskTo(end - 1);
    const before = (bits << 1) | open;
    let starts = bits & ~before;
    let ends = before & ~bits;
    const base = (<u32>(word - map)) << 3;
    if (open && ends) {
      pair = storeRun(pair, first, base + <u32>ctz(ends), unit);
      ends &= ends - 1;
      open = 0;
      if (pair == full) break;
    }
    while (starts) {
      first = base + <u32>ctz(starts);
      starts &= starts - 1;
      if (!ends) {
        open = 1;
        break;
      }
      pair = storeRun(pair, first, base + <u32>ctz(ends), unit);
      ends &= ends - 1;
      if (pair == full) return max;
    }
    if (word == lastWord) break;
    word += 8;
    bits = load<u64>(word);
    if (open ? !~bits : !bits) {
      // A run or a gap that goes on: by blocks.
      const next = (<u32>(word - map)) << 3;
      const found = open ? bitmapNextZero(map, n, next, end) : bitmapNextOne(map, n, next, end);
      if (found == end) break;
      word = wordAt(map, found);
      bits = load<u64>(word);
    }
  }
  if (open) pair = storeRun(pair, first, end, unit);
  return <u32>(pair - out) >>> 4;
}

/** Number of ones in from … end. */
export function bitmapCount(map: usize, n: u32, from: u32, end: u32): u32 {
  if (from >= end) return 0;
  let ones: u32 = 0;
  const summary = summaryOf(map, n);
  const blockEnd = blocksOf(end);
  let block = from >>> 9;
  while (block < blockEnd) {
    block = nextInWords(summary, block, blockEnd);
    if (block == blockEnd) break;
    const first = block << 9;
    if (first >= from && first + 512 <= end) ones += blockOnes(map + ((<usize>block) << 6));
    else ones += onesBetween(map, first > from ? first : from, first + 512 < end ? first + 512 : end);
    block++;
  }
  return ones;
}

/** Number of ones in from … end (> from), by words. */
function onesBetween(map: usize, from: u32, end: u32): u32 {
  let word = wordAt(map, from);
  const lastWord = wordAt(map, end - 1);
  let mask = maskFrom(from);
  let ones: u32 = 0;
  for (; word < lastWord; word += 8) {
    ones += <u32>popcnt(load<u64>(word) & mask);
    mask = -1;
  }
  return ones + <u32>popcnt(load<u64>(word) & mask & maskTo(end - 1));
}

/** Clears everything, at a cost that follows the ones. */
export function bitmapClear(map: usize, n: u32): void {
  const summary = summaryOf(map, n);
  const blocks = blocksOf(n);
  let block: u32 = 0;
  while (block < blocks) {
    block = nextInWords(summary, block, blocks);
    if (block == blocks) break;
    zeroBlock(map + ((<usize>block) << 6));
    block++;
  }
  memory.fill(summary, 0, (<usize>((blocks + 63) >>> 6)) << 3);
}

/** Restores the invariants after the bytes of `count` bits from `first` were written from outside. */
export function bitmapRebuild(map: usize, n: u32, first: u32, count: u32): void {
  if (!count) return;
  const blocks = blocksOf(n);
  // Padding behind bit n, up to the end of its block.
  if (n & 511) resetBits(map, n, (blocks << 9) - 1);
  const summary = summaryOf(map, n);
  const lastBlock = (first + count - 1) >>> 9;
  for (let block = first >>> 9; block <= lastBlock; block++) {
    if (blockOnes(map + ((<usize>block) << 6))) setBits(summary, block, block);
    else resetBits(summary, block, block);
  }
}
