/**
 * Moving edges of the graph: attach, detach, replace. Each change is made tentatively, its permissions are checked, and
 * it is undone if they are refused. Callers drain the nodes concerned where requests may be under way.
 *
 * Permissions below nodes whose parents changed are computed anew: parents first, each node's conflicts checked, nothing
 * applied unless all of it is legal. Source: behaviour of QEMU's bdrv_refresh_perms.
 *
 * Invariant: edges are checked and changed in one step, before anything is waited for. Several changes of a graph may be
 * under way at once, and each must find the edges as the others left them.
 *
 * Here are also the leases of what is held of the graph for a while: a filter between a node and its parents (made by BlockGraph.insertFilter), and a node as
 * formats use it that are made or checked, by an edge of an unnamed device.
 *
 * Invariant: a lease holds its node by a reference or an edge, so the node lives until the lease ends, whatever the graph becomes.
 */
import { assert } from "../../base/assert.ts";
import { CommandError, BlockError } from "../../base/errors.ts";
import { ChildEdge } from "../io/child.ts";
import {
  type Child,
  type ChildParent,
  type BlockNode,
  type BlockOperation,
  blockOperations,
} from "../model/node.ts";
import { quiesceParent, unquiesceParent } from "../model/drain.ts";
import { type ChildRole, Role, type Permissions, type BlockDriver } from "../model/contract.ts";
import { SECTOR_SIZE } from "../../base/limits.ts";
import { alignUp } from "../../base/ranges.ts";
import { Perm, defaultPermissions, permissionNames } from "../model/permissions.ts";
import { Lease } from "../../base/lease.ts";
import type { NodeHome } from "./home.ts";

type Plan = Map<Child, Permissions>;

/**
 * Checks, applies, and tells the drivers. Throws EPERM with QEMU's words on a conflict; then nothing has changed. After a
 * driver's refusal whoever undoes the change calls restorePermissions().
 */
export async function refreshPermissions(roots: readonly BlockNode[]): Promise<void> {
  const plan: Plan = new Map();
  const order = parentsFirst(roots, planFrom(roots, plan));
  for (const node of order) {
    checkConflicts(node, plan);
    checkWritable(node, cumulative(node, plan));
  }
  for (const [child, permissions] of plan) Object.assign(child, permissions);
  // What holds by then: another change may have come since.
  for (const node of order)
    if (node.isOpen) {
      await node.driver.permissionsChanged?.(node.cumulativePermissions());
      await node.driver.sharedStorage?.setPermissions(node.cumulativePermissions());
    }
}

/**
 * Fills a plan: what each node below takes of its children. Answers with the nodes that it concerns: below an edge that stays as it is
 * nothing changes, and nobody looks. Who opens a long chain comes here with each of its layers.
 */
function planFrom(roots: readonly BlockNode[], plan: Plan): ReadonlySet<BlockNode> {
  const concerned = new Set(roots);
  const pending = [...roots];
  for (let node = pending.pop(); node; node = pending.pop()) {
    const total = cumulative(node, plan);
    for (const child of node.children) {
      const now = permissionsOf(child, plan);
      const permissions = permissionsOn(node, child, total);
      plan.set(child, permissions);
      if (permissions.perm === now.perm && permissions.shared === now.shared) continue;
      concerned.add(child.node);
      pending.push(child.node);
    }
  }
  return concerned;
}

/** After a change that was refused and undone: edges, and drivers that took the new permissions, get the old ones back. */
export async function restorePermissions(roots: readonly BlockNode[]): Promise<void> {
  await refreshPermissions(roots.filter((node) => !node.closed)).catch(() => undefined);
}

function parentsFirst(roots: readonly BlockNode[], among: ReadonlySet<BlockNode>): BlockNode[] {
  const seen = new Set<BlockNode>();
  const order: BlockNode[] = [];
  const visit = (node: BlockNode): void => {
    if (seen.has(node) || !among.has(node)) return;
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
  assert(!child.node.parents.has(child), "an edge is linked once");
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
  // Its parent may have been closed while a change waited.
  if (!child.node.parents.delete(child)) return;
  const parent = child.parent.parentNode;
  if (!parent) {
    if (!moved) unquiesceParent(child);
    return;
  }
  if (child.name === "backing" && child.role & Role.cow)
    child.node.unblock(backingReason(parent), backingBlocks);
  if (moved) return;
  const at = parent.children.indexOf(child);
  assert(at >= 0, "a parent knows its children");
  parent.children.splice(at, 1);
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
  if (node === parent) return true;
  // Upwards: what is being opened has few parents yet, and may stand on a long chain.
  for (const edge of parent.parents) if (leadsTo(node, edge.parent.parentNode)) return true;
  return false;
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
  if (!edge.node.parents.has(edge)) return;
  unlink(edge, true);
  edge.node = to;
  link(edge);
}

/** Recomputes permissions after an option of a node changed (read-only). */
export async function refresh(nodes: readonly BlockNode[]): Promise<void> {
  await refreshPermissions(nodes);
}

/** A filter that lies over a node until end(). */
export class FilterLease extends Lease {
  readonly node: BlockNode;
  readonly #release: () => Promise<void>;

  constructor(node: BlockNode, ways: { remove: () => Promise<void>; release: () => Promise<void> }) {
    super(ways.remove);
    assert(node.isFilter && node.references > 0, `'${node.name}' is no filter that somebody holds`);
    this.node = node;
    this.#release = ways.release;
  }

  /** The filter's driver, which must be of that class. */
  driver<D extends BlockDriver>(type: abstract new (...args: never[]) => D): D {
    const { driver } = this.node;
    assert(driver instanceof type, `'${this.node.name}' is another filter`);
    return driver;
  }

  /** The end of a filter that has been taken out of the graph by other means: only the reference goes. */
  async left(): Promise<void> {
    assert(this.isHeld, `filter '${this.node.name}' was let go twice`);
    this.keep();
    await this.#release();
  }
}

/** A parent that has nothing to stop while its node is drained: it waits for each of its requests itself. */
export const unnamedDevice: ChildParent = {
  describe: () => "an unnamed block device",
  drainedBegin: () => undefined,
  drainedEnd: () => undefined,
  drainedBusy: () => false,
};

/** The edge of an unnamed device to a node; it is removed at the end, and the node closed if nobody else uses it. */
export class RootLease extends Lease {
  readonly edge: Child;

  constructor(graph: NodeHome, edge: Child) {
    super(() => graph.detach(edge));
    this.edge = edge;
  }
}

/**
 * Takes the node for a parent that is no node: an unnamed device, unless another is given. EPERM (QEMU's words) where others
 * don't allow it.
 */
export async function takeRoot(
  graph: NodeHome,
  node: BlockNode,
  { parent = unnamedDevice, ...permissions }: Permissions & { parent?: ChildParent },
): Promise<RootLease> {
  return new RootLease(graph, await graph.attach(parent, node, { name: "root", ...permissions }));
}
