/**
 * The table with drivers that QEMU 7.2 does not know: what an engine was given beside our own gets its node descriptions,
 * creation and amend options from what its driver says of itself. The fixed table is never changed.
 */
import {
  enumOf,
  extend,
  type Branches,
  type EnumDef,
  type Members,
  struct,
  type TypeTable,
} from "./schema.ts";
import { optionTypes } from "./option-types.ts";

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
