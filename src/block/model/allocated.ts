/** What a disk takes where it is stored. */
import type { NodeView } from "./contract.ts";

/** Bytes that the storage of a node takes on disk; undefined: it can't tell. */
export async function allocatedBytes(node: NodeView): Promise<number | undefined> {
  if (node.driver.allocatedBytes) return node.driver.allocatedBytes();
  const below = node.primary ?? node.filtered;
  return below && allocatedBytes(below.node);
}
