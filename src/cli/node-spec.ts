/**
 * From options, whose values are words, to the description of a node that the block layer takes: read by QAPI's table, and
 * refused in the words of qemu-img. What the user may leave to an image's header is filled in for the table and taken out
 * again.
 */
import { CommandError, detailOf } from "../base/errors.ts";
import { defaultFormat, type DriverSource, findDriver } from "../block/model/options.ts";
import { givenWords, guessedFormat } from "../block/model/spec.ts";
import type { NodeSpec } from "../block/model/contract.ts";
import { LUKS } from "../crypto/luks-rows.ts";
import type { Opener } from "./names.ts";
import { isJsonObject, type Json, type JsonObject, validateNode } from "../wire/qapi/index.ts";

/** Takes out of a description what was only put in for the table. */
type Undo = (spec: Record<string, unknown>) => void;

/** The options, with the drivers of all storage, as QAPI's types. Throws CommandError. */
export function nodeSpec({ engine }: Opener, options: JsonObject): NodeSpec {
  const { graph } = engine;
  const anyFormat = { plain: defaultFormat(graph, "unclaimed"), overlay: defaultFormat(graph, "overlay") };
  const { filled, undo } = fillIn(options, anyFormat);
  Object.assign(filled, nameless(options));
  try {
    const spec = validateNode(filled, engine.graph.drivers) as NodeSpec;
    undo(spec);
    return spec;
  } catch (error) {
    const unknown = detailOf(error, "unexpected");
    const refusal = unknown === undefined ? undefined : unsupported(graph, options, unknown);
    throw refusal === undefined ? error : new CommandError(refusal);
  }
}

/** That a node's driver has no such option; undefined where a part of the description that is no node's has it. */
function unsupported(graph: DriverSource, options: JsonObject, path: string): string | undefined {
  const [child = "", ...rest] = path.split(".");
  const below = options[child];
  if (rest.length > 0 && isJsonObject(below) && typeof below["driver"] === "string") {
    const words = unsupported(graph, below, rest.join("."));
    return child === "backing" && words !== undefined ? `Could not open backing file: ${words}` : words;
  }
  if (rest.length > 0 && child !== "cache") return undefined;
  const driver = typeof options["driver"] === "string" ? options["driver"] : "";
  return findDriver(graph, driver)?.kind === "protocol"
    ? `Block protocol '${driver}' doesn't support the option '${path}'`
    : `Block format '${driver}' does not support the option '${path}'`;
}

/** Options of a backing file that are put to what the overlay's header says of it. */
export function isFromHeader(backing: JsonObject): boolean {
  return backing["filename"] === undefined && backing["file"] === undefined;
}

/** Formats that stand for the one that a header will name: one without, and one with a backing file of its own. */
interface AnyFormat {
  readonly plain: string;
  readonly overlay: string;
}

function fillIn(options: JsonObject, anyFormat: AnyFormat): { filled: JsonObject; undo: Undo } {
  const filled = Object.create(null) as JsonObject;
  const undo: Undo[] = [];
  if (guessedFormat in options) undo.push((spec) => Object.assign(spec, { [guessedFormat]: true }));
  const words: unknown = (options as { [givenWords]?: unknown })[givenWords];
  if (words !== undefined) undo.push((spec) => Object.assign(spec, { [givenWords]: words }));
  for (const [key, value] of Object.entries(options)) {
    const member = fillMember(key, value, anyFormat);
    if (member.value !== undefined) filled[key] = member.value;
    if (member.undo) undo.push(member.undo);
  }
  return {
    filled,
    undo: (spec) => {
      for (const step of undo) step(spec);
    },
  };
}

function fillMember(key: string, value: Json, anyFormat: AnyFormat): { value?: Json; undo?: Undo } {
  if (key === "backing" && (value === null || value === ""))
    return { undo: (spec) => (spec[key] = value === "" ? null : value) };
  if (!isJsonObject(value)) return { value };
  const { filled, undo } = fillIn(value, anyFormat);
  const made = missing(key, value, anyFormat);
  return {
    value: Object.assign(filled, made),
    undo: (spec) => {
      const member = spec[key] as Record<string, unknown>;
      for (const name of Object.keys(made)) delete member[name];
      undo(member);
    },
  };
}

/** What a file lacks its driver says, in QEMU's words. */
function nameless({ driver, filename }: JsonObject): JsonObject | undefined {
  return driver === "file" && filename === undefined ? { filename: "" } : undefined;
}

/** What the table wants and the header says. */
function missing(key: string, value: JsonObject, anyFormat: AnyFormat): JsonObject {
  // The format of encryption stands in the header.
  if (key === "encrypt" && value["format"] === undefined) return { format: LUKS };
  const name = nameless(value);
  if (name) return name;
  if (key !== "backing" || !isFromHeader(value)) return {};
  const format = value["backing"] === undefined ? anyFormat.plain : anyFormat.overlay;
  return { file: "", ...(value["driver"] === undefined ? { driver: format } : {}) };
}
