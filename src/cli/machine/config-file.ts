/**
 * `-readconfig FILE`: options out of a file of groups, `[drive "ID"]` with lines `key = "value"` below. Source: behaviour of QEMU 7.2,
 * which reads lines by scanf: what stands behind a group's or a value's end is not looked at, and a key without a value in quotes
 * has an empty one.
 */
import { readFileSync } from "node:fs";
import { errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { OptionPairs } from "./opts.ts";

/** A group of options. */
export interface ConfigGroup {
  readonly name: string;
  readonly pairs: OptionPairs;
  /** `FILE:LINE` of its last line, for messages; undefined before the first. */
  readonly place: string | undefined;
}

/** What is wrong with a file; `place` as of a group. */
export class ConfigFileError extends Error {
  readonly place: string | undefined;

  constructor(message: string, place?: string) {
    super(message);
    this.place = place;
  }
}

const WORD = 63;
const VALUE = 1023;

/** Reads a file. Throws ConfigFileError. */
export function readConfigFile(name: string): ConfigGroup[] {
  let text: string;
  try {
    text = readFileSync(name, "utf8");
  } catch (error) {
    const code = errnoOf(error);
    const what = code === "EISDIR" ? "Cannot read config file" : `Could not open '${name}'`;
    throw new ConfigFileError(`${what}: ${strerror(code)}`);
  }
  return groupsOf(text, name);
}

function groupsOf(text: string, name: string): ConfigGroup[] {
  const groups: { name: string; pairs: OptionPairs; place: string | undefined }[] = [];
  let place: string | undefined;
  for (const [at, line] of text.replace(/\n$/, "").split("\n").entries()) {
    if (line === "" || line.startsWith("#")) continue;
    const header = readHeader(line);
    if (header) {
      groups.push({ ...header, place });
      continue;
    }
    place = `${name}:${at + 1}`;
    const pair = readPair(line);
    if (!pair) throw new ConfigFileError("parse error", place);
    const group = groups.at(-1);
    if (!group) throw new ConfigFileError("no group defined", place);
    group.pairs.push(pair);
    group.place = place;
  }
  return groups;
}

function readHeader(line: string): { name: string; pairs: OptionPairs } | undefined {
  const [, named, id] = /^\[(\S+)\s*"([^"]+)/.exec(line) ?? [];
  if (named !== undefined && id !== undefined)
    return { name: named.slice(0, WORD), pairs: [["id", id.slice(0, WORD)]] };
  const [, name] = /^\[([^\]]+)/.exec(line) ?? [];
  return name === undefined ? undefined : { name: name.slice(0, WORD), pairs: [] };
}

function readPair(line: string): [string, string] | undefined {
  const [, key, value = ""] = /^\s*(\S+)(?:\s*=\s*"([^"]*))?/.exec(line) ?? [];
  return key === undefined ? undefined : [key.slice(0, WORD), value.slice(0, VALUE)];
}
