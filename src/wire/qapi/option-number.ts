/**
 * Numbers in option strings: C's strtoll spellings for integers, and sizes with a binary suffix.
 * Source: behaviour of QEMU 7.2's command line.
 */

const INTEGER = /^\s*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)$/;
const SIZE = /^\s*([0-9]+)(?:\.([0-9]*))?([bBkKmMgGtTpPeE]?)$/;
const HEX_SIZE = /^0[xX][0-9a-fA-F]+$/;
const SUFFIXES = "bkmgtpe";

function magnitude(digits: string): bigint {
  if (/^0[0-7]+$/.test(digits)) return BigInt(`0o${digits.slice(1)}`);
  return BigInt(digits);
}

/** The integer in `text` (decimal, 0x hex or 0 octal), undefined if it is none or does not fit 64 bits. */
export function integerFromOption(text: string, unsigned: boolean): bigint | undefined {
  const match = INTEGER.exec(text);
  if (!match) return undefined;
  const digits = magnitude(match[2] ?? "0");
  const value = match[1] === "-" ? -digits : digits;
  const largest = unsigned ? 2n ** 64n - 1n : 2n ** 63n - 1n;
  return value > largest || value < -(2n ** 63n) ? undefined : value;
}

/** The size in `text`, bytes: `4096`, `1.5G`, `64k`, `0x1000`; undefined if it is none or does not fit 64 bits. */
export function sizeFromOption(text: string): bigint | undefined {
  if (HEX_SIZE.test(text)) return fits(BigInt(text));
  const match = SIZE.exec(text);
  if (!match) return undefined;
  const [, whole = "0", fraction = "", suffix = ""] = match;
  const exponent = suffix === "" ? 0 : SUFFIXES.indexOf(suffix.toLowerCase());
  const unit = 1024n ** BigInt(exponent);
  if (fraction !== "" && unit === 1n) return undefined;
  const part = (BigInt(fraction || "0") * unit) / 10n ** BigInt(fraction.length);
  return fits(BigInt(whole) * unit + part);
}

function fits(value: bigint): bigint | undefined {
  return value < 2n ** 64n ? value : undefined;
}
