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

const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/** The value of a number token that was written as an integer; beyond 64 bits it is a double, as in QEMU. */
export function integerFromText(text: string): number | bigint {
  const value = Number(text);
  if (Number.isSafeInteger(value)) return value + 0;
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

/** `value` as JSON on one line. Members that are `undefined` are left out. Accepts plain data beside Json. */
export function stringifyJson(value: unknown): string {
  if (value === undefined || value === null) return "null";
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "number") return numberText(value);
  if (value instanceof JsonFraction) return numberText(value.value);
  if (Array.isArray(value)) return `[${value.map(stringifyJson).join(", ")}]`;
  if (typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([key, member]) => `${JSON.stringify(key)}: ${stringifyJson(member)}`).join(", ")}}`;
}
