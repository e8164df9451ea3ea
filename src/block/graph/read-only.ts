/**
 * Switching a node, and the storage that it opened itself, between read-only and writable. All or nothing: when a step
 * is refused (permissions, the file's own mode), what was switched is switched back. The node is drained by the caller.
 * Source: behaviour of QEMU's bdrv_reopen.
 */
import { assert } from "../../base/assert.ts";
import { closing, failed } from "../../base/lease.ts";
import { BlockError } from "../../base/errors.ts";
import { keepBitmaps, useBitmaps } from "../bitmap/persistence.ts";
import { flush } from "../io/request-path.ts";
import type { BlockNode } from "../model/node.ts";
import { refreshPermissions, restorePermissions } from "./edges.ts";
import { Perm } from "../model/permissions.ts";

/** Switches. Errors: EBUSY for a node that someone writes to, EPERM and EACCES as permissions and files have it. */
export async function switchReadOnly(node: BlockNode, readOnly: boolean): Promise<void> {
  assert(node.quiesceCounter > 0, "what is switched is drained");
  if (readOnly) {
    if (node.cumulativePermissions().perm & (Perm.write | Perm.writeUnchanged)) throw inUse(node);
    // Afterwards nothing can be written back any more.
    await flush(node);
  }
  const switched: BlockNode[] = [];
  try {
    for (const one of ownStorage(node, readOnly)) {
      switched.push(one);
      await switchOne(one, readOnly);
    }
  } catch (error) {
    // One that may not be written, by its users or by locks of others, was never writable.
    const changed = switched.filter((one) => one.readOnly === readOnly || readOnly);
    const undo = changed.toReversed().map((one) => () => switchBack(one, !readOnly));
    await failed(error, ...undo, () => restorePermissions([node]));
  }
}

/** The node and what it opened inline, in the order of switching: writable from below, read-only from above. */
function ownStorage(node: BlockNode, readOnly: boolean): BlockNode[] {
  const all: BlockNode[] = [];
  const visit = (at: BlockNode): void => {
    if (at.readOnly !== readOnly) all.push(at);
    for (const child of at.children)
      if (child.node.inheritsFrom === at && child.name !== "backing" && !isFixed(child.node))
        visit(child.node);
  };
  visit(node);
  return readOnly ? all : all.reverse();
}

/** Whether the user has said that the storage is not to be written. */
function isFixed({ spec }: BlockNode): boolean {
  return spec["read-only"] === true;
}

async function switchOne(node: BlockNode, readOnly: boolean): Promise<void> {
  if (readOnly) {
    await keepBitmaps(node);
    await node.driver.setReadOnly?.(true);
  }
  node.options = { ...node.options, readOnly };
  try {
    await refreshPermissions([node]);
  } catch (error) {
    node.options = { ...node.options, readOnly: !readOnly };
    throw error;
  }
  if (readOnly) return;
  await node.driver.setReadOnly?.(false);
  await useBitmaps(node);
}

/** The node is as it was, also where its driver can't be switched back: what it may do is what its users were told. */
function switchBack(node: BlockNode, readOnly: boolean): Promise<void> {
  return closing(
    () => switchOne(node, readOnly),
    () => {
      node.options = { ...node.options, readOnly };
      return Promise.resolve();
    },
  );
}

function inUse(node: BlockNode): BlockError {
  const message = `Read-only block node '${node.name}' cannot support read-write users`;
  return new BlockError({ code: "EBUSY", op: "reopen", node: node.name, message });
}
