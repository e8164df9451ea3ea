// Writes the declarations of the QAPI table anew, after tsc: named interfaces with a sentence for each member, in place of types that
// are computed from the table. Editors then show the sentences and short names in errors. The text lands in no bundle, and a test
// (test/tidy/hover) holds both forms of the types alike.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";
import { hoverText } from "./hover-texts.mjs";

/** @typedef {import("../src/wire/qapi/schema.ts").TypeDef} TypeDef */
/** @typedef {import("../src/wire/qapi/schema.ts").Members} Members */
/** @typedef {import("../src/wire/qapi/schema.ts").TypeRef} TypeRef */
/** @typedef {import("../src/wire/qapi/table.ts").Schema} Schema */

const builtins = new Map([
  ["str", "string"],
  ["bool", "boolean"],
  ["null", "null"],
  ["any", "Json"],
]);

/** @param {TypeRef} ref @returns {string} */
function typeOf(ref) {
  if (typeof ref !== "string") return `${typeOf(ref[0])}[]`;
  return builtins.get(ref) ?? (/^(number|size|u?int\d*)$/.test(ref) ? "number" : ref);
}

/** @param {string} owner @param {Members} members */
function membersOf(owner, members) {
  return Object.entries(members).map(([key, ref]) => {
    const name = key.replace(/^\*/, "");
    const type = typeof ref === "object" && "type" in ref ? ref.type : ref;
    const text = hoverText(owner, name);
    const doc = text === undefined ? "" : `    /** ${text} */\n`;
    return `${doc}    ${JSON.stringify(name)}${key.startsWith("*") ? "?" : ""}: ${typeOf(type)};\n`;
  });
}

/** @param {string} name @param {string} parents @param {string[]} members */
function declared(name, parents, members) {
  return `export interface ${name}${parents && ` extends ${parents}`} {\n${members.join("")}}\n`;
}

/** @param {string} name @param {TypeDef} definition */
function definitionOf(name, definition) {
  switch (definition.kind) {
    case "enum":
      return `export type ${name} = ${definition.values.map((value) => JSON.stringify(value)).join(" | ")};\n`;
    case "alternate":
      return `export type ${name} = ${definition.types.map(typeOf).join(" | ")};\n`;
    case "struct":
      return declared(name, definition.base ?? "", membersOf(name, definition.members));
    case "union": {
      const { [definition.tag]: _, ...common } = definition.base;
      const branches = Object.entries(definition.branches).map(([value, branch]) => ({
        name: `${name}_${value.replaceAll("-", "_")}`,
        branch,
        member: `    /** ${hoverText(name, definition.tag) ?? "Which of them."} */\n    ${JSON.stringify(definition.tag)}: ${JSON.stringify(value)};\n`,
      }));
      const parts = branches.map((each) =>
        declared(each.name, [`${name}_common`, each.branch ?? []].flat().join(", "), [each.member]),
      );
      return `${declared(`${name}_common`, "", membersOf(name, common))}${parts.join("")}export type ${name} = ${branches.map((each) => each.name).join(" | ")};\n`;
    }
    case "thing":
      throw new Error(`${name} has no form on the wire`);
  }
}

/** @param {Schema} schema */
function declarationsOf(schema) {
  const { types, commands, events } = schema;
  const names = Object.keys(types);
  /** @param {string} command @param {string | Members} data */
  const argumentsOf = (command, data) =>
    typeof data === "string" ? data : `{\n${membersOf(command, data).join("")}}`;
  const rows = Object.entries(commands);
  return `import type { Json } from "./json.js";
import type { CommandTable, EventTable, TypeTable } from "./schema.js";
${names.map((name) => definitionOf(name, /** @type {TypeDef} */ (types[name]))).join("")}
interface Types {
${names.map((name) => `    ${name}: ${name};\n`).join("")}}
interface Arguments {
${rows.map(([name, { data }]) => `    ${JSON.stringify(name)}: ${argumentsOf(name, data)};\n`).join("")}}
interface Returns {
${rows.map(([name, { returns }]) => `    ${JSON.stringify(name)}: ${returns === undefined ? "void" : typeOf(returns)};\n`).join("")}}
interface Events {
${Object.entries(events)
  .map(([name, members]) => `    ${name}: {\n${membersOf(name, members).join("")}};\n`)
  .join("")}}
/** A command's name. */
export type CommandName = keyof Arguments;
/** An event's name. */
export type EventName = keyof Events;
/** A defined type's name. */
export type TypeName = keyof Types;
/** The values of a type of the table, for instance \`TypeOf<"BlockdevOptions">\`. */
export type TypeOf<N extends TypeName> = Types[N];
/** The arguments of a command. */
export type ArgsOf<N extends CommandName> = Arguments[N];
/** What a command answers; \`void\` is \`{}\` on the wire. */
export type ReturnOf<N extends CommandName> = Returns[N];
/** The \`data\` of an event. */
export type EventDataOf<N extends EventName> = Events[N];
/** An event, told apart by its name. */
export type QmpEvent = {
    [N in EventName]: { readonly event: N; readonly data: EventDataOf<N> };
}[EventName];
/** The schema as the validator and the introspection read it. */
export interface Schema {
    readonly types: TypeTable;
    readonly commands: CommandTable;
    readonly events: EventTable;
}
/** The schema. */
export declare const schema: Schema;
/** Whether the schema has a command of this name. */
export declare function isCommandName(name: string): name is CommandName;
export {};
`;
}

/**
 * The table itself, out of the sources.
 *
 * @param {string} root
 * @returns {Promise<Schema>}
 */
export async function loadSchema(root) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: ["src/wire/qapi/table.ts"],
    bundle: true,
    write: false,
    format: "esm",
    platform: "neutral",
  });
  const code = Buffer.concat(outputFiles.map(({ contents }) => contents)).toString("base64");
  const module = /** @type {{ schema: Schema }} */ (await import(`data:text/javascript;base64,${code}`));
  return module.schema;
}

/**
 * Replaces the declarations of the table below `build/.types`.
 *
 * @param {string} root
 */
export async function writeHover(root) {
  const file = join(root, "build", ".types", "wire", "qapi", "table.d.ts");
  const extension = /from "\.\/schema(\.d)?\.(ts|js)"/.exec(readFileSync(file, "utf8"))?.[0];
  if (extension === undefined) throw new Error("the declarations of the table are not where they were");
  const text = declarationsOf(await loadSchema(root));
  const suffix = extension.includes(".ts") ? ".ts" : ".js";
  writeFileSync(file, text.replaceAll(/(from "\.\/\w+)\.js"/g, `$1${suffix}"`));
}
