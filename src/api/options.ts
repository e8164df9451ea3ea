/**
 * What plain JavaScript hands to the library, checked before anything is touched: node descriptions and creation options by
 * the QAPI table, in QMP's words, and the library's own options by a table that stands beside each interface and that its
 * type holds complete. Both are read by the one reader of the table (wire/qapi/reader.ts), which names the word that was
 * meant (`readOnly`: `read-only`).
 *
 * Invariants: nothing is changed or copied, so what passes is what the caller gave; `undefined` is absent. What only the
 * library has (buffers, Blobs, signals, functions, handles) are things beside QAPI's types. A driver of the caller's own that
 * does not describe its options looks at them itself.
 */
import { assert } from "../base/assert.ts";
import { CommandError, blockError } from "../base/errors.ts";
import { checkDiskLength } from "../base/ranges.ts";
import type { DriverType } from "../block/model/contract.ts";
import { isItsFile } from "../block/model/options.ts";
import {
  checkValue,
  compatLevels,
  enumOf,
  isOfTable,
  optionTypes,
  struct,
  tableOf,
  type TypeDef,
  type TypeTable,
  typesWith,
} from "../wire/qapi/index.ts";

function thing(words: string, is: (value: unknown) => boolean): TypeDef {
  return { kind: "thing", words, is };
}

function has(value: unknown, ...members: string[]): value is object {
  return typeof value === "object" && value !== null && members.every((member) => member in value);
}

/** The things of the program that options hold. */
const things = {
  Signal: thing("AbortSignal", (value) => has(value, "aborted", "reason")),
  Function: thing("function", (value) => typeof value === "function"),
  Bytes: thing("Uint8Array", (value) => value instanceof Uint8Array),
  Blob: thing("Blob", (value) => has(value, "size", "slice")),
  Finite: thing("number", (value) => Number.isFinite(value)),
  Object: thing("object", (value) => has(value)),
  /** Numbers of bytes; which are too large is told by name (checkLength). */
  Length: thing("number", (value) => typeof value === "number"),
  Node: thing("Node (openNode() opens one)", (value) => has(value, "blockNode")),
  Engine: thing("Engine", (value) => has(value, "graph", "machine")),
  BlockJob: thing("BlockJob", (value) => has(value, "ended", "setSpeed")),
  Port: thing("MessagePort or Worker", (value) => has(value, "postMessage", "addEventListener")),
  Connection: thing("HostConnection (portConnection() makes one)", (value) =>
    has(value, "incoming", "write"),
  ),
  NodeRef: { kind: "alternate", types: ["str", "Node"] },
  StringOrBytes: { kind: "alternate", types: ["str", "Bytes"] },
  /** A description that is checked where it is opened, or a node's name. */
  Storage: { kind: "alternate", types: ["str", "Object"] },
  SnapshotId: struct({ "*id": "str", "*name": "str" }),
  SnapshotRef: { kind: "alternate", types: ["str", "SnapshotId"] },
  AutoResume: struct({ "*probeMs": "number", "*hasRoom": "Function", "*signal": "Signal" }),
  FleecingOptions: struct({ "*scratch": "Storage" }),
  Fleecing: { kind: "alternate", types: ["bool", "FleecingOptions"] },
  Drivers: thing("array of drivers", Array.isArray),
  Array: thing("array", Array.isArray),
  Kernels: enumOf("auto", "twin"),
  CompatLevel: enumOf(...compatLevels),
  NativeCalls: enumOf("auto", "off"),
  FileIo: enumOf("pool", "in-turn"),
  Repair: enumOf("leaks", "all"),
  Compat: enumOf("0.10", "1.1"),
  Completion: enumOf("individual", "grouped"),
  ImageStore: enumOf("opfs", "indexeddb"),
  GuestStore: enumOf("auto", "opfs", "indexeddb"),
  WhenChanged: enumOf("refuse", "discard", "accept", "keep-both"),
} as const satisfies TypeTable;

/** Things count before QAPI's types. */
const tables: readonly TypeTable[] = [things, optionTypes];

/** A type of an option: QAPI's, or a thing. */
type OptionType = keyof typeof things | keyof typeof optionTypes | "str" | "bool" | "int" | "number";

/** A table of options, all of which may be left out: each member of `T` and its type. */
export type OptionTable<T> = { readonly [K in keyof Required<T>]: OptionType };

/** Options of every call. */
export const callOptions = { signal: "Signal" } as const;
/** Options of every function of an entry that may have an engine of its own. */
export const imageOptions = { ...callOptions, engine: "Engine" } as const;
/** Told how far something is. */
export const followed = { ...callOptions, onProgress: "Function" } as const;
/** A range of a disk. Where it must lie, whose disk it is looks at. */
export const rangeOptions = { ...callOptions, offset: "Length", length: "Length" } as const;

/**
 * The check of one function's options: throws CommandError in QMP's words for one that it does not have, of another type, or
 * with a value that it does not take. To be called before anything is touched.
 */
export function optionsOf<T extends object>(table: OptionTable<T>): (options: unknown) => void {
  let own: TypeTable | undefined;
  return (options) => {
    if (!has(options) || Array.isArray(options))
      throw new CommandError("Invalid parameter type for 'options', expected: object");
    if (Object.keys(options).length === 0) return;
    own ??= { Options: struct(optional(table)) };
    checkValue("Options", options, [own, ...tables]);
  };
}

function optional<T>(table: OptionTable<T>): Record<string, string> {
  return Object.fromEntries(
    Object.entries<OptionType>(table).map(([name, type]) => [`*${name}`, type]),
  ) as Record<string, string>;
}

/** Checks one argument that is no options object: throws CommandError unless `value` is of that type. */
export function checkArgument(
  name: string,
  value: unknown,
  type: keyof typeof things | "str" | "bool",
): void {
  checkValue("Argument", { [name]: value }, [{ Argument: struct({ [name]: type }) }, ...tables]);
}

/** Throws CommandError unless each of these arguments is a node's handle. */
export function checkNodes(nodes: Readonly<Record<string, unknown>>): void {
  for (const [name, node] of Object.entries(nodes)) checkArgument(name, node, "Node");
}

/** The refusal of an argument of another type. */
export function wrongArgument(name: string, expected: string): CommandError {
  return new CommandError(`Invalid parameter type for '${name}', expected: ${expected}`);
}

/** Throws BlockError EINVAL for what is no length of a disk, EFBIG for one beyond what is held exactly. */
export function checkLength(bytes: number, op: string): void {
  if (!Number.isInteger(bytes) || bytes < 0)
    throw blockError("EINVAL", op, `Image size ${bytes} is no whole number of bytes`);
  checkDiskLength(bytes, op);
}

/** Throws CommandError unless `spec` describes a node as blockdev-add would take it, with what the library adds. */
export function checkNodeSpec(spec: unknown, drivers: Iterable<DriverType>): void {
  if (!has(spec)) throw wrongArgument("spec", "object");
  checkNoHandles("spec", spec);
  checkValue("BlockdevOptions", spec, isOfTable(spec) ? [own, ...tables] : specTypes(drivers), "description");
}

/** Throws CommandError for a handle where a description is wanted, at any depth: an open node is named. */
function checkNoHandles(path: string, spec: object): void {
  if (has(spec, "blockNode"))
    throw wrongArgument(path, "description, not a Node (one that is open is named: `node.name`)");
  if (Array.isArray(spec) || ArrayBuffer.isView(spec)) throw wrongArgument(path, "description");
  for (const [name, part] of Object.entries(spec))
    if (has(part, "driver") || has(part, "blockNode"))
      checkNoHandles(path === "spec" ? name : `${path}.${name}`, part);
}

/** The same for what createImage() makes: as blockdev-create's options, with a new file for `file`. */
export function checkCreateSpec(spec: unknown, drivers: Iterable<DriverType>): void {
  if (!has(spec)) throw wrongArgument("spec", "object");
  checkValue("BlockdevCreateOptions", spec, specTypes(drivers));
}

/** Throws CommandError where `storage` is a description, and none of a node; a node is known by its name. */
export function checkStorage(storage: unknown, drivers: Iterable<DriverType>): void {
  if (has(storage)) checkNodeSpec(storage, drivers);
}

/** Throws CommandError unless `file` names a file of a driver that makes files. */
export function checkNewFile(file: unknown, drivers: Iterable<DriverType>): void {
  checkNodeSpec(file, drivers);
}

/** What the library takes where QAPI's own driver takes less. */
const own: TypeTable = tableOf({
  BlockdevOptionsMemory: struct({ "*size": "size", "*max-bytes": "size", "*buffer": "Bytes" }),
  BlockdevOptionsHttp: () => withMembers("BlockdevOptionsHttp", { "*manifest": "StringOrBytes" }),
  BlockdevOptionsBlob: struct({ blob: "Blob" }),
  BlockdevCreateOptionsOfAFile: struct({
    file: "BlockdevRef",
    size: "size",
    "*preallocation": "PreallocMode",
  }),
  /** A driver that says nothing of its options. */
  Undescribed: { ...struct({}), isOpen: true },
});

function withMembers(name: string, members: Record<string, string>): TypeDef {
  const definition = (optionTypes as TypeTable)[name];
  return definition?.kind === "struct"
    ? { ...definition, members: { ...definition.members, ...members } }
    : struct(members);
}

/** QAPI's types for these drivers, those among them that QMP does not know, and what the library adds to ours. */
function specTypes(drivers: Iterable<DriverType>): readonly TypeTable[] {
  const all = [...drivers];
  const ours: readonly string[] = optionTypes.BlockdevDriver.values;
  const known = typesWith(all, optionTypes);
  // Filters that jobs put in have no names that anybody could open.
  const unknown = all.filter(({ name }) => !ours.includes(name) && !/^(mirror|commit)_top$/.test(name));
  const silent = (isSilent: (driver: DriverType) => boolean): Branches =>
    Object.fromEntries(unknown.filter(isSilent).map(({ name }) => [name, "Undescribed"]));
  const added: TypeTable = {
    BlockdevDriver: enumOf(...new Set([...ours, ...unknown.map(({ name }) => name)])),
    BlockdevOptions: branched(known["BlockdevOptions"], {
      ...silent(({ openOptions }) => !openOptions),
      blob: "BlockdevOptionsBlob",
    }),
    BlockdevCreateOptions: branched(known["BlockdevCreateOptions"], {
      ...silent(({ createOptions }) => !createOptions),
      ...Object.fromEntries(all.filter(isItsFile).map(({ name }) => [name, "BlockdevCreateOptionsOfAFile"])),
    }),
  };
  return [added, own, things, known];
}

type Branches = { readonly [driver: string]: string | null };

/** A union with these branches too; a driver without options of its own is refused by who is asked to use it. */
function branched(definition: TypeDef | undefined, more: Branches): TypeDef {
  assert(definition?.kind === "union", "descriptions are unions");
  const branches = Object.entries({ ...definition.branches, ...more });
  const filled = branches.map(([driver, type]) => [driver, type ?? "Undescribed"] as const);
  return { ...definition, branches: Object.fromEntries(filled) };
}
