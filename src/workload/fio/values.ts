/**
 * fio's values: numbers with units, times, lists for reads, writes and trims, block size splits. By fio's default a `k` is 1024
 * and a `ki` 1000; `kb_base=1000` turns that round. Source: fio's HOWTO, "Parameter types".
 */
import { WorkloadError } from "../model/plan.ts";
import { nanosecondsOf } from "../model/units.ts";

const PREFIXES = "kmgtp";

/** What a number means: 1024 or 1000 a `k`. */
export type KbBase = 1024 | 1000;

/** Arithmetic within parentheses: + - * / and units, as fio's. */
function evaluate(text: string, base: KbBase): number | undefined {
  const tokens = text.match(/\d+(?:\.\d+)?[a-z]*|[-+*/()]/gi) ?? [];
  if (tokens.join("") !== text.replaceAll(/\s/g, "")) return undefined;
  let at = 0;
  const atom = (): number => {
    const token = tokens[at++];
    if (token === "(") {
      const inner = sum();
      at += 1;
      return inner;
    }
    return token === "-" ? -atom() : (plainNumber(token ?? "", base) ?? Number.NaN);
  };
  const product = (): number => {
    let value = atom();
    while (tokens[at] === "*" || tokens[at] === "/")
      value = tokens[at++] === "*" ? value * atom() : value / atom();
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[at] === "+" || tokens[at] === "-")
      value = tokens[at++] === "+" ? value + product() : value - product();
    return value;
  };
  const result = sum();
  return at === tokens.length && Number.isFinite(result) ? result : undefined;
}

function plainNumber(text: string, base: KbBase): number | undefined {
  if (/^0x[0-9a-f]+$/i.test(text)) return Number.parseInt(text, 16);
  const match = /^(\d+(?:\.\d+)?)([a-z]*)$/i.exec(text);
  if (!match) return undefined;
  const unit = match[2]!.toLowerCase();
  if (unit === "" || unit === "b") return Number(match[1]);
  const parts = /^([kmgtp])(i?)b?$/.exec(unit);
  if (!parts) return undefined;
  const step = (parts[2] === "i") === (base === 1024) ? 1000 : 1024;
  return Number(match[1]) * step ** (PREFIXES.indexOf(parts[1]!) + 1);
}

/** A number with its unit. Throws WorkloadError. */
export function fioNumber(text: string, base: KbBase): number {
  const trimmed = text.trim();
  const value = trimmed.startsWith("(") ? evaluate(trimmed, base) : plainNumber(trimmed, base);
  if (value === undefined || !Number.isSafeInteger(Math.floor(value)))
    throw new WorkloadError(`'${text}' is no number`);
  return Math.floor(value);
}

/** A time, ns; a number alone is in `unit`. Throws WorkloadError. */
export function fioTime(text: string, unit: "s" | "us" | "ms"): number {
  const match = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(text.trim());
  const named = match?.[2]?.toLowerCase() || unit;
  const known = { sec: "s", msec: "ms", usec: "us", nsec: "ns" }[named] ?? named;
  const scale = Object.hasOwn(nanosecondsOf, known) ? nanosecondsOf[known] : undefined;
  if (!match || scale === undefined) throw new WorkloadError(`'${text}' is no time`);
  return Math.round(Number(match[1]) * scale);
}

/** A truth value; a name alone is true. Throws WorkloadError. */
export function fioBool(text: string | undefined): boolean {
  if (text === undefined || text === "") return true;
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  if (/^(0|false|no|off)$/i.test(text)) return false;
  const number = Number(text);
  if (!Number.isFinite(number)) throw new WorkloadError(`'${text}' is neither 0 nor 1`);
  return number !== 0;
}

/** Values for reads, writes and trims: `a`, `a,b` or `a,b,c`; those left out are as the last one given, empty ones undefined. */
export function threeOf(text: string): [string | undefined, string | undefined, string | undefined] {
  const parts = text.split(",").map((part) => part.trim());
  if (parts.length > 3) throw new WorkloadError(`'${text}': there are reads, writes and trims, and no more`);
  const [read, write = parts.length === 1 ? read : undefined, trim = write] = parts;
  const given = (part: string | undefined): string | undefined => (part === "" ? undefined : part);
  return [given(read), given(write), given(trim)];
}

/** `size/percent:size/percent`: what has no percentage shares what is left. Throws WorkloadError. */
export function fioSplit(text: string, base: KbBase): { bytes: number; weight: number }[] {
  const parts = text.split(":").map((part) => {
    const [size = "", percent = ""] = part.split("/");
    return { bytes: fioNumber(size, base), weight: percent === "" ? undefined : Number(percent) };
  });
  if (parts.some(({ weight }) => Number.isNaN(weight))) throw new WorkloadError(`'${text}' is no split`);
  const given = parts.reduce((sum, { weight = 0 }) => sum + weight, 0);
  if (given > 100.001) throw new WorkloadError(`'${text}': the percentages are more than 100`);
  const open = parts.filter(({ weight }) => weight === undefined).length;
  const share = open === 0 ? 0 : (100 - given) / open;
  return parts.map(({ bytes, weight = share }) => ({ bytes, weight }));
}
