/**
 * Options of a node as the command line gives them: strings, which are read more leniently than QAPI reads them (sizes with
 * suffixes, `discard=on`) and refused in other words. Source: behaviour of qemu-img and qemu-io 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import { givenWords } from "../../block/model/spec.ts";
import type { DriverSource } from "../../block/model/options.ts";
import { isJsonObject, type JsonObject, valuesOf } from "../../wire/qapi/index.ts";
import { notASize, parseSize } from "./sizes.ts";

/** Options that are a number of bytes. */
const sizes: ReadonlySet<string> = new Set([
  "size",
  "offset",
  ...["align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard"],
  "cache-size",
  "l2-cache-size",
  "l2-cache-entry-size",
  "refcount-cache-size",
  ...["prealloc-size", "prealloc-align", "log-sector-size"],
]);

const discards: ReadonlyMap<string, string> = new Map([
  ["on", "unmap"],
  ["unmap", "unmap"],
  ["off", "ignore"],
  ["ignore", "ignore"],
]);

const modes = new Map<string, readonly string[]>([
  ["detect-zeroes", valuesOf("BlockdevDetectZeroesOptions")],
  ["locking", valuesOf("OnOffAuto")],
]);

function readWord(name: string, text: string): string {
  if (sizes.has(name)) {
    const bytes = parseSize(text);
    if (typeof bytes === "string") throw new CommandError(notASize(name));
    return String(bytes);
  }
  if (name === "discard") {
    const mode = discards.get(text);
    if (mode === undefined) throw new CommandError("Invalid discard option");
    return mode;
  }
  if (modes.get(name)?.includes(text) === false) throw new CommandError(`invalid parameter value: ${text}`);
  return text;
}

/** What JSON gave as words, and what not. */
function givenIn(options: JsonObject): Readonly<Record<string, string>> | undefined {
  return (options as { readonly [givenWords]?: Readonly<Record<string, string>> })[givenWords];
}

/** The same options, at any depth, as QAPI takes them; drivers may refuse theirs first. Throws CommandError. */
export function readOptionWords(drivers: DriverSource, options: JsonObject): JsonObject {
  const read = Object.create(null) as JsonObject;
  const words: Record<string, string> = {};
  for (const [name, value] of Object.entries(options)) {
    if (typeof value === "string") {
      words[name] = value;
      read[name] = readWord(name, value);
    } else if (isJsonObject(value)) read[name] = readOptionWords(drivers, value);
    else read[name] = value;
    for (const { refusals } of drivers.drivers) refusals?.option?.(name, value);
  }
  return Object.assign(read, { [givenWords]: givenIn(options) ?? words });
}
