/** Copying with a zero test on the way: one pass over the source while it is in the cache. */
import { isZero } from "./is-zero";

/** Copies `bytes` bytes (the ranges must not overlap); 1 when all of them were zero. */
export function copyAndTestZero(target: usize, source: usize, bytes: usize): bool {
  let i: usize = 0;
  const bulk = bytes & ~127;
  while (i < bulk) {
    const from = source + i;
    const to = target + i;
    const a = v128.load(from, 0);
    const b = v128.load(from, 16);
    const c = v128.load(from, 32);
    const d = v128.load(from, 48);
    const e = v128.load(from, 64);
    const f = v128.load(from, 80);
    const g = v128.load(from, 96);
    const h = v128.load(from, 112);
    v128.store(to, a, 0);
    v128.store(to, b, 16);
    v128.store(to, c, 32);
    v128.store(to, d, 48);
    v128.store(to, e, 64);
    v128.store(to, f, 80);
    v128.store(to, g, 96);
    v128.store(to, h, 112);
    i += 128;
    const any = v128.or(v128.or(v128.or(a, b), v128.or(c, d)), v128.or(v128.or(e, f), v128.or(g, h)));
    if (v128.any_true(any)) {
      // The answer is known: the rest is a plain copy.
      memory.copy(target + i, source + i, bytes - i);
      return false;
    }
  }
  memory.copy(target + i, source + i, bytes - i);
  return isZero(source + i, bytes - i);
}
