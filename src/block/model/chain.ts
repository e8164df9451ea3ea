/**
 * Walks along a backing chain: filters present their child, formats lie over their backing file.
 * Source: QEMU's bdrv_filter_or_cow_bs and its relatives.
 */
import { CommandError } from "../../base/errors.ts";
import { Lease } from "../../base/lease.ts";
import { Role } from "./contract.ts";
import type { BlockNode, Child } from "./node.ts";

/** The edge to the next layer: a filter's child or the backing file. */
export function filterOrCowChild(node: BlockNode): Child | undefined {
  return node.isFilter ? node.filtered : node.backing;
}

/** The next layer. */
export function filterOrCow(node: BlockNode): BlockNode | undefined {
  return filterOrCowChild(node)?.node;
}

/** The first node that is no filter, from `node` down. */
export function skipFilters(node: BlockNode): BlockNode {
  let at = node;
  while (at.isFilter && at.filtered) at = at.filtered.node;
  return at;
}

/** The first node that the layer itself did not put there (a job's filter), from `node` down. */
export function skipImplicitFilters(node: BlockNode): BlockNode {
  let at = node;
  while (at.implicit && at.isFilter && at.filtered) at = at.filtered.node;
  return at;
}

/** The topmost of the filters that the layer itself has put above `node` (jobs' filters); without one, `node`. */
export function aboveImplicitFilters(node: BlockNode): BlockNode {
  const over = (below: BlockNode): BlockNode | undefined => {
    const above = [...below.parents].map((edge) => edge.parent.parentNode);
    return above.find((at) => at?.implicit && at.isFilter && at.filtered?.node === below);
  };
  let at = node;
  for (let next = over(at); next; next = over(at)) at = next;
  return at;
}

/** The image's backing image, filters on both sides skipped. */
export function backingChainNext(node: BlockNode): BlockNode | undefined {
  const next = skipFilters(node).backing?.node;
  return next && skipFilters(next);
}

/** Whether compressed writes to a node are stored as such. */
export function storesCompressed({ type, filtered }: BlockNode): boolean {
  if (type.compressedWrites !== "below") return type.compressedWrites === true;
  return filtered !== undefined && storesCompressed(filtered.node);
}

/** The node that keeps a disk's internal snapshots: its own, or the one that holds all of what it shows. */
export function snapshotOwner(node: BlockNode): BlockNode {
  if (node.driver.snapshots) return node;
  const parts = node.children.filter(({ role }) => role & (Role.data | Role.metadata | Role.filtered));
  const [only] = parts;
  const isAll = parts.length === 1 && (only === node.file || only === node.filtered);
  return only && isAll ? snapshotOwner(only.node) : node;
}

/** All layers from `top` (included) down. */
export function* layers(top: BlockNode): Generator<BlockNode> {
  for (let node: BlockNode | undefined = top; node; node = filterOrCow(node)) yield node;
}

/** Whether `node` is `top` or lies below it in the chain. */
export function chainContains(top: BlockNode, node: BlockNode): boolean {
  for (const layer of layers(top)) if (layer === node) return true;
  return false;
}

/**
 * Whether a node that holds what `shown` shows may take the place of `node` without anybody seeing other data than before: it is
 * the same, below filters, or a copy in a set that corrects its copies.
 */
export function mayReplace(shown: BlockNode, node: BlockNode): boolean {
  if (shown === node) return true;
  const { childList } = shown.driver;
  // Whoever else looked at the copy would see other data from one moment to the next.
  if (childList) return node.parents.size === 1 && childList.mayReplace(node);
  return shown.filtered !== undefined && mayReplace(shown.filtered.node, node);
}

/**
 * Freezes the links from `top` down to `base` (not the one below it), as long as the lease lasts. Throws CommandError if one is
 * frozen already or leads to a job's own filter.
 */
export function freezeChain(top: BlockNode, base: BlockNode | undefined): Lease {
  const links: Child[] = [];
  for (let node: BlockNode | undefined = top; node && node !== base;) {
    const child = filterOrCowChild(node);
    if (!child) break;
    links.push(child);
    const below = child.node;
    if (child.frozen)
      throw new CommandError(`Cannot change '${child.name}' link from '${node.name}' to '${below.name}'`);
    node = below;
  }
  const passing = links.find(({ node }) => node.type.comesAndGoes);
  if (passing) throw new CommandError(`Cannot freeze '${passing.name}' link to '${passing.node.name}'`);
  for (const child of links) child.frozen = true;
  return new Lease(() => {
    for (const child of links) child.frozen = false;
  });
}
