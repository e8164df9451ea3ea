/**
 * Option strings: `driver=file,filename=a,,b,cache.direct=on,list.0.x=1`, or a JSON object that starts with `{`.
 *
 * A doubled comma is a comma; dots make objects; keys that are all numbers make a list. Scalars stay strings for the
 * validator to convert. Source: behaviour of QEMU 7.2's keyval options, recorded in the tests.
 */
import { QapiError } from "./errors.ts";
import { isJsonObject, type Json, type JsonObject } from "./json.ts";
import { parseJson } from "./json-parser.ts";
import type { Schema, TypeName, TypeOf } from "./table.ts";
import { validate, validateOptions } from "./reader.ts";

/** Longest part of a key between dots. */
const MAX_FRAGMENT = 127;

const FRAGMENT = /^(?:[A-Za-z][A-Za-z0-9_-]*|[0-9]{1,10})$/;

/** One pair of an option string. `key` is undefined for a value that stands alone at the start. */
export interface OptionPair {
  readonly key: string;
  readonly value: string;
}

/** Cuts an option string at its single commas; a doubled one stands for a comma. */
export function splitAtCommas(text: string): string[] {
  const parts: string[] = [];
  let part = "";
  for (let at = 0; at < text.length; at++) {
    if (text[at] !== ",") part += text[at];
    else if (text[at + 1] === ",") {
      part += ",";
      at++;
    } else {
      parts.push(part);
      part = "";
    }
  }
  // A single comma at the end is ignored.
  if (part !== "") parts.push(part);
  return parts;
}

/**
 * The pairs of an option string, in order. A first value without `=` belongs to `impliedKey`.
 * Throws QapiError.
 */
export function splitOptions(text: string, impliedKey?: string): OptionPair[] {
  return splitAtCommas(text).map((part, index) => {
    const at = part.indexOf("=");
    if (at >= 0) return { key: part.slice(0, at), value: part.slice(at + 1) };
    if (part === "help" || part === "?") throw new QapiError("Help is not available for this option");
    if (index === 0 && impliedKey !== undefined && part !== "") return { key: impliedKey, value: part };
    if (part === "") throw new QapiError("Invalid parameter ''");
    throw new QapiError(`Expected '=' after parameter '${part}'`);
  });
}

function fragmentsOf(key: string): string[] {
  const fragments = key.split(".");
  fragments.forEach((fragment, index) => {
    if (FRAGMENT.test(fragment) && (index > 0 || /^[A-Za-z]/.test(fragment))) {
      if (fragment.length <= MAX_FRAGMENT) return;
      throw new QapiError(`Parameter${fragments.length > 1 ? " fragment" : ""} '${fragment}' is too long`);
    }
    throw new QapiError(`Invalid parameter '${key}'`);
  });
  return fragments;
}

function put(root: JsonObject, { key, value }: OptionPair): void {
  const fragments = fragmentsOf(key);
  const last = fragments.length - 1;
  let object = root;
  fragments.forEach((fragment, index) => {
    const existing = object[fragment];
    const path = fragments.slice(0, index + 1).join(".");
    if (index === last) {
      if (isJsonObject(existing)) throw new QapiError(`Parameters '${path}.*' used inconsistently`);
      object[fragment] = value;
      return;
    }
    if (existing !== undefined && !isJsonObject(existing)) {
      throw new QapiError(`Parameters '${path}.*' used inconsistently`);
    }
    const next = existing ?? (Object.create(null) as JsonObject);
    object[fragment] = next;
    object = next;
  });
}

/** Makes lists of the objects whose keys are numbers. Throws QapiError. */
export function listify(value: Json, path: string): Json {
  if (!isJsonObject(value)) return value;
  const keys = Object.keys(value);
  const prefix = path === "" ? "" : `${path}.`;
  for (const key of keys) value[key] = listify(value[key] ?? null, `${prefix}${key}`);
  const numbers = keys.filter((key) => /^[0-9]/.test(key));
  if (numbers.length === 0) return value;
  if (numbers.length < keys.length) throw new QapiError(`Parameters '${prefix}*' used inconsistently`);
  const byIndex = new Map(numbers.map((key) => [Number(key), value[key] ?? null]));
  return numbers.map((_, index) => {
    const item = byIndex.get(index);
    if (item === undefined) throw new QapiError(`Parameter '${prefix}${index}' missing`);
    return item;
  });
}

/** Parses an option string into nested objects and lists of strings. A later value of a key wins. Throws QapiError. */
export function parseKeyval(text: string, impliedKey?: string): JsonObject {
  const root = Object.create(null) as JsonObject;
  for (const pair of splitOptions(text, impliedKey)) put(root, pair);
  listify(root, "");
  return root;
}

/** Reads an option's argument, key=value or JSON, as the type `name`. Throws QapiError. */
export function parseOption<N extends TypeName>(
  name: N,
  text: string,
  { impliedKey, table }: { impliedKey?: string; table?: Schema | undefined } = {},
): TypeOf<N> {
  if (text.startsWith("{")) return validate(name, parseJson(text), table);
  return validateOptions(name, parseKeyval(text, impliedKey), table);
}
