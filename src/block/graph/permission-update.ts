/**
 * Recomputes permissions below nodes whose parents changed: parents first, each node's conflicts checked, nothing
 * applied unless all of it is legal. Source: behaviour of QEMU's bdrv_refresh_perms.
 *
 * Invariant: edges are checked and changed in one step, before anything is waited for. Several changes of a graph may be
 * under way at once, and each must find the edges as the others left them.
 */
import { BlockError } from "../../base/errors.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import { alignUp } from "../../base/ranges.ts";
import type { Child } from "../model/node.ts";
import type { BlockNode } from "../model/node.ts";
import { Perm, defaultPermissions, permissionNames } from "../model/permissions.ts";
import type { Permissions } from "../model/contract.ts";

type Plan = Map<Child, Permissions>;

/**
 * Checks, applies, and tells the drivers. Throws EPERM with QEMU's words on a conflict; then nothing has changed. After a
 * driver's refusal whoever undoes the change calls restorePermissions().
 */
export async function refreshPermissions(roots: readonly BlockNode[]): Promise<void> {
  const order = parentsFirst(roots);
  const plan: Plan = new Map();
  // Below an edge that stays as it is nothing changes: who opens a long chain comes here with each of its layers.
  const concerned = new Set(roots);
  for (const node of order) {
    if (!concerned.has(node)) continue;
    const total = cumulative(node, plan);
    checkConflicts(node, plan);
    checkWritable(node, total);
    for (const child of node.children) {
      const permissions = permissionsOn(node, child, total);
      plan.set(child, permissions);
      if (permissions.perm !== child.perm || permissions.shared !== child.shared) concerned.add(child.node);
    }
  }
  for (const [child, permissions] of plan) Object.assign(child, permissions);
  // What holds by then: another change may have come since.
  for (const node of order)
    if (node.isOpen && concerned.has(node))
      await node.driver.sharedStorage?.setPermissions(node.cumulativePermissions());
}

/** After a change that was refused and undone: edges, and drivers that took the new permissions, get the old ones back. */
export async function restorePermissions(roots: readonly BlockNode[]): Promise<void> {
  await refreshPermissions(roots.filter((node) => !node.closed)).catch(() => undefined);
}

function parentsFirst(roots: readonly BlockNode[]): BlockNode[] {
  const seen = new Set<BlockNode>();
  const order: BlockNode[] = [];
  const visit = (node: BlockNode): void => {
    if (seen.has(node)) return;
    seen.add(node);
    for (const child of node.children) visit(child.node);
    order.push(node);
  };
  for (const root of roots) visit(root);
  return order.reverse();
}

function permissionsOf(child: Child, plan: Plan): Permissions {
  return plan.get(child) ?? child;
}

function cumulative(node: BlockNode, plan: Plan): Permissions {
  let perm = 0;
  let shared: number = Perm.all;
  for (const parent of node.parents) {
    const own = permissionsOf(parent, plan);
    perm |= own.perm;
    shared &= own.shared;
  }
  return { perm, shared };
}

function checkConflicts(node: BlockNode, plan: Plan): void {
  // Newest first: of several conflicts QEMU names this one.
  const parents = [...node.parents].reverse();
  for (const owner of parents) {
    for (const user of parents) {
      if (user === owner) continue;
      const conflict = permissionsOf(user, plan).perm & ~permissionsOf(owner, plan).shared;
      if (conflict) throw conflictError({ node, conflict, user, owner });
    }
  }
}

function conflictError({
  node,
  conflict,
  user,
  owner,
}: {
  node: BlockNode;
  conflict: number;
  user: Child;
  owner: Child;
}): BlockError {
  const uses = (child: Child): string =>
    `${child.parent.describe()} (uses node '${node.name}' as '${child.name}' child)`;
  return new BlockError({
    code: "EPERM",
    op: "permissions",
    node: node.name,
    message:
      `Permission conflict on node '${node.name}': permissions '${permissionNames(conflict)}' are both ` +
      `required by ${uses(user)} and unshared by ${uses(owner)}.`,
  });
}

function checkWritable(node: BlockNode, { perm }: Permissions): void {
  const refuse = (message: string): BlockError =>
    new BlockError({ code: "EPERM", op: "permissions", node: node.name, message });
  if (perm & (Perm.write | Perm.writeUnchanged) && node.readOnly) throw refuse("Block node is read-only");
  // The padding of a write to the last block would make the image longer.
  const sectors = alignUp(node.length, SECTOR_SIZE);
  if (perm & Perm.write && !(perm & Perm.resize) && sectors % node.limits.requestAlignment !== 0) {
    throw refuse(
      "Cannot get 'write' permission without 'resize': Image size is not a multiple of request alignment",
    );
  }
}

function permissionsOn(node: BlockNode, child: Child, total: Permissions): Permissions {
  if (node.isOpen && node.driver.childPermissions) return node.driver.childPermissions(child, total);
  return defaultPermissions(total, child.role, !node.readOnly);
}
