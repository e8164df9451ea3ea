/**
 * Using a node without being one, as formats do that are made or checked: an edge of an unnamed device for a while.
 */
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

/** Runs `body` with an edge to the node that has these permissions. EPERM (QEMU's words) where others don't allow them. */
export async function withRoot<T>(
  graph: NodeHome,
  node: BlockNode,
  { permissions, body }: { permissions: Permissions; body: (child: Child) => Promise<T> },
): Promise<T> {
  const child = await graph.attach(unnamedDevice, node, { name: "root", ...permissions });
  try {
    return await body(child);
  } finally {
    await graph.detach(child);
  }
}
