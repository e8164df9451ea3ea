/** Closing a node: drain, flush, bitmaps, driver, children. A failed flush is reported after everything is closed. */
import { assert } from "../../base/assert.ts";
import { saveBitmaps } from "../bitmap/persistence.ts";
import { drained } from "../model/drain.ts";
import { detachChild } from "./edges.ts";
import type { NodeHome } from "./home.ts";
import { flush } from "../io/io.ts";
import type { BlockNode } from "../model/node.ts";

/** Closes a node that nobody uses, then the children that only it used. */
export async function closeNode(graph: NodeHome, node: BlockNode): Promise<void> {
  assert(node.parents.size === 0, `node '${node.name}' is in use`);
  if (node.closed) return;
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<void> | undefined): Promise<void> => {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  };
  await drained([node], async () => {
    await attempt(() => saveBitmaps(node));
    await attempt(() => flush(node));
    node.closed = true;
    await attempt(() => node.driver.close?.());
  });
  for (const bitmap of [...node.dirtyBitmaps]) bitmap.release();
  graph.removeNode(node);
  for (const child of [...node.children]) {
    child.frozen = false;
    await attempt(() => detachChild(child));
    await attempt(() => graph.releaseIfUnused(child.node));
  }
  if (errors.length > 0) throw errors[0];
}
