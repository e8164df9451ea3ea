/** Arithmetic on byte ranges and alignments. All values are safe integers; alignments are powers of two or any integer >= 1. */
import { blockError } from "./errors.ts";
import { limits } from "./limits.ts";

/** `bytes` bytes from `offset`. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/** `value` rounded down to a multiple of `unit`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

/** Whether `value` is a multiple of `unit`. */
export function isAligned(value: number, unit: number): boolean {
  return value % unit === 0;
}

/** Whether `value` is 2^k for an integer k >= 0. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1 && Number.isInteger(Math.log2(value));
}

/** Throws EFBIG, by the limit's name, for a disk beyond what is held exactly. */
export function checkDiskLength(bytes: number, op: string): void {
  if (bytes <= limits.maxImageBytes) return;
  const message = `Image size ${bytes} is above ${limits.maxImageBytes} bytes (limits.maxImageBytes)`;
  throw blockError("EFBIG", op, message);
}
