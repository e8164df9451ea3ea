/**
 * The command `reopen`: other options for the disk that is open. What is not named stays as it is.
 * Source: behaviour of qemu-io 7.2.
 */
import type { BlockGraph } from "../../../block/graph/graph.ts";
import { CommandError, detailOf, messageOf } from "../../../base/errors.ts";
import { reopen } from "../../../block/graph/reopen.ts";
import type { NodeSpec } from "../../../block/model/contract.ts";
import type { BlockNode } from "../../../block/model/node.ts";
import { Perm } from "../../../block/model/permissions.ts";
import { isJsonObject, type JsonObject, parseKeyval, validateNode } from "../../../wire/qapi/index.ts";
import { readOptionWords } from "../../options/words.ts";
import type { CacheMode } from "../../options/engine.ts";
import type { Arguments } from "./arguments.ts";
import { cacheChoice } from "./choices.ts";
import { IoFailure, wrongUse } from "./failure.ts";
import type { IoCommand, Session } from "./session.ts";

/** What the words of the command say. */
interface Wishes {
  readOnly: boolean | undefined;
  cache: { cache: CacheMode; writeThrough: boolean } | undefined;
  options: JsonObject;
}

/** Throws IoFailure. */
function readWishes(args: Arguments): Wishes {
  let readOnly: boolean | undefined;
  let cache: Wishes["cache"];
  const lists: string[] = [];
  for (const { letter, value } of args.options("c:o:rw")) {
    if (letter === "c") cache = cacheChoice(value);
    else if (letter === "o") lists.push(value);
    else if (readOnly === undefined) readOnly = letter === "r";
    else throw new IoFailure("Only one -r/-w option may be given", "note");
  }
  if (args.rest.length > 0) throw wrongUse();
  const options = parseKeyval(lists.join(","));
  if (readOnly !== undefined && options["read-only"] !== undefined)
    throw new IoFailure("Cannot set both -r/-w and 'read-only'", "note");
  if (cache && options["cache"] !== undefined)
    throw new IoFailure("Cannot set both -c and the cache options", "note");
  return { readOnly, cache, options };
}

/**
 * The node's description with what changes, children by the names of their nodes. `isBelow`: it is within that of the node that
 * opened it, whose caching it goes on to share unless it has one of its own.
 */
function changedSpec(
  graph: BlockGraph,
  node: BlockNode,
  { readOnly, cache: mode, options }: Wishes,
  isBelow = false,
): NodeSpec {
  const { driver, cache, "node-name": name = node.name, ...changes } = options;
  if (name !== node.name) throw new CommandError("Cannot change the option 'node-name'");
  if (driver !== undefined && driver !== node.type.name)
    throw new CommandError("Cannot change the option 'driver'");
  const children: JsonObject = {};
  const inner: Record<string, unknown> = {};
  for (const { name, node: below } of node.children) {
    const wished = changes[name];
    delete changes[name];
    if (typeof wished === "string") graph.nodeOrDevice({ node: wished });
    children[name] = typeof wished === "string" ? wished : below.name;
    // Only what a node opened itself is described within it.
    if (!isJsonObject(wished)) continue;
    const nothingElse = { readOnly: undefined, cache: undefined };
    inner[name] =
      below.inheritsFrom === node
        ? changedSpec(graph, below, { ...nothingElse, options: wished }, true)
        : { driver: below.type.name, ...wished };
  }
  const typed = typedOptions(graph, node, {
    ...ownWords(node),
    ...changes,
    ...children,
    ...(cache === undefined ? {} : { cache }),
  });
  const { discard, detectZeroes, autoReadOnly, cacheDirect, cacheNoFlush } = node.options;
  const caching = isBelow ? node.spec.cache : { direct: cacheDirect, "no-flush": cacheNoFlush };
  const now = { discard, "detect-zeroes": detectZeroes, "auto-read-only": autoReadOnly };
  return {
    ...(node.type.keptOptions?.(node.spec, typed) ?? node.spec),
    ...now,
    ...children,
    "read-only": readOnly ?? node.readOnly,
    ...typed,
    ...inner,
    cache: { ...caching, ...typed.cache, ...mode?.cache },
    "node-name": node.name,
  };
}

/** What a node can't be described without, and what else it is told in words: its file's name, for one. */
function ownWords({ spec, options }: BlockNode): JsonObject {
  const known = new Set(["driver", "node-name", "detect-zeroes", ...Object.keys(options)]);
  const words = Object.entries(spec).filter(([name, value]) => typeof value === "string" && !known.has(name));
  return Object.fromEntries(words) as JsonObject;
}

/** Reads the options as the driver's, in the words of QEMU where they are wrong. */
function typedOptions(graph: BlockGraph, node: BlockNode, options: JsonObject): NodeSpec {
  const words = readOptionWords(graph, { driver: node.type.name, ...options });
  try {
    return validateNode(words, graph.drivers);
  } catch (error) {
    const unknown = detailOf(error, "unexpected")?.split(".").at(-1);
    throw unknown === undefined ? error : new CommandError(`Cannot change the option '${unknown}'`);
  }
}

async function carryOut(session: Session, args: Arguments): Promise<boolean> {
  const wishes = readWishes(args);
  const { backend, node } = session.disk;
  try {
    const spec = changedSpec(backend.graph, node, wishes);
    if (spec["read-only"] && backend.node !== node)
      throw new CommandError(`Can't set node '${node.name}' to r/o with copy-on-read enabled`);
    const { root } = backend;
    if (root && wishes.readOnly)
      await backend.graph.setPermissions(root, { perm: root.perm & ~Perm.write, shared: root.shared });
    await reopen(backend.graph, [spec]);
  } catch (error) {
    throw new IoFailure(messageOf(error), "note");
  }
  if (wishes.cache) backend.writeCache = !wishes.cache.writeThrough;
  return true;
}

/** The command. */
export const reopenCommand: IoCommand = {
  name: "reopen",
  synopsis: "[(-r|-w)] [-c cache] [-o options]",
  summary: "opens the disk anew with other options",
  details: [
    "-r  read-only",
    "-w  for reading and writing",
    "-c MODE  none, writeback, writethrough, directsync, unsafe",
    "-o NAME=VALUE,...  options of the driver, as of open",
    "What is not named stays as it is.",
  ],
  words: [0, Infinity],
  run: carryOut,
};
