/**
 * The exports of the WebAssembly binary, as assembly/index.ts describes them. Pointers and lengths are u32: arguments may
 * be any 32-bit number, results come back signed and are made unsigned with `>>> 0` where they can pass 2^31.
 */
export interface KernelExports extends Record<string, unknown> {
  dataStart(): number;
  isZero(ptr: number, bytes: number): number;
  zeroRuns(ptr: number, bytes: number, shift: number, out: number, max: number): number;
  firstDifference(a: number, b: number, bytes: number): number;
  differenceRuns(a: number, b: number, bytes: number, shift: number, out: number, max: number): number;
  copyAndTestZero(target: number, source: number, bytes: number): number;
  crc32c(ptr: number, bytes: number, crc: number): number;
  xxh3(ptr: number, bytes: number): bigint;
  xxh3Begin(): void;
  xxh3Blocks(ptr: number, blocks: number): void;
  xxh3End(ptr: number, bytes: number, total: bigint): bigint;
  noise(ptr: number, bytes: number, low: number, high: number, at: number): void;
  bitmapBytes(n: number): number;
  bitmapSet(map: number, n: number, first: number, count: number): number;
  bitmapReset(map: number, n: number, first: number, count: number): number;
  bitmapTest(map: number, i: number): number;
  bitmapNextOne(map: number, n: number, from: number, end: number): number;
  bitmapNextZero(map: number, n: number, from: number, end: number): number;
  bitmapExtents(
    ...args: [map: number, n: number, from: number, end: number, out: number, max: number, unit: number]
  ): number;
  bitmapCount(map: number, n: number, from: number, end: number): number;
  bitmapMerge(to: number, n: number, from: number): number;
  bitmapMergeScaled(to: number, n: number, from: number, m: number, shift: number): number;
  bitmapClear(map: number, n: number): void;
  bitmapRebuild(map: number, n: number, first: number, count: number): void;
}
