/**
 * Using a node without being one, as formats do that are made or checked: an edge of an unnamed device for a while.
 */
import { Lease } from "../../base/lease.ts";
import type { Permissions } from "../model/contract.ts";
import type { BlockNode, Child, ChildParent } from "../model/node.ts";
import type { NodeHome } from "./home.ts";

/** A parent that has nothing to stop while its node is drained: it waits for each of its requests itself. */
export const unnamedDevice: ChildParent = {
  describe: () => "an unnamed block device",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

/** The edge of an unnamed device to a node; it is removed at the end, and the node closed if nobody else uses it. */
export class RootLease extends Lease {
  readonly edge: Child;

  constructor(graph: NodeHome, edge: Child) {
    super(() => graph.detach(edge));
    this.edge = edge;
  }
}

/**
 * Takes the node for a parent that is no node: an unnamed device, unless another is given. EPERM (QEMU's words) where others
 * don't allow it.
 */
export async function takeRoot(
  graph: NodeHome,
  node: BlockNode,
  { parent = unnamedDevice, ...permissions }: Permissions & { parent?: ChildParent },
): Promise<RootLease> {
  return new RootLease(graph, await graph.attach(parent, node, { name: "root", ...permissions }));
}
