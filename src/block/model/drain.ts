/**
 * Drain: a section in which no requests of a node are under way. Beginning one tells every parent, up to the backends
 * and jobs, to issue nothing new, then waits for what is in flight. Sections nest. Source: QEMU's bdrv_drained_begin.
 */
import { assert } from "../../base/assert.ts";
import { Lease } from "../../base/lease.ts";
import type { Wakeup } from "../../base/signals.ts";
import type { BlockDriver } from "./contract.ts";

/** An edge, as far as a drain goes along it: upward, to the parent. */
export interface DrainEdge {
  /** Whether the parent was told of the node's current drain. */
  quiescedParent: boolean;
  readonly parent: {
    drainedBegin(child: DrainEdge): void;
    drainedEnd(child: DrainEdge): void;
    drainedBusy(child: DrainEdge): boolean;
  };
}

/** A node, as far as a drain is concerned. */
export interface Drainable {
  readonly name: string;
  readonly isOpen: boolean;
  readonly driver: Pick<BlockDriver, "ownWork">;
  readonly parents: Iterable<DrainEdge>;
  readonly services: { readonly changes: Wakeup };
  /** How many drained sections it is in. */
  quiesceCounter: number;
  /** See BlockNode. */
  readonly changeListeners: ReadonlySet<() => void> | undefined;
  /** Requests under way. */
  readonly inFlight: number;
}

/** Tells the parent of one edge that the node below is being drained. */
export function quiesceParent(child: DrainEdge): void {
  if (child.quiescedParent) return;
  child.quiescedParent = true;
  child.parent.drainedBegin(child);
}

/** The reverse of quiesceParent. */
export function unquiesceParent(child: DrainEdge): void {
  if (!child.quiescedParent) return;
  child.quiescedParent = false;
  child.parent.drainedEnd(child);
}

/** Stops new requests to the node; the first of nested calls tells parents and driver. */
export function quiesce(node: Drainable): void {
  node.quiesceCounter += 1;
  if (node.quiesceCounter > 1) return;
  for (const parent of [...node.parents]) quiesceParent(parent);
  if (node.isOpen) node.driver.ownWork?.pause?.();
}

/** The reverse of quiesce. */
export function unquiesce(node: Drainable): void {
  assert(node.quiesceCounter > 0, "a drain ended without a beginning");
  node.quiesceCounter -= 1;
  if (node.quiesceCounter > 0) return;
  if (node.isOpen) node.driver.ownWork?.resume?.();
  tellOfChange(node);
  for (const parent of [...node.parents]) unquiesceParent(parent);
}

/** Tells whoever keeps what the node holds that it may be something else. */
export function tellOfChange(node: Pick<Drainable, "changeListeners">): void {
  node.changeListeners?.forEach((listener) => listener());
}

/** Whether requests to the node, or requests of its parents, are still under way. */
export function isBusy(node: Drainable): boolean {
  if (node.inFlight > 0) return true;
  if (node.isOpen && node.driver.ownWork?.isBusy?.()) return true;
  for (const parent of node.parents) if (parent.parent.drainedBusy(parent)) return true;
  return false;
}

/** Begins a drained section of the nodes, which lasts as long as the lease; resolves when nothing is in flight. */
export async function drainedSection(...nodes: readonly Drainable[]): Promise<Lease> {
  for (const node of nodes) quiesce(node);
  await nodes[0]?.services.changes.until(() => !nodes.some(isBusy));
  return new Lease(() => {
    for (const node of nodes.toReversed()) unquiesce(node);
  });
}

/** Runs `body` while the given nodes are drained; `enough` may say that those that are still busy are not waited for. */
export async function drained<T>(
  nodes: readonly Drainable[],
  body: () => Promise<T> | T,
  { enough = () => false }: { enough?: () => boolean } = {},
): Promise<T> {
  for (const node of nodes) quiesce(node);
  try {
    if (nodes.some(isBusy)) await nodes[0]?.services.changes.until(() => !nodes.some(isBusy) || enough());
    return await body();
  } finally {
    for (const node of nodes.toReversed()) unquiesce(node);
  }
}
