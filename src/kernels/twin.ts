/**
 * The kernels in plain TypeScript: what runs where SIMD is missing, and the oracle that the SIMD kernels are tested
 * against. Words of 32 bits where the views are aligned alike, bytes elsewhere.
 */
import { checkGranule, checkLengths } from "./checks.ts";
import type { Bits, KernelArea, Kernels } from "./kernels.ts";
import { TwinBits } from "./twin-bits.ts";
import { twinCrc32c } from "./twin-crc32c.ts";
import { type NoiseKey, twinNoise } from "./twin-noise.ts";
import { twinXxh3 } from "./twin-xxh3.ts";

const NO_WORDS = new Int32Array(0);

/** A view's 4-aligned middle as words, and where it begins. */
function wordsOf(bytes: Uint8Array): { words: Int32Array; head: number } {
  const head = -bytes.byteOffset & 3;
  if (bytes.length < head) return { words: NO_WORDS, head: bytes.length };
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + head, (bytes.length - head) >>> 2);
  return { words, head };
}

/** Whether every byte is 0. */
export function twinIsZero(bytes: Uint8Array): boolean {
  const { words, head } = wordsOf(bytes);
  for (let i = 0; i < head; i++) if (bytes[i] !== 0) return false;
  const bulk = words.length & ~7;
  for (let i = 0; i < bulk; i += 8) {
    const low = words[i]! | words[i + 1]! | words[i + 2]! | words[i + 3]!;
    const high = words[i + 4]! | words[i + 5]! | words[i + 6]! | words[i + 7]!;
    if ((low | high) !== 0) return false;
  }
  for (let i = head + bulk * 4; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Offset of the first byte that differs, or -1; the lengths are equal. */
export function twinFirstDifference(a: Uint8Array, b: Uint8Array): number {
  let i = 0;
  if ((a.byteOffset & 3) === (b.byteOffset & 3)) {
    const left = wordsOf(a);
    const right = wordsOf(b);
    while (i < left.head && a[i] === b[i]) i++;
    if (i < left.head) return i;
    let word = 0;
    while (word < left.words.length && left.words[word] === right.words[word]) word++;
    i += word * 4;
  }
  while (i < a.length && a[i] === b[i]) i++;
  return i === a.length ? -1 : i;
}

/** Joins the granules that `matches` (given start and end) to (offset, bytes) pairs. */
export function joinGranules(
  length: number,
  granule: number,
  out: Uint32Array,
  matches: (start: number, end: number) => boolean,
): number {
  const max = Math.floor(out.length / 2);
  let count = 0;
  let start = -1;
  for (let at = 0; at < length; at += granule) {
    if (matches(at, Math.min(length, at + granule))) {
      if (start >= 0) continue;
      if (count === max) return count;
      start = at;
    } else if (start >= 0) {
      out[2 * count] = start;
      out[2 * count + 1] = at - start;
      count++;
      start = -1;
    }
  }
  if (start < 0) return count;
  out[2 * count] = start;
  out[2 * count + 1] = length - start;
  return count + 1;
}

/** See Kernels. */
export class TwinKernels implements Kernels {
  readonly kind = "twin";
  readonly area: KernelArea;

  constructor(area: KernelArea) {
    this.area = area;
  }

  isZero(bytes: Uint8Array): boolean {
    return twinIsZero(bytes);
  }

  zeroRuns(bytes: Uint8Array, granule: number, out: Uint32Array): number {
    checkGranule(granule);
    return joinGranules(bytes.length, granule, out, (start, end) => twinIsZero(bytes.subarray(start, end)));
  }

  firstDifference(a: Uint8Array, b: Uint8Array): number {
    checkLengths(a, b);
    return twinFirstDifference(a, b);
  }

  differenceRuns(a: Uint8Array, b: Uint8Array, granule: number, out: Uint32Array): number {
    checkLengths(a, b);
    checkGranule(granule);
    const differs = (start: number, end: number): boolean =>
      twinFirstDifference(a.subarray(start, end), b.subarray(start, end)) >= 0;
    return joinGranules(a.length, granule, out, differs);
  }

  copy(target: Uint8Array, source: Uint8Array): void {
    checkLengths(target, source);
    target.set(source);
  }

  copyAndTestZero(target: Uint8Array, source: Uint8Array): boolean {
    checkLengths(target, source);
    target.set(source);
    return twinIsZero(source);
  }

  crc32c(bytes: Uint8Array, crc = 0): number {
    return twinCrc32c(bytes, crc);
  }

  xxh3(bytes: Uint8Array): bigint {
    return twinXxh3(bytes);
  }

  noise(bytes: Uint8Array, key: NoiseKey, at: number): void {
    twinNoise(bytes, key, at);
  }

  createBits(bits: number): Bits {
    return new TwinBits(bits);
  }
}
