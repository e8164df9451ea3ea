/**
 * The schema module's face: types of the table, validation, option strings, introspection and JSON.
 */
export { parseChardev, type ChardevOptions } from "./chardev.ts";
export { typesWith, type DriverSchema } from "./reader.ts";
export { QapiError } from "./errors.ts";
export { introspect, type SchemaInfo } from "./introspect.ts";
export {
  bucketOf,
  isJsonObject,
  JsonFraction,
  plainJson,
  stringifyJson,
  type Json,
  type JsonObject,
} from "./json.ts";
export { JsonStream, parseJson, type JsonItem, type JsonLimits } from "./json-parser.ts";
export { listify, parseKeyval, parseOption, type OptionPair } from "./keyval.ts";
export {
  isCommandName,
  schema,
  type Schema,
  type ArgsOf,
  type BlockdevOptions,
  type BlockdevRef,
  type CommandName,
  type EventDataOf,
  type EventName,
  type ObjectOptions,
  type QmpEvent,
  type ReturnOf,
  type TransactionAction,
  type TypeName,
  type TypeOf,
} from "./table.ts";
export { compatLevels, ownDrivers, schemaAt, schemaShownAt, type CompatLevel } from "./own.ts";
export { enumOf, struct, tableOf, type TypeDef, type TypeTable } from "./schema.ts";
export { checkValue } from "./reader.ts";
export { isOfTable, optionTypes, valuesOf } from "./option-types.ts";
export { typeTable } from "./types.ts";
export { readArguments, schemaWith, validate, validateArguments, validateNode } from "./reader.ts";
