/**
 * What only one format says of an image, as qemu-img prints it.
 */
import { bucketOf } from "../wire/qapi/index.ts";

/** What only one format says, as lines. */
export function specificLines(data: object): string[] {
  return ["Format specific information:", ...treeLines(data, 1)];
}

/** Nested values as qemu-img prints them; the members of an object in the order of QEMU's dictionaries. */
function treeLines(value: object, depth: number): string[] {
  const isList = Array.isArray(value);
  const entries = Object.entries(value as Record<string, unknown>);
  const rows = isList ? entries : entries.toSorted(([a], [b]) => bucketOf(a) - bucketOf(b));
  return rows.flatMap(([key, item]) => {
    const name = `${"    ".repeat(depth)}${isList ? `[${key}]` : key.replaceAll("-", " ")}:`;
    if (typeof item === "object" && item !== null) return [name, ...treeLines(item, depth + 1)];
    return [`${name} ${typeof item === "string" ? item : JSON.stringify(item)}`];
  });
}
