/**
 * Reading input by the schema: JSON (values, arguments of commands) and key=value options. The work is the reader's.
 */
import { assert } from "../../base/assert.ts";
import type { Json } from "./json.ts";
import { type DriverSchema, typesWith } from "./extend.ts";
import { Reader } from "./reader.ts";
import { schema, type Schema, type ArgsOf, type CommandName, type TypeName, type TypeOf } from "./table.ts";

/** Reads `input` as the type `name` of a table (default: the fixed one). Throws QapiError. */
export function validate<N extends TypeName>(name: N, input: Json, table: Schema = schema): TypeOf<N> {
  return new Reader("json", table.types).value(name, input) as TypeOf<N>;
}

/** Reads parsed key=value options (scalars are strings) as the type `name`. Throws QapiError. */
export function validateOptions<N extends TypeName>(name: N, input: Json, table: Schema = schema): TypeOf<N> {
  return new Reader("options", table.types).value(name, input) as TypeOf<N>;
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
