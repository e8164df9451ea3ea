/**
 * Names of images as the command line spells them: plain file names, `file:`, and `json:{…}`.
 */
import { CommandError, messageOf } from "../base/errors.ts";
import type { Engine } from "../node.ts";
import { isJsonObject, type JsonObject, parseJson } from "../wire/qapi/index.ts";

/** Who opens an image: the run of a verb. */
export interface Opener {
  readonly engine: Engine;
  readonly signal: AbortSignal;
}

/** The file that a plain name stands for. Throws `Unknown protocol 'x'` for names with another protocol than file. */
export function localFile(name: string): string {
  if (name.startsWith("file:")) return name.slice("file:".length);
  const protocol = /^([^/\\:]*):/.exec(name)?.[1];
  if (protocol !== undefined) throw new CommandError(`Unknown protocol '${protocol}'`);
  return name;
}

/** What has a file name and no driver, at any depth, is a file. */
export function nameFiles(object: JsonObject): void {
  if (object["driver"] === undefined && typeof object["filename"] === "string") object["driver"] = "file";
  for (const value of Object.values(object)) if (isJsonObject(value)) nameFiles(value);
}

/** The file that `backing` means in the header of the image `file`: a relative name counts from the image's directory. */
export function backingPath(verb: Opener, file: string, backing: string): string {
  if (/^[^/\\]*:/.test(backing)) return backing;
  return verb.engine.graph.host.files.resolve(localFile(file), backing);
}

/** The object behind `json:`; its keys may have dots, as `file.filename`. */
export function jsonOptions(text: string): JsonObject {
  let parsed: unknown;
  try {
    parsed = parseJson(text);
  } catch (error) {
    throw new CommandError(`Could not parse the JSON options: ${messageOf(error)}`);
  }
  if (!isJsonObject(parsed)) throw new CommandError("Invalid JSON object given");
  return nestKeys(parsed);
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
