/**
 * What a block-commit command means: which images, and whether the top one is active, so that the commit is a mirror.
 * Source: behaviour and words of QEMU 7.2's block-commit.
 */
import { CommandError } from "../../base/errors.ts";
import { chainContains, filterOrCow, layers, skipFilters } from "../../block/model/chain.ts";
import { nodeFilename, ownFilename } from "../../block/model/filename.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { Perm } from "../../block/model/permissions.ts";
import type { ArgsOf } from "../../wire/qapi/index.ts";
import { BlockJob } from "../core/block-job.ts";
import type { OnError } from "../core/error-policy.ts";
import { lookupNode } from "../core/registry.ts";
import { type ImageLookup, imagesByName } from "../core/image-names.ts";

/** Arguments of block-commit. */
export type BlockCommitArguments = ArgsOf<"block-commit">;

/** A checked block-commit. */
export interface CommitPlan {
  graph: BlockGraph;
  args: BlockCommitArguments;
  /** The root of the chain; the default job id is its device's. */
  device: BlockNode;
  top: BlockNode;
  base: BlockNode;
  /** The top image is the active one or has a writer: commit by mirroring. */
  active: boolean;
  onError: OnError;
  backingFile: string | undefined;
  filterNodeName: string | undefined;
}

/** Checks a command in QEMU's order and words; throws CommandError. Changes nothing. */
export async function planCommit(graph: BlockGraph, args: BlockCommitArguments): Promise<CommitPlan> {
  const images = await imagesByName(rootNode(graph, args.device), [args.top, args.base]);
  // The graph may be another by now; from here on nothing waits.
  const device = rootNode(graph, args.device);
  device.checkBlocked("commit-source");
  const wanted = { graph, args, images };
  const top = findTop(wanted, device);
  const base = findBase(wanted, top);
  const end = filterOrCow(base);
  for (const node of layers(top)) {
    if (node === end) break;
    node.checkBlocked("commit-target");
  }
  if (top === base) throw new CommandError("cannot commit an image into itself");
  const isRoot = skipFilters(top) === skipFilters(device);
  const active = isRoot || (top.cumulativePermissions().perm & Perm.write) !== 0;
  const backingFile = args["backing-file"];
  if (active && backingFile !== undefined) {
    const why = isRoot ? "'top' is the active layer" : "'top' has a writer on it";
    throw new CommandError(`'backing-file' specified, but ${why}`);
  }
  if (!active) overlayOf(device, top)?.checkBlocked("commit-target");
  return {
    graph,
    args,
    device,
    top,
    base,
    active,
    onError: args["on-error"] ?? "report",
    backingFile,
    filterNodeName: args["filter-node-name"],
  };
}

/** A root node: nothing but backends and the monitor use it, no node and no job. */
function rootNode(graph: BlockGraph, name: string): BlockNode {
  const node = graph.backends.get(name)?.root?.node ?? graph.findNode(name);
  if (!node) throw new CommandError(`Device '${name}' not found`, { qmpClass: "DeviceNotFound" });
  for (const edge of node.parents)
    if (edge.parent.parentNode || edge.parent instanceof BlockJob)
      throw new CommandError("Need a root block node");
  return node;
}

interface Wanted {
  graph: BlockGraph;
  args: BlockCommitArguments;
  images: ImageLookup;
}

function findTop({ graph, args, images }: Wanted, device: BlockNode): BlockNode {
  const { top: filename } = args;
  const name = args["top-node"];
  if (name !== undefined && filename !== undefined)
    throw new CommandError("'top-node' and 'top' are mutually exclusive");
  if (name !== undefined) {
    const top = lookupNode(graph, name);
    if (!chainContains(device, top)) throw new CommandError(`'${name}' is not in this backing file chain`);
    return top;
  }
  if (filename === undefined || [ownFilename(device), nodeFilename(device)].includes(filename)) return device;
  const top = images(device, filename);
  if (!top) throw new CommandError(`Top image file ${filename} not found`, { code: "ENOENT" });
  return top;
}

function findBase({ graph, args, images }: Wanted, top: BlockNode): BlockNode {
  const { base: filename } = args;
  const name = args["base-node"];
  if (name !== undefined && filename !== undefined)
    throw new CommandError("'base-node' and 'base' are mutually exclusive");
  if (name !== undefined) {
    const base = lookupNode(graph, name);
    if (!chainContains(top, base)) throw new CommandError(`'${name}' is not in this backing file chain`);
    return base;
  }
  if (filename !== undefined) {
    const base = images(top, filename);
    if (!base) throw new CommandError(`Can't find '${filename}' in the backing chain`, { code: "ENOENT" });
    return base;
  }
  return lowestImage(top);
}

function lowestImage(top: BlockNode): BlockNode {
  let lowest = skipFilters(top);
  for (const node of layers(top)) if (!node.isFilter) lowest = node;
  return lowest;
}

/** The image whose backing image is `node`. */
function overlayOf(device: BlockNode, node: BlockNode): BlockNode | undefined {
  let overlay: BlockNode | undefined;
  for (const layer of layers(device)) {
    if (skipFilters(layer) === skipFilters(node)) return overlay;
    if (!layer.isFilter) overlay = layer;
  }
  return undefined;
}
