/**
 * The JSON schema of our own workload files, and of device models: the text that is shipped (build/workload.schema.json) and
 * what files are checked against, by the few words of JSON Schema that it uses.
 *
 * Invariant: a member that the schema does not know is named, and has no effect; it is no error, so that a file of a later
 * release can be read.
 */
import type { Ignored } from "./plan.ts";
import { WorkloadError } from "./plan.ts";

/** The part of JSON Schema (2020-12) that is understood. */
export interface Schema {
  readonly $ref?: string;
  readonly description?: string;
  readonly type?: "object" | "array" | "string" | "number" | "integer" | "boolean";
  readonly enum?: readonly (string | number)[];
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly items?: Schema;
  readonly minItems?: number;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly pattern?: string;
  readonly anyOf?: readonly Schema[];
  readonly $defs?: Readonly<Record<string, Schema>>;
}

interface Context {
  readonly root: Schema;
  readonly ignored: Ignored[];
}

function kindOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

function hasType(value: unknown, type: string): boolean {
  return type === "integer" ? Number.isInteger(value) : kindOf(value) === type;
}

function bounds(value: number, schema: Schema): string | undefined {
  if (schema.minimum !== undefined && value < schema.minimum) return `must be at least ${schema.minimum}`;
  if (schema.exclusiveMinimum !== undefined && value <= schema.exclusiveMinimum)
    return `must be above ${schema.exclusiveMinimum}`;
  if (schema.maximum !== undefined && value > schema.maximum) return `must be at most ${schema.maximum}`;
  return undefined;
}

/** What is wrong with a value by itself, its members aside. */
function complaint(value: unknown, schema: Schema): string | undefined {
  if (schema.type !== undefined && !hasType(value, schema.type))
    return `must be ${/^[aio]/.test(schema.type) ? "an" : "a"} ${schema.type}, not ${kindOf(value)}`;
  if (schema.enum && !schema.enum.includes(value as string))
    return `must be one of ${schema.enum.join(", ")}, not '${String(value)}'`;
  if (typeof value === "number") return bounds(value, schema);
  if (
    typeof value === "string" &&
    schema.pattern !== undefined &&
    !new RegExp(schema.pattern, "i").test(value)
  )
    return `'${value}' is not understood${schema.description ? ` (${schema.description})` : ""}`;
  if (Array.isArray(value) && value.length < (schema.minItems ?? 0)) return "must not be empty";
  return undefined;
}

function resolve(schema: Schema, root: Schema): Schema {
  if (schema.$ref === undefined) return schema;
  const found = root.$defs?.[schema.$ref.replace("#/$defs/", "")];
  if (!found) throw new WorkloadError(`the schema has no ${schema.$ref}`);
  return found;
}

function checkObject(value: object, schema: Schema, path: string, context: Context): string | undefined {
  for (const name of schema.required ?? [])
    if (!Object.hasOwn(value, name)) return `${path || "the workload"}: '${name}' is missing`;
  if (!schema.properties) return undefined;
  for (const [name, member] of Object.entries(value)) {
    const known = Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined;
    if (!known) {
      if (!name.startsWith("$") && name !== "//")
        context.ignored.push({ name, where: path || "top level", reason: "unknown member" });
      continue;
    }
    const wrong = check(member, known, path ? `${path}.${name}` : name, context);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}

/** How near a form is to a value that does not fit it: of its kind, and with the members that the form must have. */
function nearness(value: unknown, { type, required }: Schema): number {
  if (type === undefined || !hasType(value, type)) return 0;
  return required?.every((name) => Object.hasOwn(value as object, name)) ? 2 : 1;
}

/** One of several forms: the first that fits. Where none does, what the form that is nearest says of it. */
function checkAny(
  value: unknown,
  forms: readonly Schema[],
  path: string,
  context: Context,
): string | undefined {
  let nearest: { wrong: string; by: number } | undefined;
  for (const form of forms) {
    const own: Context = { root: context.root, ignored: [] };
    const wrong = check(value, form, path, own);
    if (wrong === undefined) {
      context.ignored.push(...own.ignored);
      return undefined;
    }
    const by = nearness(value, resolve(form, context.root));
    if (nearest === undefined || (by > 0 && by >= nearest.by)) nearest = { wrong, by };
  }
  return nearest?.wrong;
}

function check(value: unknown, given: Schema, path: string, context: Context): string | undefined {
  const schema = resolve(given, context.root);
  if (schema.anyOf) return checkAny(value, schema.anyOf, path, context);
  const wrong = complaint(value, schema);
  if (wrong !== undefined) return `${path || "the workload"}: ${wrong}`;
  if (Array.isArray(value) && schema.items) {
    for (const [i, item] of value.entries()) {
      const found = check(item, schema.items, `${path}[${i}]`, context);
      if (found !== undefined) return found;
    }
  }
  if (kindOf(value) === "object") return checkObject(value as object, schema, path, context);
  return undefined;
}

/** Checks a value; gives the members that have no effect. Throws WorkloadError for the first that is wrong. */
export function checkAgainst(schema: Schema, value: unknown): Ignored[] {
  const context: Context = { root: schema, ignored: [] };
  const wrong = check(value, schema, "", context);
  if (wrong !== undefined) throw new WorkloadError(wrong);
  return context.ignored;
}
