/**
 * Writing to storage without an image around it, as formats do that are being made: a reference on the node, and an edge
 * with the permissions to write and resize.
 */
import type { Child, ChildParent } from "../io/child.ts";
import type { ChildRef } from "../model/contract.ts";
import type { BlockGraph } from "./graph.ts";
import type { BlockNode } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";

/** A node by its name or a spec, with a reference on it. */
export async function takeNode(graph: BlockGraph, ref: ChildRef): Promise<BlockNode> {
  if (typeof ref !== "string") return graph.open(ref);
  const node = graph.lookup(ref);
  graph.reference(node);
  return node;
}

/** Runs `body` as the one who writes to a node. */
export async function withRoot<T>(
  graph: BlockGraph,
  node: BlockNode,
  body: (child: Child) => Promise<T>,
): Promise<T> {
  const parent: ChildParent = {
    describe: () => "an unnamed block device",
    drainedBegin: () => undefined,
    drainedEnd: () => undefined,
    drainedBusy: () => false,
  };
  const perm = Perm.write | Perm.resize;
  const child = await graph.attach(parent, node, { name: "root", perm, shared: Perm.all });
  try {
    return await body(child);
  } finally {
    await graph.detach(child);
  }
}
