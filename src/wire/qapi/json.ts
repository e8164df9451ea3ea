/**
 * JSON values as QEMU reads them: integers keep 64 bits, and a number written as a fraction stays one.
 * Invariants: objects have no prototype (so `__proto__` is a plain key); a `number` that is a safe integer was written
 * as an integer; a `bigint` is an integer outside the safe range but inside int64 or uint64.
 */

/** A JSON value. */
export type Json = null | boolean | number | bigint | string | JsonFraction | Json[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  [key: string]: Json;
}

/** A number that was written with a fraction or an exponent but has an integral value, such as `1.0`. */
export class JsonFraction {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
}

const encoder = new TextEncoder();
const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;
/** The longest text of an integer of 64 bits: a sign, or twenty digits. More can't be one, so its digits are not worked out. */
const LONGEST_INTEGER = 20;

/** The value of a number token that was written as an integer; beyond 64 bits it is a double, as in QEMU. */
export function integerFromText(text: string): number | bigint {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value + 0;
  if (text.length > LONGEST_INTEGER) return value;
  const exact = BigInt(text);
  return exact >= INT64_MIN && exact <= UINT64_MAX ? exact : value;
}

/** The value of a number token that was written with a fraction or an exponent. */
export function fractionFromText(text: string): number | JsonFraction {
  const value = Number(text);
  return Number.isSafeInteger(value) ? new JsonFraction(value) : value;
}

/** Whether `value` is a JSON object. */
export function isJsonObject(value: unknown): value is JsonObject {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof JsonFraction)
  );
}

function numberText(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "0" : value > 0 ? "1e999" : "-1e999";
}

/** The text of a value without parts; undefined for lists and objects. */
function scalarText(value: unknown): string | undefined {
  if (value === undefined || value === null) return "null";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return numberText(value);
  if (value instanceof JsonFraction) return numberText(value.value);
  return typeof value === "object" ? undefined : JSON.stringify(value);
}

/** The hash bucket of a key in QEMU's dictionaries, 0 … 511: their order when they are written. */
export function bucketOf(key: string): number {
  const bytes = encoder.encode(key);
  let hash = Math.imul(0x238f13af, bytes.length) >>> 0;
  bytes.forEach((byte, i) => {
    hash = (hash + (byte << ((i * 5) % 24))) >>> 0;
  });
  hash = (Math.imul(1103515243, hash) + 12345) >>> 0;
  return hash % 512;
}

/** Within a bucket what was entered last comes first. */
function inBucketOrder<T>(entries: readonly (readonly [string, T])[]): (readonly [string, T])[] {
  return entries
    .map((entry, index) => ({ entry, index, bucket: bucketOf(entry[0]) }))
    .toSorted((a, b) => a.bucket - b.bucket || b.index - a.index)
    .map(({ entry }) => entry);
}

function stringifyAt(value: unknown, indent: number, level: number): string {
  const scalar = scalarText(value);
  if (scalar !== undefined) return scalar;
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((item: unknown) => stringifyAt(item, indent, level + 1))
    : inBucketOrder(Object.entries(value as object))
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => `${JSON.stringify(key)}: ${stringifyAt(member, indent, level + 1)}`);
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  if (indent === 0) return `${open}${parts.join(", ")}${close}`;
  const end = `\n${" ".repeat(indent * level)}${close}`;
  // As QEMU: what is empty takes two lines as well.
  if (parts.length === 0) return `${open}${end}`;
  const inner = `\n${" ".repeat(indent * (level + 1))}`;
  return `${open}${inner}${parts.join(`,${inner}`)}${end}`;
}

/**
 * `value` as JSON with its keys in QEMU's order, on one line unless `indent` (spaces a level) is given. Members that are `undefined` are left out.
 * Takes plain data beside Json.
 */
export function stringifyJson(value: unknown, indent = 0): string {
  return stringifyAt(value, indent, 0);
}

/** `value` as plain data: every number is a `number` (64-bit integers may lose low bits). */
export function plainJson(value: Json): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof JsonFraction) return value.value;
  if (Array.isArray(value)) return value.map(plainJson);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, plainJson(member)]));
}
