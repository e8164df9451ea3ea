/**
 * The name by which an image is written into an overlay's header: a plain file name where that opens the same image, else
 * a `json:` description with the options that matter, in QEMU's order of keys. Source: behaviour of QEMU 7.2's
 * bdrv_refresh_filename; the order of keys is that of its dictionary's hash buckets.
 */
import { BlockError } from "../../base/errors.ts";
import { bucketOf } from "../../wire/qapi/json.ts";
import type { NodeView } from "./contract.ts";
import type { BlockNode } from "./node.ts";
import { givenWords } from "./spec.ts";

/** Options that say how a node is used and not what it shows. */
const weakOptions = new Set([
  "driver",
  "node-name",
  "read-only",
  "auto-read-only",
  "force-share",
  "detect-zeroes",
  "discard",
  "cache",
]);

/**
 * The image's name for a header: plain, or `json:{…}`; empty only if nothing names it. One whose backing file is another than its
 * header says is described with that.
 */
export function nodeFilename(node: BlockNode): string {
  return plainFilename(node, otherBacking) ?? `json:${stringify(describe(node, otherBacking))}`;
}

/** The same, whatever its backing file is. */
export function ownFilename(node: BlockNode): string {
  return plainFilename(node, asItSays) ?? `json:${stringify(describe(node, asItSays))}`;
}

/** The name as nodeFilename() has it of an image that has just been opened: what its backing file is called was found then. */
export function openedFilename(node: BlockNode): string {
  return plainFilename(node, asOpened) ?? `json:${stringify(describe(node, asOpened))}`;
}

/** A backing file that is to be described; null: that there is none. Undefined: its header says it. */
type BackingOf = (node: BlockNode) => BlockNode | null | undefined;

const asItSays: BackingOf = () => undefined;

/** To look through all of a chain for each image of it takes long. */
const asOpened: BackingOf = (node) => (node.openedByHeader && node.backing ? undefined : otherBacking(node));

/** The backing file where it is another than the header says, or none though that names one. */
function otherBacking(node: BlockNode): BlockNode | null | undefined {
  const { headerBacking } = node.isOpen && !node.metadataOnly ? node.driver : {};
  if (!headerBacking) return undefined;
  const header = headerBacking.filename() ?? "";
  const expected = node.openedByHeader?.header === header ? node.openedByHeader.name : header;
  const backing = node.backing?.node;
  if (!backing) return expected === "" ? undefined : null;
  return nodeFilename(backing) === expected ? undefined : backing;
}

/** The file name that alone opens the same image, if one does. */
function plainFilename(node: BlockNode, backingOf: BackingOf): string | undefined {
  if (node.implicit && node.filtered) return plainFilename(node.filtered.node, backingOf);
  if (node.type.plainName) {
    const below = (name: string): string | undefined => {
      const child = node.children.find((candidate) => candidate.name === name);
      return child && plainFilename(child.node, backingOf);
    };
    return node.type.plainName(strongOptions(node), below);
  }
  if (node.type.kind === "protocol") {
    const name = node.spec["filename"];
    return typeof name === "string" ? name : undefined;
  }
  const below = node.file;
  if (node.type.kind !== "format" || !below || Object.keys(strongOptions(node)).length > 0) return undefined;
  return backingOf(node) === undefined ? plainFilename(below.node, backingOf) : undefined;
}

function strongOptions(node: BlockNode): Record<string, unknown> {
  const childNames = new Set([...node.children.map(({ name }) => listOf(name) ?? name), "backing"]);
  const own = Object.entries(node.spec).filter(([name]) => !weakOptions.has(name) && !childNames.has(name));
  const flat = flatten(Object.fromEntries(own), node.spec[givenWords]);
  const { namedBy } = node.type;
  if (!namedBy) return flat;
  return Object.fromEntries(Object.entries(flat).filter(([name]) => namedBy.includes(name)));
}

/** The options that matter of an image and of what it lies in, not of its backing file: what opens the same again. */
export function nodeDescription(node: BlockNode): Record<string, unknown> {
  return describe(node, asItSays);
}

function describe(node: BlockNode, backingOf: BackingOf): Record<string, unknown> {
  if (node.implicit && node.filtered) return describe(node.filtered.node, backingOf);
  const all: Record<string, unknown> = { ...strongOptions(node), driver: node.type.name };
  for (const child of node.children) {
    const list = listOf(child.name);
    if (list) all[list] = [...((all[list] as unknown[] | undefined) ?? []), describe(child.node, backingOf)];
    else if (child.name !== "backing" || node.isFilter) all[child.name] = describe(child.node, backingOf);
  }
  const backing = backingOf(node);
  if (backing !== undefined) all["backing"] = backing && describe(backing, backingOf);
  return all;
}

/** The option in whose list a child of that name stands: `children` of `children.0`. */
function listOf(child: string): string | undefined {
  const dot = child.lastIndexOf(".");
  return dot > 0 && /^\d+$/.test(child.slice(dot + 1)) ? child.slice(0, dot) : undefined;
}

type Words = Readonly<Record<string, string>>;

/** What the user wrote of them, where that is known. */
function wordsOf(options: object): Words | undefined {
  return (options as { readonly [givenWords]?: Words })[givenWords];
}

/** `{"a": [{"b": 1}]}` becomes `{"a.0.b": 1}`. */
function flatten(value: Record<string, unknown>, words: Words = {}, prefix = ""): Record<string, unknown> {
  const flat: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) {
    // Memory that a caller lends has no name.
    if (ArrayBuffer.isView(item)) continue;
    if (typeof item === "object" && item !== null)
      Object.assign(flat, flatten(item as Record<string, unknown>, wordsOf(item), `${prefix}${name}.`));
    else if (item !== undefined)
      flat[prefix + name] = typeof item === "string" ? item : (words[name] ?? item);
  }
  return flat;
}

function stringify(value: unknown): string {
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(stringify).join(", ")}]`;
  const items = Object.entries(value)
    .map(([name, item], index) => ({ name, item: item as unknown, index, bucket: bucketOf(name) }))
    .toSorted((a, b) => a.bucket - b.bucket || a.index - b.index)
    .map(({ name, item }) => `${JSON.stringify(name)}: ${stringify(item)}`);
  return `{${items.join(", ")}}`;
}

/** The name of the file that holds an image, as it was opened; empty when it is no file. */
export function imageFilename(node: NodeView): string {
  for (let at: NodeView | undefined = node; at; at = (at.primary ?? at.filtered)?.node) {
    if (typeof at.spec["filename"] === "string") return at.spec["filename"];
  }
  return "";
}

/**
 * After a file that a header names was opened as `node`: throws EPERM if it is not the one that the gate looked at, because its
 * name leads elsewhere by now.
 */
export function checkOpened(node: NodeView, { identity }: { identity?: string }): void {
  const opened = storageIdentity(node);
  if (identity === undefined || opened === undefined || opened === identity) return;
  const message = `'${imageFilename(node)}' was exchanged while it was being opened`;
  throw new BlockError({ code: "EPERM", op: "open", node: node.name, message });
}

/** The identity of the storage that an image lies in; undefined where it has none. */
export function storageIdentity(node: NodeView): string | undefined {
  for (let at: NodeView | undefined = node; at; at = (at.primary ?? at.filtered)?.node) {
    if (at.driver.sharedStorage) return at.driver.sharedStorage.identity;
  }
  return undefined;
}
