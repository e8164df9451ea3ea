/**
 * A node's count of requests in flight: what a drain waits for.
 */
import { assert } from "../../base/assert.ts";
import type { BlockNode } from "./node.ts";

/** Runs `body` as one request in flight. */
export async function inFlight<T>(node: BlockNode, body: () => Promise<T>): Promise<T> {
  node.inFlight += 1;
  try {
    return await body();
  } finally {
    leave(node);
  }
}

/** One request in flight less. */
export function leave(node: BlockNode): void {
  assert(node.inFlight > 0, "more requests ended than began");
  node.inFlight -= 1;
  if (node.inFlight === 0) node.services.changes.wake();
}
