/**
 * CRC-32C (Castagnoli, RFC 3720 appendix B.4), without a carry-less multiply.
 *
 * Long inputs are first reduced modulo a sparse multiple of the polynomial, M = 1 + y^14 + y^39 + y^54 + y^144 + y^209
 * with y = x^128: a long division whose every step is five XORs of 16-byte vectors that lie 65 or more steps back, so
 * nothing waits for a table. What is left (209 vectors) goes through the tables, 16 bytes a step.
 */

import { CRC_REMAINDER as REMAINDER, CRC_SCRATCH as SCRATCH, CRC_TABLES as TABLES } from "./layout";

const POLYNOMIAL: u32 = 0x82f63b78; // reflected

/** Degree of M in y, and so the vectors of history that the division needs. */
const HISTORY: usize = 209;
/** Vectors that are divided before the history moves back to the front. */
const BATCH: usize = 1024;

/** Below this many bytes the division does not pay. */
const SPARSE_FROM: usize = 6144;

buildTables();

function buildTables(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (POLYNOMIAL & (0 - (crc & 1)));
    store<u32>(TABLES + ((<usize>i) << 2), crc);
  }
  for (let i: usize = 256; i < 16 * 256; i++) {
    const before = load<u32>(TABLES + ((i - 256) << 2));
    store<u32>(TABLES + (i << 2), (before >>> 8) ^ table(0, before));
  }
}

/** Entry for the lowest byte of `value` in table `slice`. */
function table(slice: u32, value: u32): u32 {
  return load<u32>(TABLES + ((<usize>slice) << 10) + ((<usize>(value & 255)) << 2));
}

/** Four bytes' share, where `slice` is the table of the last of them. */
function fold(slice: u32, word: u32): u32 {
  return (
    table(slice + 3, word) ^
    table(slice + 2, word >>> 8) ^
    table(slice + 1, word >>> 16) ^
    table(slice, word >>> 24)
  );
}

/** The register (not complemented) after `bytes` bytes, by tables. */
function byTables(p: usize, bytes: usize, register: u32): u32 {
  const end = p + bytes;
  for (; p + 16 <= end; p += 16) {
    register =
      fold(12, load<u32>(p, 0) ^ register) ^
      fold(8, load<u32>(p, 4)) ^
      fold(4, load<u32>(p, 8)) ^
      fold(0, load<u32>(p, 12));
  }
  for (; p < end; p++) register = (register >>> 8) ^ table(0, register ^ load<u8>(p));
  return register;
}

/**
 * What the quotient so far contributes to the vector that is 209 places behind address `h`: M's exponents, as the
 * loads' immediates.
 */
function feedback(h: usize): v128 {
  return v128.xor(
    v128.xor(
      v128.xor(v128.load(h, 144 * 16), v128.load(h, 54 * 16)),
      v128.xor(v128.load(h, 39 * 16), v128.load(h, 14 * 16)),
    ),
    v128.load(h),
  );
}

/**
 * One division step each for the `vectors` (a batch at most) at `p`; their quotient goes to the scratch. Four steps are
 * written out, each as feedback() has it, because immediates cost nothing: with addresses that are computed, the whole
 * kernel runs at two thirds of the speed.
 */
function divide(p: usize, vectors: usize): void {
  let h = SCRATCH;
  const end = h + vectors * 16;
  const unrolledEnd = h + (vectors & ~3) * 16;
  for (; h < unrolledEnd; h += 64, p += 64) {
    v128.store(
      h,
      v128.xor(
        v128.xor(v128.xor(v128.load(p), v128.load(h, 144 * 16)), v128.load(h, 54 * 16)),
        v128.xor(v128.xor(v128.load(h, 39 * 16), v128.load(h, 14 * 16)), v128.load(h)),
      ),
      209 * 16,
    );
    v128.store(
      h,
      v128.xor(
        v128.xor(v128.xor(v128.load(p, 1 * 16), v128.load(h, 145 * 16)), v128.load(h, 55 * 16)),
        v128.xor(v128.xor(v128.load(h, 40 * 16), v128.load(h, 15 * 16)), v128.load(h, 1 * 16)),
      ),
      210 * 16,
    );
    v128.store(
      h,
      v128.xor(
        v128.xor(v128.xor(v128.load(p, 2 * 16), v128.load(h, 146 * 16)), v128.load(h, 56 * 16)),
        v128.xor(v128.xor(v128.load(h, 41 * 16), v128.load(h, 16 * 16)), v128.load(h, 2 * 16)),
      ),
      211 * 16,
    );
    v128.store(
      h,
      v128.xor(
        v128.xor(v128.xor(v128.load(p, 3 * 16), v128.load(h, 147 * 16)), v128.load(h, 57 * 16)),
        v128.xor(v128.xor(v128.load(h, 42 * 16), v128.load(h, 17 * 16)), v128.load(h, 3 * 16)),
      ),
      212 * 16,
    );
  }
  for (; h < end; h += 16, p += 16) v128.store(h, v128.xor(v128.load(p), feedback(h)), 209 * 16);
}

/** The register after `vectors` (> 209) vectors at `p`. */
function bySparseMultiple(p: usize, vectors: usize, register: u32): u32 {
  const history = SCRATCH + HISTORY * 16;
  memory.fill(SCRATCH, 0, HISTORY * 16);
  // A register is the same as its bits XORed into the first four bytes. The history is empty, so the first vector's
  // quotient is the vector itself: put in place as history, with the division starting behind it.
  let quotient = vectors - HISTORY - 1;
  v128.store(history - 16, v128.xor(v128.load(p), i32x4.replace_lane(i32x4.splat(0), 0, register)));
  p += 16;
  while (quotient) {
    const step = quotient < BATCH ? quotient : BATCH;
    divide(p, step);
    memory.copy(SCRATCH, SCRATCH + step * 16, HISTORY * 16);
    p += step * 16;
    quotient -= step;
  }
  // The remainder has no quotient of its own: zeros stand where its history would be.
  memory.fill(history, 0, HISTORY * 16);
  for (let i: usize = 0; i < HISTORY * 16; i += 16) {
    v128.store(REMAINDER + i, v128.xor(v128.load(p + i), feedback(SCRATCH + i)));
  }
  return byTables(REMAINDER, HISTORY * 16, 0);
}

/** CRC-32C of `bytes` bytes at `p`, going on from `crc` (0 at first). */
export function crc32c(p: usize, bytes: usize, crc: u32): u32 {
  let register = ~crc;
  if (bytes >= SPARSE_FROM) {
    const vectors = bytes >>> 4;
    register = bySparseMultiple(p, vectors, register);
    p += vectors << 4;
    bytes &= 15;
  }
  return ~byTables(p, bytes, register);
}
