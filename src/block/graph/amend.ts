/**
 * Amending: changing what was chosen when an image was made, while it is open. The driver's hook does the work.
 * Source: behaviour of QEMU 7.2 (`x-blockdev-amend`, `qemu-img amend`).
 */
import { BlockError, CommandError } from "../../base/errors.ts";
import type { AmendContext, AmendOptions } from "../model/contract.ts";
import { closing, failed, Lease } from "../../base/lease.ts";
import { refresh } from "./edges.ts";
import type { BlockNode } from "../model/node.ts";

/** Throws in QEMU's words unless the node's image can be amended: CommandError, EACCES for a read-only node. */
export function checkAmendable(node: BlockNode): void {
  if (!node.driver.amend)
    throw new CommandError("Driver does not support x-blockdev-amend", { code: "ENOTSUP" });
  if (!node.readOnly) return;
  const message = "Block node is read-only";
  throw new BlockError({ code: "EACCES", op: "amend", node: node.name, message });
}

/**
 * What an amendment takes: where it wants the image's storage for itself, nobody else has that until the end. Throws as
 * checkAmendable(), and in QEMU's words where somebody else has it.
 */
export async function takeForAmend(node: BlockNode): Promise<Lease> {
  checkAmendable(node);
  const { driver } = node;
  if (driver.amends === undefined) return new Lease();
  const count = (by: number): Promise<void> => {
    driver.amends = (driver.amends ?? 0) + by;
    return refresh([node]);
  };
  try {
    await count(1);
  } catch (error) {
    await failed(error, () => count(-1));
  }
  return new Lease(() => count(-1));
}

/** Changes options of an open image; what that takes is taken. Errors: EACCES for a read-only node, those of the driver; CommandError without a hook. */
export async function amend(
  node: BlockNode,
  options: AmendOptions,
  context: AmendContext = {},
): Promise<void> {
  const taken = await takeForAmend(node);
  // What one amends is what the one before has left.
  const change = node.changes.run(async () => {
    checkAmendable(node);
    await node.driver.amend?.(options, context);
  });
  await closing(
    () => change,
    () => taken.end(),
  );
}
