/**
 * Where blkdebug's rules come from: the options `inject-error` and `set-state`, and a config file of the form
 *
 *     [inject-error]
 *     event = "read_aio"
 *     errno = "28"
 *
 * The file's rules come first. Source: QEMU's docs/devel/blkdebug; the reader's leniency and words are those of 7.2,
 * where a name without a quoted value means the empty string.
 */
import { blockError, errnoOf } from "../../base/errors.ts";
import { strerror } from "../../base/errno.ts";
import type { HostFiles } from "../../base/host.ts";
import { MiB } from "../../base/limits.ts";
import type { NodeSpec } from "../../block/model/contract.ts";
import { optionError } from "../../block/model/options.ts";
import {
  type BlkdebugIoType,
  type BlkdebugRules,
  blkdebugEvents,
  blkdebugIoTypes,
  injectErrorDefaults,
} from "./blkdebug-rules.ts";

const MAX_CONFIG_BYTES = MiB;

type Fields = Map<string, unknown>;
type Kind = "string" | "number" | "boolean";

const groups: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  "inject-error": {
    event: "string",
    state: "number",
    iotype: "string",
    errno: "number",
    sector: "number",
    once: "boolean",
    immediately: "boolean",
  },
  "set-state": { event: "string", state: "number", new_state: "number" },
};

/** All rules of a node. Throws EINVAL, or the errno of reading the config file. */
export async function readRules(spec: NodeSpec, files: HostFiles): Promise<BlkdebugRules> {
  const rules: BlkdebugRules = { injectError: [], setState: [] };
  const config = spec["config"];
  if (config !== undefined) {
    if (typeof config !== "string")
      throw optionError("Invalid parameter type for 'config', expected: string");
    for (const { group, fields } of parseConfig(await readConfig(files, config)))
      addRule(rules, group, fields);
  }
  for (const group of Object.keys(groups)) {
    for (const fields of optionGroups(spec, group)) addRule(rules, group, fields);
  }
  return rules;
}

async function readConfig(files: HostFiles, path: string): Promise<string> {
  try {
    const file = await files.open(path, { write: false });
    try {
      const bytes = new Uint8Array(Math.min(await file.size(), MAX_CONFIG_BYTES));
      const length = await file.read(bytes, 0);
      return new TextDecoder().decode(bytes.subarray(0, length));
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = errnoOf(error);
    throw blockError(code, "open", `Could not read blkdebug config file: ${strerror(code)}`);
  }
}

interface ConfigGroup {
  group: string;
  fields: Fields;
}

/** The groups of a config file's text. Throws EINVAL. */
export function parseConfig(text: string): ConfigGroup[] {
  const found: ConfigGroup[] = [];
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const group = /^\[([^\]"\s]{1,63})(?: "[^"]{1,63}")?\]/.exec(line)?.[1];
    if (group !== undefined) {
      if (!Object.hasOwn(groups, group)) throw optionError(`There is no option group '${group}'`);
      found.push({ group, fields: new Map() });
      continue;
    }
    const [, name, value] = /^\s*(\S{1,63})(?:\s*=\s*"([^"]{1,1023})")?/.exec(line) ?? [];
    if (name === undefined) throw optionError("parse error");
    const current = found.at(-1);
    if (!current) throw optionError("no group defined");
    current.fields.set(name, configValue(current.group, name, value ?? ""));
  }
  return found;
}

function configValue(group: string, name: string, value: string): unknown {
  const kind = groups[group]?.[name];
  if (kind === undefined) throw optionError(`Invalid parameter '${name}'`);
  if (kind === "string") return value;
  if (kind === "boolean") {
    if (/^(on|yes|true|y)$/.test(value)) return true;
    if (/^(off|no|false|n)$/.test(value)) return false;
    throw optionError(`Parameter '${name}' expects 'on' or 'off'`);
  }
  const number = /^\s*[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isSafeInteger(number)) throw optionError(`Parameter '${name}' expects a number`);
  return number;
}

function optionGroups(spec: NodeSpec, group: string): Fields[] {
  const list = spec[group];
  if (list === undefined) return [];
  if (!Array.isArray(list)) throw optionError(`Invalid parameter type for '${group}', expected: array`);
  return (list as unknown[]).map((entry, index) => {
    if (typeof entry !== "object" || entry === null) {
      throw optionError(`Invalid parameter type for '${group}[${index}]', expected: object`);
    }
    return new Map(Object.entries(entry).map(([name, value]) => [name, optionValue(group, name, value)]));
  });
}

const kindNames: Readonly<Record<Kind, string>> = { string: "string", number: "integer", boolean: "boolean" };

function optionValue(group: string, name: string, value: unknown): unknown {
  const kind = groups[group]?.[name];
  if (kind === undefined) throw optionError(`Parameter '${name}' is unexpected`);
  if (typeof value !== kind || (kind === "number" && !Number.isSafeInteger(value))) {
    throw optionError(`Invalid parameter type for '${name}', expected: ${kindNames[kind]}`);
  }
  return value;
}

function addRule(rules: BlkdebugRules, group: string, fields: Fields): void {
  const event = fields.get("event");
  if (typeof event !== "string") throw optionError("Missing event name for rule");
  if (!blkdebugEvents.has(event)) throw optionError(`invalid parameter value: ${event}`);
  const number = (name: string, otherwise: number): number => {
    const value = fields.get(name);
    return typeof value === "number" ? value : otherwise;
  };
  const state = number("state", 0);
  if (group === "set-state") {
    rules.setState.push({ event, state, newState: number("new_state", 0) });
    return;
  }
  rules.injectError.push({
    event,
    state,
    iotype: ioType(fields.get("iotype")),
    errno: number("errno", injectErrorDefaults.errno),
    sector: number("sector", injectErrorDefaults.sector),
    once: fields.get("once") === true,
    immediately: fields.get("immediately") === true,
  });
}

function ioType(name: unknown): BlkdebugIoType | undefined {
  if (typeof name !== "string") return undefined;
  const type = blkdebugIoTypes.find((known) => known === name);
  if (type === undefined) throw optionError(`invalid parameter value: ${name}`);
  return type;
}
