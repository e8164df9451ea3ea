/**
 * Drain: a section in which no requests of a node are under way. Beginning one tells every parent, up to the backends
 * and jobs, to issue nothing new, then waits for what is in flight. Sections nest. Source: QEMU's bdrv_drained_begin.
 */
import { assert } from "../../base/assert.ts";
import type { Child } from "../io/child.ts";
import type { BlockNode } from "./node.ts";

/** Tells the parent of one edge that the node below is being drained. */
export function quiesceParent(child: Child): void {
  if (child.quiescedParent) return;
  child.quiescedParent = true;
  child.parent.drainedBegin(child);
}

/** The reverse of quiesceParent. */
export function unquiesceParent(child: Child): void {
  if (!child.quiescedParent) return;
  child.quiescedParent = false;
  child.parent.drainedEnd(child);
}

/** Stops new requests to the node; the first of nested calls tells parents and driver. */
export function quiesce(node: BlockNode): void {
  node.quiesceCounter += 1;
  if (node.quiesceCounter > 1) return;
  for (const parent of [...node.parents]) quiesceParent(parent);
  if (node.isOpen) node.driver.drainBegin?.();
}

/** The reverse of quiesce. */
export function unquiesce(node: BlockNode): void {
  assert(node.quiesceCounter > 0, `drain of '${node.name}' ended without a beginning`);
  node.quiesceCounter -= 1;
  if (node.quiesceCounter > 0) return;
  if (node.isOpen) node.driver.drainEnd?.();
  for (const parent of [...node.parents]) unquiesceParent(parent);
}

/** Whether requests to the node, or requests of its parents, are still under way. */
export function isBusy(node: BlockNode): boolean {
  if (node.inFlight > 0) return true;
  if (node.isOpen && node.driver.drainBusy?.()) return true;
  for (const parent of node.parents) if (parent.parent.drainedBusy(parent)) return true;
  return false;
}

/** Begins a drained section of `node`; resolves when nothing is in flight. */
export async function drainedBegin(node: BlockNode): Promise<void> {
  quiesce(node);
  await node.graph.changes.until(() => !isBusy(node));
}

/** Ends a drained section. */
export function drainedEnd(node: BlockNode): void {
  unquiesce(node);
}

/** Runs `body` while the given nodes are drained. */
export async function drained<T>(nodes: readonly BlockNode[], body: () => Promise<T> | T): Promise<T> {
  for (const node of nodes) quiesce(node);
  try {
    if (nodes.some(isBusy)) await nodes[0]?.graph.changes.until(() => !nodes.some(isBusy));
    return await body();
  } finally {
    for (const node of nodes.toReversed()) unquiesce(node);
  }
}
