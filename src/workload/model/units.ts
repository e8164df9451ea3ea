/**
 * Sizes and times as people write them: `4k`, `1.5MiB`, `80us`, `10s`. In our own files K and KiB are both 1024 bytes; fio's
 * rules are in fio/values.ts.
 */
import { WorkloadError } from "./plan.ts";

const SIZE = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b?)$/i;
const TIME = /^(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|m|min|h|d)$/i;

const POWERS = "kmgtp";

/** Nanoseconds of a unit of time. */
export const nanosecondsOf: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  min: 60e9,
  h: 3600e9,
  d: 86_400e9,
};

/** Bytes, of a number or text. Throws WorkloadError, naming `what`. */
export function bytesOf(value: unknown, what: string): number {
  if (typeof value === "number") return checked(value, value, what);
  const match = typeof value === "string" ? SIZE.exec(value.trim()) : null;
  if (!match) throw new WorkloadError(`${what}: '${String(value)}' is no size`);
  const power = match[2] ? POWERS.indexOf(match[2].toLowerCase()) + 1 : 0;
  return checked(Number(match[1]) * 1024 ** power, value, what);
}

/** Nanoseconds, of text with its unit or a number of seconds. Throws WorkloadError, naming `what`. */
export function timeOf(value: unknown, what: string): number {
  if (typeof value === "number") return checked(value * 1e9, value, what);
  const match = typeof value === "string" ? TIME.exec(value.trim()) : null;
  if (!match) throw new WorkloadError(`${what}: '${String(value)}' is no time`);
  return checked(Number(match[1]) * nanosecondsOf[match[2]!.toLowerCase()]!, value, what);
}

function checked(result: number, value: unknown, what: string): number {
  const whole = Math.round(result);
  if (!Number.isSafeInteger(whole) || whole < 0)
    throw new WorkloadError(`${what}: ${String(value)} is out of range`);
  return whole;
}
