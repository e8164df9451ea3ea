/**
 * The way out after a failed flush: a file whose flush has failed fails every later one, since the system forgets what it
 * could not write. Here the storage below a node is opened anew, and what was written since the last good flush is written
 * again as far as the system still has it. A job writes again itself what it can read at its source.
 */
import type { BlockNode } from "../model/node.ts";

function storageBelow(node: BlockNode, found = new Set<BlockNode>()): Set<BlockNode> {
  if (found.has(node)) return found;
  found.add(node);
  for (const child of node.children) storageBelow(child.node, found);
  return found;
}

/**
 * Makes the storage of a node, its backing chain included, believable again. Returns whether a flush had failed there.
 * Rejects with the error of storage that fails again, and which then stays as it was.
 */
export async function recoverStorage(node: BlockNode): Promise<boolean> {
  let recovered = false;
  for (const { driver } of storageBelow(node)) if (await driver.recover?.()) recovered = true;
  return recovered;
}
