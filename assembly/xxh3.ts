/**
 * XXH3-64 with seed 0 and the default secret, for every length.
 * Source: the XXH3 algorithm of doc/xxhash_spec.md (xxHash 0.8). Long inputs run eight 64-bit lanes in four vectors; one
 * pair of shuffles feeds two widening multiplies, which measured fastest.
 */
/* oxlint-disable no-loss-of-precision -- 64-bit literals are exact here: AssemblyScript's u64, not a JavaScript number. */
import { XXH3_LANES as LANES } from "./layout";

const SECRET: usize = memory.data<u8>(
  [
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c, 0xde,
    0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f, 0xcb, 0x79,
    0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21, 0xb8, 0x08, 0x46,
    0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c, 0x3c, 0x28, 0x52, 0xbb,
    0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3, 0x71, 0x64, 0x48, 0x97, 0xa2,
    0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8, 0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c,
    0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d, 0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59,
    0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64, 0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3,
    0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb, 0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3,
    0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e, 0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8,
    0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce, 0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb,
    0xca, 0xbb, 0x4b, 0x40, 0x7e,
  ],
  16,
);

const PRIME32_1: u64 = 0x9e3779b1;
const PRIME32_2: u64 = 0x85ebca77;
const PRIME32_3: u64 = 0xc2b2ae3d;
const PRIME64_1: u64 = 0x9e3779b185ebca87;
const PRIME64_2: u64 = 0xc2b2ae3d27d4eb4f;
const PRIME64_3: u64 = 0x165667b19e3779f9;
const PRIME64_4: u64 = 0x85ebca77c2b2ae63;
const PRIME64_5: u64 = 0x27d4eb2f165667c5;

/** High and low half of the 128-bit product, XORed. */
function multiplyFold(a: u64, b: u64): u64 {
  const aLow = a & 0xffffffff;
  const bLow = b & 0xffffffff;
  const aHigh = a >>> 32;
  const bHigh = b >>> 32;
  const low = aLow * bLow;
  const cross1 = aHigh * bLow + (low >>> 32);
  const cross2 = aLow * bHigh + (cross1 & 0xffffffff);
  return (aHigh * bHigh + (cross1 >>> 32) + (cross2 >>> 32)) ^ (a * b);
}

function avalanche(hash: u64): u64 {
  hash = (hash ^ (hash >>> 37)) * 0x165667919e3779f9;
  return hash ^ (hash >>> 32);
}

/** The final mix of XXH64, which the shortest inputs use. */
function avalanche64(hash: u64): u64 {
  hash = (hash ^ (hash >>> 33)) * PRIME64_2;
  hash = (hash ^ (hash >>> 29)) * PRIME64_3;
  return hash ^ (hash >>> 32);
}

/** The secret's word at `a` XORed with its word at `b` (byte offsets). */
function secretPair(a: usize, b: usize): u64 {
  return load<u64>(SECRET + a) ^ load<u64>(SECRET + b);
}

function upTo16(p: usize, bytes: usize): u64 {
  const end = p + bytes;
  if (bytes > 8) {
    const low = load<u64>(p) ^ secretPair(24, 32);
    const high = load<u64>(end - 8) ^ secretPair(40, 48);
    return avalanche(<u64>bytes + bswap(low) + high + multiplyFold(low, high));
  }
  if (bytes >= 4) {
    let hash = (<u64>load<u32>(end - 4) + ((<u64>load<u32>(p)) << 32)) ^ secretPair(8, 16);
    hash ^= rotl(hash, 49) ^ rotl(hash, 24);
    hash *= 0x9fb21c651e98df25;
    hash ^= (hash >>> 35) + <u64>bytes;
    hash *= 0x9fb21c651e98df25;
    return hash ^ (hash >>> 28);
  }
  if (bytes == 0) return avalanche64(secretPair(56, 64));
  const middle = <u64>load<u8>(p + (bytes >>> 1));
  const word = ((<u64>load<u8>(p)) << 16) | (middle << 24) | <u64>load<u8>(end - 1) | ((<u64>bytes) << 8);
  return avalanche64(word ^ <u64>(load<u32>(SECRET) ^ load<u32>(SECRET, 4)));
}

/** 16 bytes of input under 16 bytes of the secret. */
function mix16(p: usize, secret: usize): u64 {
  return multiplyFold(
    load<u64>(p) ^ load<u64>(SECRET + secret),
    load<u64>(p, 8) ^ load<u64>(SECRET + secret, 8),
  );
}

function upTo128(p: usize, bytes: usize): u64 {
  let hash = <u64>bytes * PRIME64_1;
  const pairs = (bytes - 1) >>> 5;
  for (let i: usize = 0; i <= pairs; i++) {
    hash += mix16(p + i * 16, i * 32) + mix16(p + bytes - 16 - i * 16, i * 32 + 16);
  }
  return avalanche(hash);
}

function upTo240(p: usize, bytes: usize): u64 {
  let hash = <u64>bytes * PRIME64_1;
  for (let i: usize = 0; i < 8; i++) hash += mix16(p + i * 16, i * 16);
  hash = avalanche(hash);
  const rounds = bytes >>> 4;
  for (let i: usize = 8; i < rounds; i++) hash += mix16(p + i * 16, (i - 8) * 16 + 3);
  return avalanche(hash + mix16(p + bytes - 16, 136 - 17));
}

/** Two lanes after a block: each mixed with itself and its part of the secret, and multiplied. */
function scrambled(lanes: v128, secret: usize): v128 {
  const mixed = v128.xor(v128.xor(lanes, i64x2.shr_u(lanes, 47)), v128.load(SECRET + 128 + secret));
  return i64x2.mul(mixed, i64x2.splat(PRIME32_1));
}

/** `sum` with its lanes swapped: a lane's neighbour takes its data. */
function swapped(sum: v128): v128 {
  return v128.shuffle<u64>(sum, sum, 1, 0);
}

/**
 * `blocks` blocks of `stripes` stripes of 64 bytes, the secret moving 8 bytes a stripe from `secret` on; the lanes are
 * scrambled behind each block when `scrambles`. The lanes stay in registers throughout. Shuffles are what it waits for: the
 * data is added up apart, and swapped once a block.
 */
function accumulate(p: usize, blocks: u32, stripes: u32, secret: usize, scrambles: bool): void {
  let lanes0 = v128.load(LANES, 0);
  let lanes1 = v128.load(LANES, 16);
  let lanes2 = v128.load(LANES, 32);
  let lanes3 = v128.load(LANES, 48);
  for (; blocks; blocks--) {
    let sum0 = i64x2.splat(0);
    let sum1 = i64x2.splat(0);
    let sum2 = i64x2.splat(0);
    let sum3 = i64x2.splat(0);
    let key = SECRET + secret;
    for (const end = p + ((<usize>stripes) << 6); p < end; p += 64, key += 8) {
      const data0 = v128.load(p, 0);
      const data1 = v128.load(p, 16);
      sum0 = i64x2.add(sum0, data0);
      sum1 = i64x2.add(sum1, data1);
      const keyed0 = v128.xor(data0, v128.load(key, 0));
      const keyed1 = v128.xor(data1, v128.load(key, 16));
      const low01 = v128.shuffle<u32>(keyed0, keyed1, 0, 2, 4, 6);
      const high01 = v128.shuffle<u32>(keyed0, keyed1, 1, 3, 5, 7);
      lanes0 = i64x2.add(lanes0, i64x2.extmul_low_i32x4_u(low01, high01));
      lanes1 = i64x2.add(lanes1, i64x2.extmul_high_i32x4_u(low01, high01));
      const data2 = v128.load(p, 32);
      const data3 = v128.load(p, 48);
      sum2 = i64x2.add(sum2, data2);
      sum3 = i64x2.add(sum3, data3);
      const keyed2 = v128.xor(data2, v128.load(key, 32));
      const keyed3 = v128.xor(data3, v128.load(key, 48));
      const low23 = v128.shuffle<u32>(keyed2, keyed3, 0, 2, 4, 6);
      const high23 = v128.shuffle<u32>(keyed2, keyed3, 1, 3, 5, 7);
      lanes2 = i64x2.add(lanes2, i64x2.extmul_low_i32x4_u(low23, high23));
      lanes3 = i64x2.add(lanes3, i64x2.extmul_high_i32x4_u(low23, high23));
    }
    lanes0 = i64x2.add(lanes0, swapped(sum0));
    lanes1 = i64x2.add(lanes1, swapped(sum1));
    lanes2 = i64x2.add(lanes2, swapped(sum2));
    lanes3 = i64x2.add(lanes3, swapped(sum3));
    if (scrambles) {
      lanes0 = scrambled(lanes0, 0);
      lanes1 = scrambled(lanes1, 16);
      lanes2 = scrambled(lanes2, 32);
      lanes3 = scrambled(lanes3, 48);
    }
  }
  v128.store(LANES, lanes0, 0);
  v128.store(LANES, lanes1, 16);
  v128.store(LANES, lanes2, 32);
  v128.store(LANES, lanes3, 48);
}

/** Begins a hash of more than 240 bytes that comes in pieces. One at a time. */
export function xxh3Begin(): void {
  store<u64>(LANES, PRIME32_3, 0);
  store<u64>(LANES, PRIME64_1, 8);
  store<u64>(LANES, PRIME64_2, 16);
  store<u64>(LANES, PRIME64_3, 24);
  store<u64>(LANES, PRIME64_4, 32);
  store<u64>(LANES, PRIME32_2, 40);
  store<u64>(LANES, PRIME64_5, 48);
  store<u64>(LANES, PRIME32_1, 56);
}

/** The next `blocks` blocks of 1024 bytes. The very last byte of the input must be left for xxh3End(). */
export function xxh3Blocks(p: usize, blocks: u32): void {
  accumulate(p, blocks, 16, 0, true);
}

/**
 * The hash, from the last 1 to 1024 bytes at `p`. When they are fewer than 64, the input's bytes before them must stand
 * before them here too. `total` is the length of the whole input.
 */
export function xxh3End(p: usize, bytes: u32, total: u64): u64 {
  accumulate(p, 1, (bytes - 1) >>> 6, 0, false);
  accumulate(p + bytes - 64, 1, 1, 192 - 64 - 7, false);
  let hash = total * PRIME64_1;
  for (let i: usize = 0; i < 64; i += 16) {
    hash += multiplyFold(
      load<u64>(LANES + i) ^ load<u64>(SECRET + 11 + i),
      load<u64>(LANES + i, 8) ^ load<u64>(SECRET + 11 + i, 8),
    );
  }
  return avalanche(hash);
}

/** XXH3-64 of `bytes` bytes. */
export function xxh3(p: usize, bytes: usize): u64 {
  if (bytes <= 16) return upTo16(p, bytes);
  if (bytes <= 128) return upTo128(p, bytes);
  if (bytes <= 240) return upTo240(p, bytes);
  const blocks = <u32>((bytes - 1) >>> 10);
  xxh3Begin();
  xxh3Blocks(p, blocks);
  return xxh3End(p + ((<usize>blocks) << 10), <u32>bytes - (blocks << 10), bytes);
}
