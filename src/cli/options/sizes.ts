/**
 * Sizes as qemu-img reads them: decimal or 0x-hexadecimal, a fraction only before a suffix, one suffix letter (B k M G T P
 * E). Source: behaviour of qemu-img 7.2.
 */
import type { BlockNode } from "../../block/model/node.ts";
import type { Preallocation } from "../../block/model/contract.ts";
import { valuesOf } from "../../wire/qapi/option-types.ts";
import { Refusal } from "../refusal.ts";

/** The largest int of C. */
export const INT32_MAX = 2n ** 31n - 1n;
const INT64_MAX = 2n ** 63n - 1n;
const UINT64_MAX = 2n ** 64n - 1n;
const SUFFIXES = "bkmgtpe";

/** A number of bytes; `invalid` where the text is none, `range` where it is more than fits. */
export type ParsedSize = bigint | "invalid" | "range";

/** Reads a size that fits into 64 bits. */
export function parseSize(text: string): ParsedSize {
  const match = /^\s*\+?(?:0x([0-9a-f]+)|(\d+)(?:\.(\d*))?)([bkmgtpe])?$/i.exec(text);
  if (!match) return "invalid";
  const [, hex, whole, fraction, suffix] = match;
  const unit = 1024n ** BigInt(SUFFIXES.indexOf((suffix ?? "b").toLowerCase()));
  if (hex !== undefined) return inRange(BigInt(`0x${hex}`) * unit);
  const digits = (fraction ?? "").replace(/0+$/, "");
  if (digits !== "" && unit === 1n) return "invalid";
  const parts = 10n ** BigInt(digits.length);
  // To the nearest byte.
  return inRange(BigInt(whole!) * unit + (2n * BigInt(digits || 0) * unit + parts) / (2n * parts));
}

function inRange(value: bigint): ParsedSize {
  return value > UINT64_MAX ? "range" : value;
}

/** Reads an option that is a size, at most `most` bytes. Throws Refusal in qemu-img's words, `what` naming the option. */
export function sizeArgument(what: string, text: string, most: bigint = INT64_MAX): bigint {
  const value = parseSize(text);
  if (value === "invalid")
    throw new Refusal([
      `Invalid ${what} specified. You may use k, M, G, T, P or E suffixes for`,
      "kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.",
    ]);
  if (value === "range" || value > most)
    throw new Refusal(`Invalid ${what} specified. Must be between 0 and ${most}.`);
  return value;
}

/** The same as a number that is held exactly. */
export function bytesArgument(what: string, text: string, most?: bigint): number {
  return safeBytes(sizeArgument(what, text, most));
}

/** The refusal of what is no size, where options are read. */
export function notASize(name: string): string {
  return (
    `Parameter '${name}' expects a non-negative number below 2^64\n` +
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n" +
    "and exabytes, respectively."
  );
}

/** An integer as C's strtol reads it, base 0: decimal, 0x-hexadecimal, or octal after a 0. */
export function cInteger(text: string): number | undefined {
  const match = /^\s*([+-]?)(?:0x([0-9a-f]+)|0([0-7]+)|(\d+))$/i.exec(text);
  if (!match) return undefined;
  const [, sign, hex, octal, decimal] = match;
  const value = hex ? parseInt(hex, 16) : octal ? parseInt(octal, 8) : Number(decimal);
  return sign === "-" ? -value : value;
}

/** An unsigned integer as C's strtoull reads it, base 0: -1 becomes the largest. */
export function cUnsigned(text: string): ParsedSize {
  const match = /^\s*([+-]?)(?:0x([0-9a-f]+)|0([0-7]+)|(\d+))$/i.exec(text);
  if (!match) return "invalid";
  const [, sign, hex, octal, decimal] = match;
  const value = BigInt(hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o${octal}` : decimal!);
  if (value > UINT64_MAX) return "range";
  return sign === "-" ? BigInt.asUintN(64, -value) : value;
}

/** How blocks are prepared, by the word for it; undefined for another word. */
export function preallocationMode(text: string): Preallocation | undefined {
  return valuesOf("PreallocMode").find((mode) => mode === text);
}

/** The refusal of a length that no image can have. */
export function tooLong(node: BlockNode): string {
  return `${node.type.refusals?.tooLong ?? "Could not resize file"}: File too large`;
}

/** A count of bytes as a safe integer; what is larger becomes the largest one, which every limit then refuses. */
export function safeBytes(bytes: bigint): number {
  return bytes > BigInt(Number.MAX_SAFE_INTEGER) ? Number.MAX_SAFE_INTEGER : Number(bytes);
}

/** A number with `digits` digits behind the point, ties to the even digit as C's printf has it. */
export function evenFixed(value: number, digits: number): string {
  // Only odd multiples of this lie exactly between two of the numbers that can be written so.
  if ((value * 2 ** (digits + 1)) % 2 !== 1) return value.toFixed(digits);
  const below = Math.floor(value * 10 ** digits);
  return ((below + (below % 2)) / 10 ** digits).toFixed(digits);
}

/** A number with two digits behind the point. */
export function twoDigits(value: number): string {
  return evenFixed(value, 2);
}
