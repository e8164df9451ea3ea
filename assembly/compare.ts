/** Comparison of two buffers: the first byte that differs, and differing granules joined to runs. */

/** The 64 bytes' difference, as one vector of bits that differ. */
function difference64(a: usize, b: usize): v128 {
  return v128.or(
    v128.or(v128.xor(v128.load(a, 0), v128.load(b, 0)), v128.xor(v128.load(a, 16), v128.load(b, 16))),
    v128.or(v128.xor(v128.load(a, 32), v128.load(b, 32)), v128.xor(v128.load(a, 48), v128.load(b, 48))),
  );
}

/** Offset of the first byte that differs, or -1. */
export function firstDifference(a: usize, b: usize, bytes: i32): i32 {
  let i: i32 = 0;
  const bulk = bytes & ~127;
  while (i < bulk) {
    if (v128.any_true(v128.or(difference64(a + i, b + i), difference64(a + i + 64, b + i + 64)))) break;
    i += 128;
  }
  while (i + 8 <= bytes) {
    const bits = load<u64>(a + i) ^ load<u64>(b + i);
    if (bits) return i + (<i32>ctz(bits) >>> 3);
    i += 8;
  }
  for (; i < bytes; i++) if (load<u8>(a + i) != load<u8>(b + i)) return i;
  return -1;
}

/** Whether a granule differs. */
function differs(a: usize, b: usize, bytes: u32): bool {
  if (bytes >= 8 && load<u64>(a) != load<u64>(b)) return true;
  return firstDifference(a, b, bytes) >= 0;
}

/** Differing granules of 2^shift bytes, joined to (offset, bytes) pairs; the last granule may be short. */
export function differenceRuns(a: usize, b: usize, bytes: u32, shift: u32, out: usize, max: u32): u32 {
  const granule: u32 = 1 << shift;
  let count: u32 = 0;
  let offset: u32 = 0;
  while (offset < bytes && count < max) {
    // Equal stretches are passed at full speed; then back to the granule's start.
    const found = firstDifference(a + offset, b + offset, bytes - offset);
    if (found < 0) break;
    const start = (offset + found) & ~(granule - 1);
    let end = start + granule;
    while (end < bytes) {
      const rest = bytes - end;
      if (!differs(a + end, b + end, rest < granule ? rest : granule)) break;
      end += granule;
    }
    if (end > bytes) end = bytes;
    const pair = out + ((<usize>count) << 3);
    store<u32>(pair, start);
    store<u32>(pair, end - start, 4);
    count++;
    offset = end;
  }
  return count;
}
