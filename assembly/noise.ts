/**
 * Repeatable noise: word i of a stream is a mix of its number and of a key of 64 bits, so any part can be made without
 * what comes before it, four words at once. Not for cryptography. Source: two rounds of multiply and xor-shift, after the
 * search for 32-bit mixers with little bias ("hash-prospector").
 */

/** The words of one number each: what the twin computes word by word. */
function mix(at: v128, low: v128, high: v128): v128 {
  let x = i32x4.add(i32x4.mul(at, i32x4.splat(0x9e3779b1)), low);
  x = v128.xor(x, i32x4.shr_u(x, 16));
  x = i32x4.mul(x, i32x4.splat(0x7feb352d));
  x = v128.xor(x, i32x4.shr_u(x, 15));
  x = i32x4.mul(x, i32x4.splat(0x846ca68b));
  x = v128.xor(x, i32x4.shr_u(x, 16));
  x = i32x4.add(x, high);
  x = v128.xor(x, i32x4.shr_u(x, 17));
  x = i32x4.mul(x, i32x4.splat(0xed5ad4bb));
  x = v128.xor(x, i32x4.shr_u(x, 11));
  x = i32x4.mul(x, i32x4.splat(0xac4c1b51));
  return v128.xor(x, i32x4.shr_u(x, 15));
}

/** Fills `bytes` bytes with the words from number `at` on (mod 2^32) under the key (`low`, `high`). */
export function noise(p: usize, bytes: usize, low: u32, high: u32, at: u32): void {
  const lows = i32x4.splat(low);
  const highs = i32x4.splat(high);
  const four = i32x4.splat(4);
  let numbers = i32x4.add(i32x4.splat(at), i32x4(0, 1, 2, 3));
  for (; bytes >= 16; bytes -= 16, p += 16) {
    v128.store(p, mix(numbers, lows, highs));
    numbers = i32x4.add(numbers, four);
  }
  let last = mix(numbers, lows, highs);
  for (; bytes >= 4; bytes -= 4, p += 4) {
    store<u32>(p, i32x4.extract_lane(last, 0));
    last = v128.shuffle<u32>(last, last, 1, 2, 3, 0);
  }
  let word = <u32>i32x4.extract_lane(last, 0);
  for (; bytes; bytes--, p++, word >>>= 8) store<u8>(p, <u8>word);
}
