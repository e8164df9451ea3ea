/**
 * Option strings of the older kind (`-drive`, `-device`, `-machine` …): `key=value` pairs with doubled commas for commas; a key
 * alone is `on`, and one with `no` before it `off`. Source: behaviour of QEMU 7.2's QemuOpts.
 */
import { QapiError } from "../../wire/qapi/index.ts";
import { splitAtCommas } from "../../wire/qapi/keyval.ts";

/** Pairs in their order; a later one of the same key counts. */
export type OptionPairs = [key: string, value: string][];

/** Cuts an option string. A first word without `=` is the value of `implied`. */
export function optionPairs(text: string, implied?: string): OptionPairs {
  return splitAtCommas(text).map((part, index) => {
    const at = part.indexOf("=");
    if (at >= 0) return [part.slice(0, at), part.slice(at + 1)];
    return index === 0 && implied !== undefined ? [implied, part] : shortPair(part);
  });
}

/** What a key alone stands for. It may be empty. */
function shortPair(word: string): [key: string, value: string] {
  return word.startsWith("no") && word.length > 2 ? [word.slice(2), "off"] : [word, "on"];
}

/** The words of an option string that stand for `on` or `off`, with their keys and values. */
export function shortWords(text: string, implied?: string): [word: string, key: string, value: string][] {
  return splitAtCommas(text).flatMap((word, index) => {
    if (word.includes("=") || word === "help" || word === "?" || (index === 0 && implied !== undefined))
      return [];
    return [[word, ...shortPair(word)]];
  });
}

/** Takes the last value of a key out of the pairs. */
export function takeOption(pairs: OptionPairs, key: string): string | undefined {
  let found: string | undefined;
  for (let at = pairs.length - 1; at >= 0; at--) {
    if (pairs[at]![0] !== key) continue;
    found ??= pairs[at]![1];
    pairs.splice(at, 1);
  }
  return found;
}

/** Takes a truth value. Throws QapiError. */
export function takeFlag(pairs: OptionPairs, key: string): boolean | undefined {
  const text = takeOption(pairs, key);
  if (text === undefined) return undefined;
  if (["on", "yes", "true", "y"].includes(text)) return true;
  if (["off", "no", "false", "n"].includes(text)) return false;
  throw new QapiError(`Parameter '${key}' expects 'on' or 'off'`);
}

/** Gives what was asked for by an option's older name the newer one. Throws QapiError where both are there. */
export function renameOption(pairs: OptionPairs, alias: string, name: string): void {
  const value = takeOption(pairs, alias);
  if (value === undefined) return;
  if (pairs.some(([key]) => key === name))
    throw new QapiError(`'${name}' and its alias '${alias}' can't be used at the same time`);
  pairs.push([name, value]);
}

/** Takes a number; one below zero wraps, as QEMU's. Throws QapiError. */
export function takeNumber(pairs: OptionPairs, key: string): number | undefined {
  const text = takeOption(pairs, key);
  if (text === undefined) return undefined;
  const [, sign, digits] = /^(-?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text) ?? [];
  if (digits === undefined) throw new QapiError(`Parameter '${key}' expects a number`);
  return Number(sign ? BigInt.asUintN(64, -BigInt(digits)) : digits);
}

/** The pairs as one option string again. */
export function joinedPairs(pairs: OptionPairs): string {
  return pairs.map(([key, value]) => `${key}=${value.replaceAll(",", ",,")}`).join(",");
}
