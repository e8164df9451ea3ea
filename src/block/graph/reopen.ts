/**
 * blockdev-reopen: nodes that are open take other options, and other files below. What a description does not say goes back to
 * what it is without being said, but for discard; what can't change has to be as it was. Children that a node opened itself are described
 * within it, all others by their names.
 *
 * Invariant: everything is checked first; then all nodes change or none. Source: behaviour of QEMU 7.2's bdrv_reopen_multiple.
 */
import { closing, Leases } from "../../base/lease.ts";
import { CommandError } from "../../base/errors.ts";
import { flush } from "../io/request-path.ts";
import { skipImplicitFilters } from "../model/chain.ts";
import { type NodeOptions, type NodeSpec, Role } from "../model/contract.ts";
import { drained } from "../model/drain.ts";
import type { BlockNode, Child } from "../model/node.ts";
import { leadsTo } from "./edges.ts";
import type { BlockGraph } from "./graph.ts";
import { nodeOptions } from "./open.ts";
import { changedOption, firstOf, flatNames, isRecord } from "./option-names.ts";

/** Options of every node that can change. */
const common: ReadonlySet<string> = new Set([
  ...["driver", "node-name", "read-only", "auto-read-only", "detect-zeroes", "discard", "cache"],
]);

/** Changes all nodes that the descriptions name, or none. Throws CommandError in QEMU's words. */
export async function reopen(graph: BlockGraph, specs: readonly NodeSpec[]): Promise<void> {
  const named = specs.map((spec) => ({ spec, node: nodeNamed(graph, spec) }));
  const changes = named.flatMap(({ spec, node }) => planNode(graph, node, spec));
  // What is let go is kept until all is done, so that it can be put back.
  const kept = graph.hold(
    ...changes.flatMap(({ moves }) => moves.flatMap(({ edge }) => (edge ? [edge.node] : []))),
  );
  const undo = new Leases();
  const apply = async (): Promise<void> => {
    for (const change of changes) await applyOptions(graph, change, undo);
    await applyMoves(graph, changes, undo);
    undo.keep();
  };
  await closing(
    apply,
    () => undo.end(),
    () => kept.end(),
  );
}

interface Move {
  readonly edge: Child | undefined;
  readonly to: BlockNode | null;
}

interface Reopening {
  readonly node: BlockNode;
  /** Undefined: it keeps its own options, and inherits anew. */
  readonly spec: NodeSpec | undefined;
  readonly options: NodeOptions;
  /** Undefined: it goes with what opened it. */
  readonly readOnly: boolean | undefined;
  readonly moves: readonly Move[];
}

function nodeNamed(graph: BlockGraph, { "node-name": name }: NodeSpec): BlockNode {
  if (name === undefined) throw new CommandError("node-name not specified");
  return graph.node(name);
}

function planNode(graph: BlockGraph, node: BlockNode, spec: NodeSpec): Reopening[] {
  // Alone of all options this one stays.
  const options = nodeOptions({ discard: node.options.discard, ...spec }, undefined);
  return plan(graph, { node, spec, options });
}

interface Wish {
  node: BlockNode;
  spec: NodeSpec;
  options: NodeOptions;
  isBelow?: boolean;
}

function plan(graph: BlockGraph, { node, spec, options, isBelow = false }: Wish): Reopening[] {
  const { type } = node;
  if (type.staysAsOpened)
    throw new CommandError(
      `Block format '${type.name}' used by node '${node.name}' does not support reopening files`,
    );
  const hasBacking = node.backing !== undefined || Boolean(node.driver.headerBacking?.filename());
  if (type.supportsBacking && spec["backing"] === undefined && hasBacking)
    throw new CommandError(`backing is missing for '${node.name}'`);
  checkUnchanged(node, spec);
  const moves = ["backing", "file"].flatMap((name) => planMove(graph, node, { name, value: spec[name] }));
  const readOnly = isBelow ? spec["read-only"] : options.readOnly;
  const below = node.children.flatMap((edge) => planBelow(graph, { edge, value: spec[edge.name], options }));
  return [{ node, spec, options, readOnly, moves }, ...below];
}

/** What becomes of a child that the node opened itself. */
function planBelow(
  graph: BlockGraph,
  { edge, value, options }: { edge: Child; value: unknown; options: NodeOptions },
): Reopening[] {
  const { node, role } = edge;
  if (node.inheritsFrom !== edge.parent.parentNode) return [];
  const inherited = { parent: { options }, role };
  if (isRecord(value)) {
    const spec = value as NodeSpec;
    return plan(graph, { node, spec, options: nodeOptions(spec, inherited), isBelow: true });
  }
  if (value !== undefined && value !== node.name) return [];
  const own = nodeOptions(node.spec, inherited);
  const further = node.children.flatMap((next) =>
    planBelow(graph, { edge: next, value: next.node.name, options: own }),
  );
  return [{ node, spec: undefined, options: own, readOnly: undefined, moves: [] }, ...further];
}

/** The change of a child's node, if it is one. Throws CommandError where it can't be. */
function planMove(
  graph: BlockGraph,
  node: BlockNode,
  { name, value }: { name: string; value: unknown },
): Move[] {
  if (value === undefined || isRecord(value)) return [];
  if (name === "backing" && !node.type.supportsBacking) return [];
  const edge = node.child(name);
  const to = typeof value === "string" ? graph.nodeOrDevice({ node: value }) : null;
  if (to && leadsTo(to, node))
    throw new CommandError(`Making '${to.name}' a ${name} child of '${node.name}' would create a cycle`);
  if (to === (edge?.node ?? null)) return [];
  if (edge && skipImplicitFilters(edge.node) === to) return [];
  if (edge?.node.implicit) throw new CommandError(`Cannot replace implicit ${name} child of ${node.name}`);
  if (node.isFilter && !edge)
    throw new CommandError(
      `'${node.name}' is a ${node.type.name} filter node that does not support a ${name} child`,
    );
  if (edge?.frozen)
    throw new CommandError(`Cannot change frozen '${name}' link from '${node.name}' to '${edge.node.name}'`);
  if (to) checkIothreads(graph, node, to);
  return [{ edge, to }];
}

/** Throws CommandError where users of two iothreads would come to share nodes: neither can move. */
function checkIothreads(graph: BlockGraph, node: BlockNode, to: BlockNode): void {
  const [own, others] = [boundTo(graph, node), boundTo(graph, to)];
  const differs = [...own].some((one) => [...others].some((other) => other !== one));
  if (differs) throw new CommandError("Cannot change iothread of active block backend");
}

/** The iothreads of all who use the node, what lies below it, or what else uses that. */
function boundTo(graph: BlockGraph, node: BlockNode): Set<string> {
  const found = new Set<string>();
  const seen = new Set([node]);
  for (const one of seen) {
    for (const { parent } of one.parents) {
      if (parent.parentNode) seen.add(parent.parentNode);
      const iothread = graph.iothreadOf?.(parent);
      if (iothread !== undefined) found.add(iothread);
    }
    for (const child of one.children) seen.add(child.node);
  }
  return found;
}

/** Throws CommandError for an option that is another, and can't be: of several the one that QEMU comes to first. */
function checkUnchanged(node: BlockNode, spec: NodeSpec): void {
  const changed: string[] = [];
  if (spec.driver !== node.type.name) changed.push("driver");
  if ((spec["node-name"] ?? node.name) !== node.name) changed.push("node-name");
  for (const option of new Set([...Object.keys(spec), ...Object.keys(node.spec)])) {
    if (common.has(option) || node.type.reopenable?.has(option)) continue;
    const [before, after] = [node.spec[option], spec[option]];
    const isBacking = option === "backing" && node.type.supportsBacking;
    const edge = node.child(option);
    if (edge || isBacking) changed.push(...changedChild(node, { edge, option, value: after }));
    else if (after === undefined && before !== undefined)
      throw new CommandError(`Option '${option}' cannot be reset to its default value`);
    else changed.push(changedOption(option, before, after) ?? "");
  }
  const first = firstOf(changed.filter((name) => name !== ""));
  if (first !== undefined) throw new CommandError(`Cannot change the option '${first}'`);
}

/** A child is described within its parent where that opened it; another one is named, and only file and backing can be others. */
function changedChild(
  node: BlockNode,
  { edge, option, value }: { edge: Child | undefined; option: string; value: unknown },
): string[] {
  if (isRecord(value)) return edge?.node.inheritsFrom === node ? [] : flatNames(option, value);
  const canMove = option === "file" || option === "backing";
  return typeof value === "string" && !canMove && edge?.node.name !== value ? [option] : [];
}

async function applyOptions(graph: BlockGraph, change: Reopening, undo: Leases): Promise<void> {
  const { node, spec, options, readOnly } = change;
  const before = { spec: node.spec, options: node.options };
  if (spec) await changeDriver(node, spec, undo);
  undo.defer(() => {
    node.spec = before.spec;
    node.options = { ...before.options, readOnly: node.readOnly };
  });
  if (spec) node.spec = { ...spec, "node-name": node.name };
  if (readOnly !== undefined) undo.add(await graph.switched(node, readOnly));
  node.options = { ...options, forceShare: before.options.forceShare, readOnly: node.readOnly };
}

/** Puts the driver's own options in force, if any of them is another. */
async function changeDriver(node: BlockNode, spec: NodeSpec, undo: Leases): Promise<void> {
  const { reopenable: own } = node.type;
  const before = node.spec;
  const change = async (after: NodeSpec): Promise<void> => {
    await drained([node], () => node.driver.reopen?.(after) ?? Promise.resolve());
    // Another window of a raw file may be longer.
    node.updateLength();
  };
  const differs = (option: string): boolean =>
    changedOption(option, before[option], spec[option]) !== undefined;
  if (!own || ![...own].some(differs)) return;
  await change(spec);
  undo.defer(() => change(before));
}

/** Other files at once, so that two disks can change theirs; then backing files that come and go. */
async function applyMoves(graph: BlockGraph, changes: readonly Reopening[], undo: Leases): Promise<void> {
  const all = changes.flatMap(({ node, moves }) => moves.map((move) => ({ node, ...move })));
  const swaps = all.flatMap(({ edge, to }) => (edge && to ? [{ edge, from: edge.node, to }] : []));
  for (const { node } of all) if (!node.readOnly) await flush(node);
  if (swaps.length > 0) {
    await graph.moveChildren(swaps);
    undo.defer(async () => {
      await graph.moveChildren(swaps.map(({ edge, from }) => ({ edge, to: from })));
      for (const { edge } of swaps) await lookedAnew(edge);
    });
  }
  for (const { edge } of swaps) await lookedAnew(edge);
  for (const { node, edge, to } of all) {
    if (edge && to) continue;
    const old = edge?.node ?? null;
    await graph.setBacking(node, to, Role.cow);
    undo.defer(() => graph.setBacking(node, old, Role.cow));
  }
}

/** Another file lies below: it may be longer, and what was read of the old one counts no more. */
async function lookedAnew({ name, parent: { parentNode } }: Child): Promise<void> {
  if (!parentNode) return;
  if (name === "file") await drained([parentNode], async () => parentNode.driver.fileReplaced?.());
  parentNode.updateLength();
}
