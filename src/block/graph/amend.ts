/**
 * Amending: changing what was chosen when an image was made, while it is open. The driver's hook does the work.
 * Source: behaviour of QEMU 7.2 (`x-blockdev-amend`, `qemu-img amend`).
 */
import { BlockError, CommandError } from "../../base/errors.ts";
import type { AmendContext, AmendOptions } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";

/** Throws in QEMU's words unless the node's image can be amended: CommandError, EACCES for a read-only node. */
export function checkAmendable(node: BlockNode): void {
  if (!node.driver.amend)
    throw new CommandError("Driver does not support x-blockdev-amend", { code: "ENOTSUP" });
  if (!node.readOnly) return;
  const message = "Block node is read-only";
  throw new BlockError({ code: "EACCES", op: "amend", node: node.name, message });
}

/** Changes options of an open image. Errors: EACCES for a read-only node, those of the driver; CommandError without a hook. */
export async function amend(
  node: BlockNode,
  options: AmendOptions,
  context: AmendContext = {},
): Promise<void> {
  // What one amends is what the one before has left.
  await node.changes.run(async () => {
    checkAmendable(node);
    await node.driver.amend?.(options, context);
  });
}
