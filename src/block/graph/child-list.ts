/**
 * Adding a child to a node that takes more, and taking one away. Source: behaviour and words of QEMU 7.2's x-blockdev-change,
 * bdrv_add_child and bdrv_del_child.
 */
import { CommandError } from "../../base/errors.ts";
import type { ChildList } from "../model/contract.ts";
import { drained } from "../model/drain.ts";
import type { BlockNode } from "../model/node.ts";
import { leadsTo } from "./edges.ts";
import type { BlockGraph } from "./graph.ts";

/** Arguments of x-blockdev-change: the child that goes, or the node that comes. */
export interface ChildChange {
  readonly parent: string;
  readonly child?: string;
  readonly node?: string;
}

/** x-blockdev-change. Throws CommandError, and then nothing has changed. */
export async function changeChild(graph: BlockGraph, { parent, child, node }: ChildChange): Promise<void> {
  const above = graph.lookup(parent);
  if (child !== undefined && node !== undefined)
    throw new CommandError("The parameters child and node are in conflict");
  if (child !== undefined) return removeChild(graph, above, { parent, child });
  if (node === undefined) throw new CommandError("Either child or node must be specified");
  const added = graph.findNode(node);
  if (!added) throw new CommandError(`Node '${node}' not found`);
  await addChild(graph, above, added);
}

function listOf(node: BlockNode, what: string): ChildList {
  const { childList } = node.driver;
  if (!childList) throw new CommandError(`The node ${node.name} does not support ${what} a child`);
  return childList;
}

async function addChild(graph: BlockGraph, parent: BlockNode, node: BlockNode): Promise<void> {
  const list = listOf(parent, "adding");
  if (node.parents.size > 0) throw new CommandError(`The node ${node.name} already has a parent`);
  const next = list.next();
  if (leadsTo(node, parent))
    throw new CommandError(
      `Making '${node.name}' a ${next.name} child of '${parent.name}' would create a cycle`,
    );
  await drained([parent, node], async () => list.added(await graph.addChild(parent, node, next)));
}

async function removeChild(
  graph: BlockGraph,
  node: BlockNode,
  { parent, child }: { parent: string; child: string },
): Promise<void> {
  const edge = node.children.find(({ name }) => name === child);
  if (!edge) throw new CommandError(`Node '${parent}' does not have child '${child}'`);
  const list = listOf(node, "removing");
  list.checkRemoval(edge);
  // Nothing may reach a copy that is gone: the list changes before requests go on.
  await drained([node], async () => {
    await graph.setChild(edge, null);
    list.removed(edge);
  });
}
