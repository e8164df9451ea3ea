/**
 * The reader of the table, whichever table it is: checks a value against a type and copies it into the typed form, refusing in
 * QEMU's words and in QEMU's order: a struct's members in schema order first, what is left over last.
 *
 * Three kinds of input: JSON (numbers are numbers); key=value options, whose scalars are strings to be converted; and what a
 * program hands to the library, where `undefined` is absent and a refusal names the word that was meant.
 * Invariants: the result has only members that the schema knows; an integer in it is a safe integer (a 64-bit value
 * beyond is narrowed to the nearest safe one: no image is that large).
 * Source: behaviour of qemu-storage-daemon 7.2, recorded in test/unit/wire/qapi/validate.test.ts.
 *
 * An engine may have drivers that QEMU 7.2 does not know: its table gets their node descriptions, creation and amend options from
 * what each says of itself. The fixed table is never changed.
 */
import { assert } from "../../base/assert.ts";
import { QapiError } from "./errors.ts";
import { isJsonObject, JsonFraction, type Json, type JsonObject } from "./json.ts";
import { integerFromOption, sizeFromOption } from "./option-number.ts";
import {
  isListRef,
  membersOf,
  type AlternateDef,
  type EnumDef,
  type Members,
  type StructDef,
  type TypeDef,
  type TypeRef,
  type TypeTable,
  type UnionDef,
  enumOf,
  extend,
  type Branches,
  struct,
} from "./schema.ts";
import { didYouMean } from "./suggest.ts";
import { isOfTable, optionTypes } from "./option-types.ts";
import { schema, type Schema, type ArgsOf, type CommandName, type TypeName, type TypeOf } from "./table.ts";

/** Where in the input a value stands. `name` is its own key; undefined inside a list and at the top. */
interface Place {
  readonly path: string;
  readonly name: string | undefined;
}

/** Where the name of an image's file belongs, for those who write it beside the format. */
const OF_THE_FILE = ' (it belongs to the file: { driver: "qcow2", file: { driver: "file", filename } })';

const ROOT: Place = { path: "", name: undefined };

const INTEGER_RANGES: { readonly [type: string]: readonly [bigint, bigint] } = {
  int8: [-(2n ** 7n), 2n ** 7n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  uint8: [0n, 2n ** 8n - 1n],
  uint16: [0n, 2n ** 16n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
};

const INT64_MIN = -(2n ** 63n);
const INT64_MAX = 2n ** 63n - 1n;
const SAFE_MAX = BigInt(Number.MAX_SAFE_INTEGER);

/** Where the input comes from. */
export type Origin = "json" | "options" | "program" | "description";

/** One reading of one input. */
export class Reader {
  /** Scalars are strings, from key=value options. */
  readonly #options: boolean;
  /** Refusals name what was meant. */
  readonly #hints: boolean;
  /** What is missing is the driver's to say: headers and probes may bring it yet. */
  readonly #mayLack: boolean;
  readonly #tables: readonly TypeTable[];

  /** A type is the first table's that has it. */
  constructor(origin: Origin, ...tables: readonly TypeTable[]) {
    this.#options = origin === "options";
    this.#hints = origin === "program" || origin === "description";
    this.#mayLack = origin === "description";
    this.#tables = tables;
  }

  #type(name: string): TypeDef | undefined {
    for (const table of this.#tables) if (table[name] !== undefined) return table[name];
    return undefined;
  }

  /** Reads `input`, which stands at `place`, as a type. Throws QapiError. */
  value(ref: TypeRef, input: Json, place: Place = ROOT): Json {
    if (isListRef(ref)) return this.#list(ref[0], input, place);
    const definition = this.#type(ref);
    if (definition === undefined) return this.#builtin(ref, input, place);
    switch (definition.kind) {
      case "enum":
        return this.#enum(definition, input, place);
      case "struct":
        return this.#struct(definition, input, place);
      case "union":
        return this.#union(definition, input, place);
      case "alternate":
        return this.#alternate(ref, definition, input, place);
      case "thing":
        if (!definition.is(input)) throw wrongType(place, definition.words);
        return input;
    }
  }

  /** The members of a command's arguments. */
  members(members: Members, input: Json): JsonObject {
    return this.#object(input, ROOT, (taken) => this.#take(members, taken, ROOT));
  }

  #list(element: string, input: Json, place: Place): Json {
    if (!Array.isArray(input)) throw wrongType(place, "array");
    return input.map((item, index) => {
      const path = this.#options ? `${place.path}.${index}` : `${place.path}[${index}]`;
      return this.value(element, item, { path, name: undefined });
    });
  }

  #struct(definition: StructDef, input: Json, place: Place): Json {
    return this.#object(input, place, (taken) => this.#takeStruct(definition, taken, place));
  }

  #union(definition: UnionDef, input: Json, place: Place): Json {
    return this.#object(input, place, (taken) => {
      this.#take(definition.base, taken, place);
      const tag = taken.output[definition.tag];
      const branch = typeof tag === "string" ? definition.branches[tag] : undefined;
      if (typeof branch !== "string") {
        // Of a part of a description nobody can tell whose its members are.
        if (this.#mayLack) taken.isOpen = true;
        return;
      }
      const struct = this.#type(branch);
      assert(struct?.kind === "struct", `branch ${branch} is no struct`);
      this.#takeStruct(struct, taken, place);
    });
  }

  /** Copies the members that `take` asks for, then refuses what nobody asked for. */
  #object(input: Json, place: Place, take: (taken: Taken) => void): JsonObject {
    if (!isJsonObject(input)) throw wrongType(place, "object");
    const taken: Taken = { input, output: {}, seen: new Set(), isOpen: false };
    take(taken);
    if (taken.isOpen === "kept") return { ...input, ...taken.output };
    for (const key of taken.isOpen ? [] : Object.keys(input)) {
      if (taken.seen.has(key) || input[key] === undefined) continue;
      const path = memberPath(place, key);
      const hint = this.#hints && key === "filename" && taken.seen.has("file") ? OF_THE_FILE : "";
      throw new QapiError(`Parameter '${path}' is unexpected${hint || this.#meant(key, taken.seen)}`, {
        details: { unexpected: path },
      });
    }
    return taken.output;
  }

  #choice(values: readonly string[]): string {
    return this.#hints ? ` (it takes ${values.map((value) => `'${value}'`).join(", ")})` : "";
  }

  #meant(word: string, known: Iterable<string>): string {
    return this.#hints ? didYouMean(word, known) : "";
  }

  #takeStruct(definition: StructDef, taken: Taken, place: Place): void {
    if (definition.isOpen) taken.isOpen = definition.isOpen;
    if (definition.base !== undefined) {
      const base = this.#type(definition.base);
      assert(base?.kind === "struct", `base ${definition.base} is no struct`);
      this.#takeStruct(base, taken, place);
    }
    this.#take(definition.members, taken, place);
  }

  #take(members: Members, taken: Taken, place: Place): void {
    for (const { name, optional, type } of membersOf(members)) {
      const path = memberPath(place, name);
      const value = Object.hasOwn(taken.input, name) ? taken.input[name] : undefined;
      if (value === undefined) {
        if (!optional && !(this.#mayLack && path !== "driver"))
          throw new QapiError(`Parameter '${path}' is missing`);
        taken.seen.add(name);
        continue;
      }
      taken.seen.add(name);
      taken.output[name] = this.value(type, value, { path, name });
    }
  }

  #enum(definition: EnumDef, input: Json, place: Place): Json {
    const value = stringOf(input, place);
    if (!definition.values.includes(value)) {
      const meant = this.#meant(value, definition.values) || this.#choice(definition.values);
      throw new QapiError(`Parameter '${place.name ?? "null"}' does not accept value '${value}'${meant}`);
    }
    return value;
  }

  #alternate(name: string, definition: AlternateDef, input: Json, place: Place): Json {
    const type = definition.types.find((candidate) => this.#jsonKindOf(candidate) === kindOf(input));
    if (type === undefined) throw wrongType({ ...place, path: place.name ?? "null" }, name);
    return this.value(type, input, place);
  }

  /** The JSON type by which an alternate knows a type. */
  #jsonKindOf(type: string): string {
    const definition = this.#type(type);
    if (definition) return definition.kind === "enum" ? "string" : "object";
    if (type === "str") return "string";
    return type === "bool" ? "boolean" : type === "null" ? "null" : "number";
  }

  #builtin(type: string, input: Json, place: Place): Json {
    switch (type) {
      case "any":
        return input;
      case "str":
        return stringOf(input, place);
      case "bool":
        return this.#boolean(input, place);
      case "null":
        if (input !== null && !(this.#options && input === "")) throw wrongType(place, "null");
        return null;
      case "number":
        return this.#number(input, place);
      default:
        return this.#integer(type, input, place);
    }
  }

  #boolean(input: Json, place: Place): boolean {
    if (!this.#options) {
      if (typeof input !== "boolean") throw wrongType(place, "boolean");
      return input;
    }
    const text = stringOf(input, place);
    if (["on", "yes", "true", "y"].includes(text)) return true;
    if (["off", "no", "false", "n"].includes(text)) return false;
    throw new QapiError(`Parameter '${place.path}' expects 'on' or 'off'`);
  }

  #number(input: Json, place: Place): number {
    if (this.#options) {
      const value = Number(stringOf(input, place));
      if (!Number.isFinite(value)) throw new QapiError(`Parameter '${place.path}' expects a number`);
      return value;
    }
    if (input instanceof JsonFraction) return input.value;
    if (typeof input !== "number" && typeof input !== "bigint") throw wrongType(place, "number");
    return Number(input);
  }

  #integer(type: string, input: Json, place: Place): number {
    const unsigned = type === "size" || type.startsWith("uint");
    const value = this.#options
      ? integerOption(type, stringOf(input, place), place)
      : exactInteger(this.#hints ? wholeNumber(input) : input, place, unsigned);
    const range = INTEGER_RANGES[type];
    if (range && (value < range[0] || value > range[1])) {
      throw new QapiError(`Parameter '${place.name ?? "null"}' expects ${type}_t`);
    }
    return narrow(unsigned && value < 0n ? BigInt.asUintN(64, value) : value);
  }
}

interface Taken {
  readonly input: JsonObject;
  readonly output: JsonObject;
  readonly seen: Set<string>;
  isOpen: boolean | "kept";
}

function memberPath(place: Place, name: string): string {
  return place.path === "" ? name : `${place.path}.${name}`;
}

function wrongType(place: Place, expected: string): QapiError {
  return new QapiError(`Invalid parameter type for '${place.path || "null"}', expected: ${expected}`);
}

function stringOf(input: Json, place: Place): string {
  if (typeof input !== "string") throw wrongType(place, "string");
  return input;
}

/** A program writes 2^60 as a number, which JSON's reader would have kept exact. */
function wholeNumber(input: Json): Json {
  return typeof input === "number" && Number.isInteger(input) ? BigInt(input) : input;
}

/** A JSON integer that fits int64 or, for unsigned types, uint64 (negative ones wrap there, as in QEMU). */
function exactInteger(input: Json, place: Place, unsigned: boolean): bigint {
  const exact =
    typeof input === "bigint"
      ? input
      : typeof input === "number" && Number.isSafeInteger(input)
        ? BigInt(input)
        : undefined;
  if (unsigned) {
    if (exact === undefined || exact < INT64_MIN || exact >= 2n ** 64n) {
      throw new QapiError(`Parameter '${place.path}' expects uint64`);
    }
    return exact;
  }
  if (exact === undefined || exact < INT64_MIN || exact > INT64_MAX) throw wrongType(place, "integer");
  return exact;
}

function integerOption(type: string, text: string, place: Place): bigint {
  const value = type === "size" ? sizeFromOption(text) : integerFromOption(text, type.startsWith("uint"));
  if (value === undefined) {
    throw new QapiError(`Parameter '${place.path}' expects ${type === "size" ? "size" : "integer"}`);
  }
  return value;
}

function narrow(value: bigint): number {
  if (value > SAFE_MAX) return Number.MAX_SAFE_INTEGER;
  if (value < -SAFE_MAX) return Number.MIN_SAFE_INTEGER;
  return Number(value);
}

function kindOf(input: Json): string {
  if (input === null) return "null";
  if (Array.isArray(input)) return "array";
  return isJsonObject(input) ? "object" : typeof input;
}

/**
 * Checks what a program handed to the library against the type `name` of these tables. A `description` of a node may lack all but its
 * driver. Throws QapiError.
 */
export function checkValue(
  name: string,
  value: unknown,
  tables: readonly TypeTable[],
  origin: "program" | "description" = "program",
): void {
  new Reader(origin, ...tables).value(name, value as Json, ROOT);
}

/** What is needed of an option of a driver: a row of its table. */
interface OptionRow {
  readonly wire?: string;
  readonly type: "str" | "size" | "num" | "bool";
  readonly values?: readonly string[];
}

/** What is needed of a driver. */
export interface DriverSchema {
  readonly name: string;
  readonly kind: "protocol" | "format" | "filter";
  readonly supportsBacking?: boolean;
  readonly openOptions?: Members;
  readonly createOptions?: readonly OptionRow[];
  readonly amendOptions?: readonly OptionRow[];
  readonly create?: unknown;
  readonly isLibraryOnly?: boolean;
}

const TYPES = { str: "str", size: "size", num: "int", bool: "bool" } as const;

/** Types for one driver, added to `types`. */
class Extension {
  readonly types: Record<string, TypeTable[string]>;

  constructor(table: TypeTable) {
    this.types = { ...table };
  }

  add(driver: DriverSchema): void {
    const { name } = driver;
    const known = this.types["BlockdevDriver"] as EnumDef;
    this.types["BlockdevDriver"] = enumOf(...known.values, name);
    const generic = driver.supportsBacking
      ? "BlockdevOptionsGenericCOWFormat"
      : "BlockdevOptionsGenericFormat";
    const own = driver.openOptions ?? {};
    this.#define(`BlockdevOptions:${name}`, driver.kind === "protocol" ? struct(own) : extend(generic, own));
    this.#branch("BlockdevOptions", name, `BlockdevOptions:${name}`);
    const place: Members = driver.kind === "format" ? { file: "BlockdevRef" } : {};
    const create = driver.create === undefined ? undefined : driver.createOptions;
    this.#options("BlockdevCreateOptions", { name, place, rows: create });
    this.#options("BlockdevAmendOptions", { name, place: {}, rows: driver.amendOptions });
  }

  #options(
    union: string,
    { name, place, rows }: { name: string; place: Members; rows: readonly OptionRow[] | undefined },
  ): void {
    if (rows)
      this.#define(`${union}:${name}`, struct({ ...place, ...this.#members(`${union}:${name}`, rows) }));
    this.#branch(union, name, rows ? `${union}:${name}` : null);
  }

  /** Options within objects have no place here: a driver of that kind describes itself in the table. */
  #members(prefix: string, rows: readonly OptionRow[]): Members {
    const members: Record<string, string> = {};
    for (const { wire, type, values } of rows) {
      if (wire === undefined || wire.includes(".")) continue;
      if (values) this.#define(`${prefix}:${wire}`, enumOf(...values));
      const optional = prefix.startsWith("BlockdevCreateOptions") && wire === "size" ? "" : "*";
      members[`${optional}${wire}`] = values ? `${prefix}:${wire}` : TYPES[type];
    }
    return members;
  }

  #define(name: string, definition: TypeTable[string]): void {
    this.types[name] = definition;
  }

  #branch(union: string, name: string, type: string | null): void {
    const definition = this.types[union];
    if (definition?.kind !== "union") return;
    const branches: Branches = { ...definition.branches, [name]: type };
    this.types[union] = { ...definition, branches };
  }
}

/**
 * A table with the types for an engine with these drivers; our own are in the table, and internal ones have no place in
 * it. The table itself where there are no others.
 */
export function typesWith(drivers: Iterable<DriverSchema>, table: TypeTable): TypeTable {
  const values: readonly string[] = optionTypes.BlockdevDriver.values;
  const others = [...drivers].filter(
    ({ name, kind, isLibraryOnly }) => kind !== "filter" && !isLibraryOnly && !values.includes(name),
  );
  if (others.length === 0) return table;
  const extension = new Extension(table);
  for (const driver of others) extension.add(driver);
  return extension.types;
}

/** Reads `input` as the type `name` of a table (default: the fixed one). Throws QapiError. */
export function validate<N extends TypeName>(name: N, input: Json, table: Schema = schema): TypeOf<N> {
  return new Reader("json", table.types).value(name, input) as TypeOf<N>;
}

/** Reads parsed key=value options (scalars are strings) as the type `name`. Throws QapiError. */
export function validateOptions<N extends TypeName>(name: N, input: Json, table: Schema = schema): TypeOf<N> {
  return new Reader("options", table.types).value(name, input) as TypeOf<N>;
}

/** Reads parsed key=value options as the description of a node, for an engine with these drivers. Throws QapiError. */
export function validateNode(input: Json, drivers: Iterable<DriverSchema>): TypeOf<"BlockdevOptions"> {
  const reader = new Reader("options", isOfTable(input) ? optionTypes : typesWith(drivers, optionTypes));
  return reader.value("BlockdevOptions", input) as TypeOf<"BlockdevOptions">;
}

/** Reads the arguments of command `name`. Throws QapiError. */
export function validateArguments<N extends CommandName>(name: N, input: Json): ArgsOf<N> {
  return readArguments(name, input, schema) as ArgsOf<N>;
}

/** Reads the arguments of a command that the table has. Throws QapiError. */
export function readArguments(name: string, input: Json, table: Schema): Json {
  const definition = table.commands[name];
  assert(definition, `no command ${name}`);
  const reader = new Reader("json", table.types);
  const data = definition.data;
  return typeof data === "string" ? reader.value(data, input) : reader.members(data, input);
}

/** The schema for an engine with these drivers. */
export function schemaWith(drivers: Iterable<DriverSchema>, base: Schema = schema): Schema {
  const types = typesWith(drivers, base.types);
  return types === base.types ? base : { ...base, types };
}
