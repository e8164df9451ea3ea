/**
 * The answer to query-qmp-schema: the table as QAPI's SchemaInfo, with the names of types masked by numbers, as QEMU
 * masks them. Source: QAPI introspection schema, QEMU 7.2.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { isListRef, membersOf, type Members, type StructDef, type TypeDef, type TypeRef } from "./schema.ts";
import { schema, type Schema, type TypeOf } from "./table.ts";

/** An entry of query-qmp-schema. */
export type SchemaInfo = TypeOf<"SchemaInfo">;

type ObjectMember = TypeOf<"SchemaInfoObjectMember">;

const JSON_TYPES: { readonly [type: string]: TypeOf<"JSONType"> } = {
  str: "string",
  bool: "boolean",
  number: "number",
  null: "null",
  any: "value",
};

function withFeatures<T extends object>(info: T, features: readonly string[]): T & { features?: string[] } {
  return features.length > 0 ? { ...info, features: [...features] } : info;
}

/** One walk over the schema. Types are numbered in the order in which they are met. */
class Introspection {
  readonly #table: Schema;
  readonly #entries: SchemaInfo[] = [];
  readonly #masks = new Map<string, string>();
  /** Types that are named, but not yet described. */
  readonly #queue: { readonly key: string; readonly describe: (name: string) => SchemaInfo }[] = [];
  #anonymous = 0;

  constructor(table: Schema) {
    this.#table = table;
  }

  run(): SchemaInfo[] {
    for (const [name, definition] of Object.entries(this.#table.commands)) {
      const data = definition.data;
      const info: SchemaInfo = {
        name,
        "meta-type": "command",
        "arg-type": typeof data === "string" ? this.#use(data) : this.#useMembers(data),
        "ret-type": definition.returns === undefined ? this.#useMembers({}) : this.#use(definition.returns),
      };
      this.#entries.push(withFeatures(info, definition.features));
    }
    for (const [name, members] of Object.entries(this.#table.events)) {
      this.#entries.push({ name, "meta-type": "event", "arg-type": this.#useMembers(members) });
    }
    for (let next = this.#queue.shift(); next; next = this.#queue.shift()) {
      this.#entries.push(next.describe(this.#masks.get(next.key) ?? next.key));
    }
    return this.#entries;
  }

  /** The masked name of a type; queues its description at the first use. */
  #use(ref: TypeRef): string {
    if (isListRef(ref)) return this.#useList(ref[0]);
    const definition = this.#table.types[ref];
    if (definition === undefined) return this.#useBuiltin(ref);
    if (ref === "Empty") return this.#useMembers({});
    return this.#mask(ref, (name) => this.#describe(name, definition));
  }

  #useList(element: string): string {
    const inner = this.#use(element);
    return this.#remember(`[${inner}]`, (name) => ({
      name,
      "meta-type": "array",
      "element-type": inner,
    }));
  }

  #useBuiltin(type: string): string {
    const masked = JSON_TYPES[type] === undefined ? "int" : type;
    return this.#remember(masked, (name) => ({
      name,
      "meta-type": "builtin",
      "json-type": JSON_TYPES[type] ?? "int",
    }));
  }

  /** Members without a type name of their own. All empty ones are one type. */
  #useMembers(members: Members): string {
    const isEmpty = Object.keys(members).length === 0;
    const key = isEmpty ? "(empty)" : `(anonymous ${this.#anonymous++})`;
    return this.#mask(key, (name) => ({ name, "meta-type": "object", members: this.#members(members) }));
  }

  #mask(key: string, describe: (name: string) => SchemaInfo): string {
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const name = String(this.#masks.size);
    this.#masks.set(key, name);
    this.#queue.push({ key, describe });
    return name;
  }

  /** As #mask, for a type whose name stays. */
  readonly #plain = new Set<string>();
  #remember(name: string, describe: (name: string) => SchemaInfo): string {
    if (!this.#plain.has(name)) {
      this.#plain.add(name);
      this.#queue.push({ key: name, describe });
    }
    return name;
  }

  #describe(name: string, definition: TypeDef): SchemaInfo {
    switch (definition.kind) {
      case "enum": {
        const members = definition.values.map((value) =>
          withFeatures({ name: value }, definition.valueFeatures[value] ?? []),
        );
        return { name, "meta-type": "enum", members, values: [...definition.values] };
      }
      case "struct": {
        const info: SchemaInfo = { name, "meta-type": "object", members: this.#structMembers(definition) };
        return withFeatures(info, definition.features);
      }
      case "union": {
        const variants = Object.entries(definition.branches).map(([value, branch]) => ({
          case: value,
          type: branch === null ? this.#useMembers({}) : this.#use(branch),
        }));
        const members = this.#members(definition.base);
        return { name, "meta-type": "object", members, tag: definition.tag, variants };
      }
      case "alternate":
        return {
          name,
          "meta-type": "alternate",
          members: definition.types.map((type) => ({ type: this.#use(type) })),
        };
      case "thing":
        throw new AssertionError(`${name} has no form on the wire`);
    }
  }

  #structMembers(definition: StructDef): ObjectMember[] {
    if (definition.base === undefined) return this.#members(definition.members);
    const base = this.#table.types[definition.base];
    assert(base?.kind === "struct", `base ${definition.base} is no struct`);
    return [...this.#structMembers(base), ...this.#members(definition.members)];
  }

  #members(members: Members): ObjectMember[] {
    return membersOf(members).map(({ name, optional, type, features }) => {
      const info: ObjectMember = { name, type: this.#use(type) };
      if (optional) info.default = null;
      return withFeatures(info, features);
    });
  }
}

/** What query-qmp-schema answers of a table. Commands named in `leaveOut` (without a handler) are not listed. */
export function introspect(leaveOut: ReadonlySet<string> = new Set(), table: Schema = schema): SchemaInfo[] {
  const commands = Object.entries(table.commands).filter(([name]) => !leaveOut.has(name));
  return new Introspection({ ...table, commands: Object.fromEntries(commands) }).run();
}
