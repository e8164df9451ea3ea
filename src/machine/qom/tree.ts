/**
 * The tree of objects that qom-list, qom-get and qom-set walk: containers, what object-add made, devices, character devices. It is
 * made anew for each question, out of what there is. Source: behaviour of QEMU 7.2's object model.
 */
import { CommandError } from "../../base/errors.ts";
import type { Json } from "../../wire/qapi/index.ts";
import type { PropertyRow } from "./property.ts";

/** An object in the tree. */
export interface QomObject {
  readonly type: string;
  readonly children?: ReadonlyMap<string, QomObject>;
  readonly properties?: readonly PropertyRow[];
  /** The value of one of its properties, where it is not the one at first. */
  readonly get?: (name: string) => Json | undefined;
  /** Changes one. Throws CommandError. */
  readonly set?: (name: string, value: Json) => void;
}

/** A container. */
export function container(children: Iterable<readonly [string, QomObject]>, type = "container"): QomObject {
  return { type, children: new Map(children) };
}

/** An object, and where it is. */
export interface Placed {
  readonly object: QomObject;
  /** From the root; the root's own is `/`. */
  readonly path: string;
}

/** The object at a path, or the only one whose path ends so. Throws CommandError. */
export function objectAt(root: QomObject, path: string): Placed {
  const parts = path.split("/").filter((part) => part !== "");
  const top = { object: root, path: "/" };
  const isWhole = path.startsWith("/") || path === "";
  const found = isWhole ? [walk(top, parts)] : endingWith(top, parts);
  const objects = found.filter((placed) => placed !== undefined);
  if (objects.length > 1) throw new CommandError(`Path '${path}' does not uniquely identify an object`);
  if (!objects[0]) throw new CommandError(`Device '${path}' not found`, { qmpClass: "DeviceNotFound" });
  return objects[0];
}

function walk(from: Placed, parts: readonly string[]): Placed | undefined {
  let at: Placed | undefined = from;
  for (const part of parts) at = at && childOf(at, part);
  return at;
}

function childOf({ object, path }: Placed, name: string): Placed | undefined {
  const child = object.children?.get(name);
  return child && { object: child, path: below(path, name) };
}

function below(path: string, name: string): string {
  return `${path === "/" ? "" : path}/${name}`;
}

function endingWith(from: Placed, parts: readonly string[]): Placed[] {
  const names = [...(from.object.children?.keys() ?? [])];
  const others = names.flatMap((name) => endingWith(childOf(from, name)!, parts));
  const own = walk(from, parts);
  return own ? [own, ...others] : others;
}

/** What qom-list says of an object. */
export function propertiesOf({ properties = [], children }: QomObject): { name: string; type: string }[] {
  const known = new Set(properties.map(({ name }) => name));
  const more = [...(children ?? [])].filter(([name]) => !known.has(name));
  return [
    { name: "type", type: "string" },
    ...properties.map(({ name, type }) => ({ name, type })),
    ...more.map(([name, child]) => ({ name, type: `child<${child.type}>` })),
  ];
}

/** The value of a property; of a child, its path. Throws CommandError. */
export function propertyOf({ object, path }: Placed, name: string): Json {
  if (name === "type") return object.type;
  if (object.children?.has(name)) return below(path, name);
  const row = rowOf(object, name);
  return object.get?.(name) ?? row["default-value"] ?? zeroOf(row.type);
}

/** Changes a property. Throws CommandError. */
export function setProperty({ object }: Placed, name: string, value: Json): void {
  if (name === "type" || object.children?.has(name))
    throw new CommandError(`Property '${object.type}.${name}' is not writable`);
  rowOf(object, name);
  if (!object.set) throw new CommandError(`Property '${object.type}.${name}' is not writable`);
  object.set(name, value);
}

function rowOf({ type, properties }: QomObject, name: string): PropertyRow {
  const row = properties?.find((one) => one.name === name);
  if (!row) throw new CommandError(`Property '${type}.${name}' not found`);
  return row;
}

/** What a property holds that nobody has set. */
function zeroOf(type: string): Json {
  if (type === "bool") return false;
  return /^u?int|^size$/.test(type) ? 0 : "";
}
