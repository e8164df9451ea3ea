/**
 * What the commands that start block jobs have in common: their shared arguments (wire names, already validated), the
 * default id, and looking up nodes. Source: QAPI; words of QEMU 7.2.
 */
import { CommandError } from "../../base/errors.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import { aboveImplicitFilters } from "../../block/model/chain.ts";
import type { BlockNode } from "../../block/model/node.ts";
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
  /** A job without an id is called after its type, with the first number that is free, instead of after the device. */
  numbered?: boolean | undefined;
}

/** Name of the device over a node, jobs' filters between them aside; empty if none, which is no legal job id. */
export function deviceNameOf(graph: BlockGraph, node: BlockNode): string {
  const top = aboveImplicitFilters(node);
  for (const [name, { root }] of graph.backends) if (root?.node === node || root?.node === top) return name;
  return "";
}

/** The id of a job that is about to be made: the wished one, or the default. Throws as checkId() if it is not usable. */
export function jobId(
  graph: BlockGraph,
  node: BlockNode,
  wish: { id: string | undefined; type: string; numbered?: boolean | undefined },
): string {
  const registry = jobsOf(graph);
  const byDefault = (): string => (wish.numbered ? registry.freeId(wish.type) : deviceNameOf(graph, node));
  const id = wish.id ?? byDefault();
  registry.checkId(id);
  return id;
}

/** A job's options out of its command's arguments. Throws as checkId() if the id is not usable. */
export function jobOptions(
  graph: BlockGraph,
  node: BlockNode,
  args: CommonJobArguments,
  more: StartOptions & { type: BlockJobOptions["type"] },
): BlockJobOptions {
  const { numbered, ...rest } = more;
  return {
    ...rest,
    id: jobId(graph, node, { id: args["job-id"], type: more.type, numbered }),
    registry: jobsOf(graph),
    graph,
    autoFinalize: args["auto-finalize"],
    autoDismiss: args["auto-dismiss"],
  };
}

/** The node of that name, in the words of commands that also take devices. */
export function lookupNode(graph: BlockGraph, name: string): BlockNode {
  const node = graph.findNode(name);
  if (node) return node;
  // The command's own lookup of a node name says no device.
  throw new CommandError(`Cannot find device='' nor node-name='${name}'`, { code: "ENOENT" });
}
