/**
 * Names of images as the command line spells them: plain file names, `file:`, and `json:{…}`.
 */
import { CommandError, messageOf } from "../base/errors.ts";
import { hasProtocol, protocolPrefix } from "../block/model/gate.ts";
import { givenWords } from "../block/model/spec.ts";
import type { Engine } from "../node.ts";
import { isJsonObject, type Json, type JsonObject, listify, parseJson } from "../wire/qapi/index.ts";

/** Who opens an image: the run of a verb. */
export interface Opener {
  readonly engine: Engine;
  readonly signal: AbortSignal;
}

/** The file that `backing` means in the header of the image `file`: a relative name counts from the image's directory. */
export function backingPath(verb: Opener, file: string, backing: string): string {
  if (hasProtocol(backing)) return backing;
  const path = file.slice(protocolPrefix(file).length);
  return verb.engine.graph.host.files.resolve(path, backing);
}

/** A name as a user writes it: a name, or options behind `json:`, as words. Throws CommandError. */
export function readName(name: string): { name?: string; options: JsonObject } {
  if (!name.startsWith("json:")) return { name, options: {} };
  return { options: inWords(jsonOptions(name.slice("json:".length))) as JsonObject };
}

/** JSON as key=value options would say it: QEMU takes numbers and truth values in strings, too. */
function inWords(value: Json): Json {
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value === "number" || typeof value === "bigint") return String(value);
  if (Array.isArray(value)) return value.map(inWords);
  if (!isJsonObject(value)) return value;
  const words = Object.create(null) as JsonObject;
  for (const [key, item] of Object.entries(value)) words[key] = inWords(item);
  const given = Object.entries(value).filter(([, item]) => typeof item === "string");
  return Object.assign(words, { [givenWords]: Object.fromEntries(given) });
}

/** The object behind `json:`; its keys may have dots, as `file.filename`. */
function jsonOptions(text: string): JsonObject {
  let parsed: unknown;
  try {
    parsed = parseJson(text);
  } catch (error) {
    throw new CommandError(`Could not parse the JSON options: ${messageOf(error)}`);
  }
  if (!isJsonObject(parsed)) throw new CommandError("Invalid JSON object given");
  return listify(nestKeys(parsed), "") as JsonObject;
}

function nestKeys(object: JsonObject): JsonObject {
  const nested = Object.create(null) as JsonObject;
  for (const [key, value] of Object.entries(object)) {
    const dot = key.indexOf(".");
    const inner = isJsonObject(value) ? nestKeys(value) : value;
    if (dot < 0) nested[key] = inner;
    else {
      const name = key.slice(0, dot);
      const before = nested[name];
      nested[name] = nestKeys({ ...(isJsonObject(before) ? before : {}), [key.slice(dot + 1)]: inner });
    }
  }
  return nested;
}
