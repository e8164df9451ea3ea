/** The graph that a node lives in: what its nodes share is the graph itself. */
import type { BlockGraph } from "../../src/block/graph/graph.ts";
import type { BlockNode } from "../../src/block/model/node.ts";

export function graphOf(node: BlockNode): BlockGraph {
  return node.services as BlockGraph;
}
