/**
 * Moving edges of the graph: attach, detach, replace. Each change is made tentatively, its permissions are checked, and
 * it is undone if they are refused. Callers drain the nodes concerned where requests may be under way.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import { ChildEdge } from "../io/child.ts";
import type { Child, ChildParent } from "../model/node.ts";
import { quiesceParent, unquiesceParent } from "../model/drain.ts";
import type { ChildRole } from "../model/contract.ts";
import { Role } from "../model/contract.ts";
import { type BlockNode, type BlockOperation, blockOperations } from "../model/node.ts";
import { refreshPermissions, restorePermissions } from "./permission-update.ts";
import type { Permissions } from "../model/contract.ts";

const backingAllows: readonly BlockOperation[] = [
  "commit-target",
  "stream",
  "backup-source",
  "backup-target",
];
const backingBlocks = blockOperations.filter((operation) => !backingAllows.includes(operation));

function backingReason(parent: BlockNode): string {
  return `node is used as backing hd of '${parent.name}'`;
}

/** Links parent and child without looking at permissions. */
export function link(child: Child): void {
  child.node.parents.add(child);
  const parent = child.parent.parentNode;
  if (parent) {
    if (!parent.children.includes(child)) parent.children.push(child);
    if (child.name === "backing" && child.role & Role.cow)
      child.node.block(backingReason(parent), backingBlocks);
    parent.childrenChanged();
  }
  if (child.node.quiesceCounter > 0) quiesceParent(child);
  else unquiesceParent(child);
}

/** The reverse of link; the parent keeps the edge in its list when it is only moved. */
export function unlink(child: Child, moved = false): void {
  child.node.parents.delete(child);
  const parent = child.parent.parentNode;
  if (!parent) {
    if (!moved) unquiesceParent(child);
    return;
  }
  if (child.name === "backing" && child.role & Role.cow)
    child.node.unblock(backingReason(parent), backingBlocks);
  if (moved) return;
  parent.children.splice(parent.children.indexOf(child), 1);
  unquiesceParent(child);
  if (!parent.closed) parent.childrenChanged();
}

/** Makes a new edge. Throws EPERM (QEMU's words) when permissions conflict. */
export async function attachChild(
  init: { name: string; role: ChildRole; parent: ChildParent; node: BlockNode } & Permissions,
): Promise<Child> {
  // It still waits for its last requests, but is as good as gone.
  if (init.node.closing)
    throw new CommandError(`Failed to find node with node-name='${init.node.name}'`, { code: "ENOENT" });
  assert(!leadsTo(init.node, init.parent.parentNode), `an edge to '${init.node.name}' would close a circle`);
  const child = new ChildEdge(init);
  link(child);
  const { parentNode } = child.parent;
  const concerned = parentNode ? [parentNode, child.node] : [child.node];
  try {
    await refreshPermissions(concerned);
  } catch (error) {
    unlink(child);
    await restorePermissions(concerned);
    throw error;
  }
  return child;
}

/** Removes an edge; the node's permissions shrink. The node itself stays. */
export async function detachChild(child: Child): Promise<void> {
  assert(!child.frozen, `cannot remove frozen '${child.name}' link to '${child.node.name}'`);
  unlink(child);
  await refreshPermissions([child.node]);
}

/** Points an edge at another node. */
export async function moveChild(child: Child, to: BlockNode): Promise<void> {
  await moveEdges([child], to);
}

/** Changes what a parent that is no node takes. */
export async function setChildPermissions(child: Child, permissions: Permissions): Promise<void> {
  const old = { perm: child.perm, shared: child.shared };
  Object.assign(child, permissions);
  try {
    await refreshPermissions([child.node]);
  } catch (error) {
    Object.assign(child, old);
    await restorePermissions([child.node]);
    throw error;
  }
}

/** Moves every parent of `from` to `to`, except edges that stay and those of `to` and what lies above it. */
export async function replaceParents(from: BlockNode, to: BlockNode): Promise<void> {
  const edges = [...from.parents].filter(
    (edge) => !edge.parent.stayAtNode && !leadsTo(to, edge.parent.parentNode),
  );
  await moveEdges(edges, to);
}

/** Whether `parent` is `node` or lies below it, so that moving its edge to `node` would make a circle. */
export function leadsTo(node: BlockNode, parent: BlockNode | undefined): boolean {
  if (!parent) return false;
  return node === parent || node.children.some((child) => leadsTo(child.node, parent));
}

function moveEdges(edges: readonly Child[], to: BlockNode): Promise<void> {
  return moveAll(edges.map((edge) => ({ edge, to })));
}

/** Points edges at other nodes, all or none; permissions are looked at when all have moved. */
export async function moveAll(
  moves: readonly { readonly edge: Child; readonly to: BlockNode }[],
): Promise<void> {
  for (const { edge } of moves) {
    if (edge.frozen) throw new CommandError(`Cannot change '${edge.name}' link to '${edge.node.name}'`);
  }
  const before = moves.map(({ edge }) => ({ edge, node: edge.node }));
  for (const { edge, to } of moves) relink(edge, to);
  const touched = new Set<BlockNode>([...moves.map(({ to }) => to), ...before.map(({ node }) => node)]);
  for (const { edge } of before) if (edge.parent.parentNode) touched.add(edge.parent.parentNode);
  try {
    await refreshPermissions([...touched]);
  } catch (error) {
    for (const { edge, node } of before) relink(edge, node);
    await restorePermissions([...touched]);
    throw error;
  }
  for (const { edge, to } of moves) {
    const parent = edge.parent.parentNode;
    // What lay between them and opened it is gone: it is the parent's own.
    if (parent && inheritsFrom(to, parent)) to.inheritsFrom = parent;
    edge.parent.replaced?.(edge);
  }
}

/** Whether the node was opened by `from`, or by what that opened. */
export function inheritsFrom(node: BlockNode, from: BlockNode): boolean {
  for (let at = node.inheritsFrom; at; at = at.inheritsFrom) if (at === from) return true;
  return false;
}

function relink(edge: Child, to: BlockNode): void {
  unlink(edge, true);
  edge.node = to;
  link(edge);
}

/** Recomputes permissions after an option of a node changed (read-only). */
export async function refresh(nodes: readonly BlockNode[]): Promise<void> {
  await refreshPermissions(nodes);
}
