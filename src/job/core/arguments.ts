/**
 * What the commands that start block jobs have in common: their shared arguments (wire names, already validated), the
 * default id, and looking up images by file name. Source: QAPI; words of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import { backingChainNext, skipFilters } from "../../block/model/chain.ts";
import { nodeFilename } from "../../block/model/filename.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import { imageFilename } from "../../block/model/filename.ts";
import type { BlockJobOptions } from "./block-job.ts";
import { jobsOf } from "./registry.ts";
import type { JobTransaction } from "./transaction.ts";

/** Arguments that most block jobs take. */
export interface CommonJobArguments {
  "job-id"?: string | undefined;
  /** Bytes per second; 0 or absent: no limit. */
  speed?: number | undefined;
  "auto-finalize"?: boolean | undefined;
  "auto-dismiss"?: boolean | undefined;
}

/** What a caller inside the program may add. */
export interface StartOptions {
  signal?: AbortSignal | undefined;
  transaction?: JobTransaction | undefined;
}

/** Name of the device over a node; empty if none, which is no legal job id. */
export function deviceNameOf(graph: BlockGraph, node: BlockNode): string {
  for (const [name, backend] of graph.backends) if (backend.root?.node === node) return name;
  return "";
}

/** A job's options out of its command's arguments. Throws as checkId() if the id is not usable. */
export function jobOptions(
  graph: BlockGraph,
  node: BlockNode,
  args: CommonJobArguments,
  more: StartOptions & { type: string },
): BlockJobOptions {
  const registry = jobsOf(graph);
  const id = args["job-id"] ?? deviceNameOf(graph, node);
  registry.checkId(id);
  return {
    ...more,
    id,
    registry,
    graph,
    autoFinalize: args["auto-finalize"],
    autoDismiss: args["auto-dismiss"],
  };
}

/** The image below `top` that goes by this file name, as the user or the overlay's header spells it. */
export function findBackingImage(top: BlockNode, filename: string): BlockNode | undefined {
  const { files } = top.services.host;
  for (let node = skipFilters(top); ;) {
    const next = backingChainNext(node);
    if (!next) return undefined;
    const header = node.driver.backingFilename?.();
    if (filename === header || filename === nodeFilename(next)) return next;
    const own = imageFilename(next);
    const meant = files.resolve(imageFilename(node), filename);
    if (own !== "" && withoutDots(own) === withoutDots(meant)) return next;
    node = next;
  }
}

/** A path without the parts that change nothing: `./a//b` is `a/b`. */
function withoutDots(path: string): string {
  return path.replaceAll(/\/(?:\.?\/)+/g, "/").replace(/^(?:\.\/)+/, "");
}

/** The node of that name, in the words of commands that also take devices. */
export function lookupNode(graph: BlockGraph, name: string): BlockNode {
  const node = graph.findNode(name);
  if (node) return node;
  // The command's own lookup of a node name says no device.
  throw new CommandError(`Cannot find device='' nor node-name='${name}'`);
}
