/**
 * Changes that commands make to a graph that is in use: reopening with other options, external snapshots, the backing
 * link in a header. Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { closing } from "../../base/closing.ts";
import { CommandError, messageOf } from "../../base/errors.ts";
import { Lease, Leases } from "../../base/lease.ts";
import { chainContains } from "../model/chain.ts";
import { drained } from "../model/drain.ts";
import { type NodeSpec, Role } from "../model/contract.ts";
import { Perm } from "../model/permissions.ts";
import type { BlockGraph } from "./graph.ts";
import { flush } from "../io/io.ts";
import type { BlockNode } from "../model/node.ts";
import type { NodeOptions } from "../model/contract.ts";
import { defaultFormat } from "../model/formats.ts";
import { storageByName } from "./storage-name.ts";
import { makeImageFile } from "./new-image.ts";
import { checkDetectZeroes } from "./open.ts";

/**
 * A change in a transaction: made, and kept by commit or taken back by abort. Whoever may abort it keeps the nodes drained
 * until then, since an overlay that goes takes along what was written to it.
 */
export interface PreparedChange {
  commit(): Promise<void> | void;
  abort(): Promise<void> | void;
}

const reopenable = new Set([
  "driver",
  "node-name",
  "read-only",
  "auto-read-only",
  "detect-zeroes",
  "discard",
  "backing",
]);

/**
 * blockdev-reopen: read-only, detect-zeroes, discard, backing and what the driver itself can change, nothing else. All nodes
 * or none.
 */
export async function reopen(graph: BlockGraph, specs: readonly NodeSpec[]): Promise<void> {
  const changes = specs.map((spec) => checkReopen(graph, spec));
  // Backing files that are let go are kept until all is done, so that they can be put back.
  const held = changes.flatMap(({ node, backing }) =>
    backing !== undefined && node.backing ? [node.backing.node] : [],
  );
  const kept = graph.hold(...held);
  const undo = new Leases();
  const apply = async (): Promise<void> => {
    for (const change of changes) await applyReopen(graph, change, undo);
    undo.keep();
  };
  await closing(
    apply,
    () => undo.end(),
    () => kept.end(),
  );
}

interface Reopening {
  node: BlockNode;
  spec: NodeSpec;
  readOnly: boolean;
  options: Pick<NodeOptions, "autoReadOnly" | "detectZeroes" | "discard">;
  /** The new backing file; undefined: it stays. */
  backing: BlockNode | null | undefined;
}

function checkReopen(graph: BlockGraph, spec: NodeSpec): Reopening {
  const name = spec["node-name"];
  if (name === undefined) throw new CommandError("node-name not specified");
  const node = graph.node(name);
  if (spec.driver !== node.type.name) throw new CommandError("Cannot change the option 'driver'");
  checkUnchanged(node, spec);
  const backing = spec["backing"];
  if (node.type.supportsBacking && backing === undefined && node.backing) {
    throw new CommandError(`backing is missing for '${name}'`);
  }
  const options = {
    autoReadOnly: spec["auto-read-only"] ?? false,
    detectZeroes: spec["detect-zeroes"] ?? "off",
    discard: spec.discard ?? "ignore",
  } as const;
  checkDetectZeroes(options);
  return {
    node,
    spec,
    readOnly: spec["read-only"] ?? false,
    options,
    backing: newBacking(graph, node, backing),
  };
}

function newBacking(graph: BlockGraph, node: BlockNode, backing: unknown): BlockNode | null | undefined {
  if (backing === undefined || !node.type.supportsBacking) return undefined;
  const target = typeof backing === "string" ? graph.nodeOrDevice({ node: backing }) : null;
  if (target === (node.backing?.node ?? null)) return undefined;
  if (target) checkCycle(node, target);
  return target;
}

function checkCycle(node: BlockNode, backing: BlockNode): void {
  if (!chainContains(backing, node)) return;
  throw new CommandError(`Making '${backing.name}' a backing child of '${node.name}' would create a cycle`);
}

async function applyReopen(graph: BlockGraph, change: Reopening, undo: Leases): Promise<void> {
  const { node, spec, readOnly, options, backing } = change;
  const { options: before } = node;
  await changeDriver(node, spec, undo);
  undo.add(await graph.switched(node, readOnly));
  undo.defer(() => {
    node.options = { ...before, readOnly };
  });
  node.options = { ...node.options, ...options };
  if (backing === undefined) return;
  const old = node.backing?.node ?? null;
  await graph.setBacking(node, backing, Role.cow);
  undo.defer(() => graph.setBacking(node, old, Role.cow));
}

/** Puts the driver's own options in force, if any of them is another. */
async function changeDriver(node: BlockNode, spec: NodeSpec, undo: Leases): Promise<void> {
  const { reopenable: own } = node.type;
  const before = node.spec;
  const change = async (after: NodeSpec): Promise<void> => {
    await drained([node], () => node.driver.reopen?.(after) ?? Promise.resolve());
    node.spec = after;
    // Another window of a raw file may be longer.
    node.updateLength();
  };
  const differs = (option: string): boolean =>
    changedOption(option, before[option], spec[option]) !== undefined;
  if (!own || ![...own].some(differs)) return;
  const kept = Object.entries(before).filter(([option]) => !own.has(option));
  const given = Object.entries(spec).filter(([option]) => own.has(option));
  await change(Object.fromEntries([...kept, ...given]) as NodeSpec);
  undo.defer(() => change(before));
}

function checkUnchanged(node: BlockNode, spec: NodeSpec): void {
  for (const option of new Set([...Object.keys(spec), ...Object.keys(node.spec)])) {
    if (reopenable.has(option) || node.type.reopenable?.has(option)) continue;
    const [before, after] = [node.spec[option], spec[option]];
    const sameChild = typeof after === "string" && node.child(option)?.node.name === after;
    const changed = sameChild ? undefined : changedOption(option, before, after);
    if (changed !== undefined) throw new CommandError(`Cannot change the option '${changed}'`);
  }
}

/** The innermost option that differs; undefined if none does. */
function changedOption(option: string, before: unknown, after: unknown): string | undefined {
  if (JSON.stringify(before) === JSON.stringify(after)) return undefined;
  if (!isRecord(before) || !isRecord(after)) return option;
  for (const inner of new Set([...Object.keys(after), ...Object.keys(before)])) {
    const changed = changedOption(inner, before[inner], after[inner]);
    if (changed !== undefined) return changed;
  }
  return undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** change-backing-file: rewrites the name in the header of an image of the device's chain; the graph stays. */
export async function changeBackingFile(
  graph: BlockGraph,
  args: { device: string; node: string; backingFile: string },
): Promise<void> {
  const top = graph.rootNode(args.device);
  const node = graph.nodeOrDevice({ node: args.node });
  if (!node.backing) {
    throw new CommandError("not allowing backing file change on an image without a backing file");
  }
  if (!chainContains(top, node))
    throw new CommandError(`'${args.device}' and image file are not in the same chain`);
  const backing = node.backing.node;
  const writable = await graph.writable(node);
  const rewrite = async (): Promise<void> => {
    try {
      const link = { filename: args.backingFile, format: backing.type.name };
      await drained([node], () => rewriteBacking(node, link));
    } catch (cause) {
      const message = `Could not change backing file to '${args.backingFile}': ${messageOf(cause)}`;
      throw new CommandError(message, { cause });
    }
  };
  await closing(rewrite, () => writable.end());
}

/**
 * Changes the link in an image's header, in an order that survives a kill: what the link's change makes necessary (the
 * data that was copied up) is durable before, the header after.
 */
export async function rewriteBacking(
  node: BlockNode,
  backing: { filename: string; format?: string } | null,
): Promise<void> {
  const { headerBacking } = node.driver;
  if (!headerBacking) throw new CommandError("Operation not supported", { code: "ENOTSUP" });
  await flush(node);
  await headerBacking.change(backing);
  node.writeGeneration += 1;
  await flush(node);
}

/** blockdev-snapshot: an overlay that is open already takes the node's place above it. */
export async function prepareSnapshot(
  graph: BlockGraph,
  args: { node: string; overlay: string },
): Promise<PreparedChange> {
  const node = graph.lookup(args.node);
  const overlay = graph.lookup(args.overlay);
  node.checkBlocked("external-snapshot");
  // Who only writes to it (a mirror) does not mind what appears below.
  if (overlay.cumulativePermissions().perm & Perm.consistentRead)
    throw new CommandError("The overlay is already in use", { code: "EBUSY" });
  if (overlay.isFilter) throw new CommandError("Filters cannot be used as overlays", { code: "ENOTSUP" });
  if (overlay.backing) throw new CommandError("The overlay already has a backing image", { code: "EEXIST" });
  if (!overlay.type.supportsBacking)
    throw new CommandError("The overlay does not support backing images", { code: "ENOTSUP" });
  checkCycle(overlay, node);
  return installOverlay(graph, node, overlay);
}

async function installOverlay(
  graph: BlockGraph,
  node: BlockNode,
  overlay: BlockNode,
): Promise<PreparedChange> {
  await drained([node], async () => {
    if (!node.readOnly) await flush(node);
    await graph.setBacking(overlay, node, Role.cow);
    const linked = new Lease(() => graph.setBacking(overlay, null, Role.cow));
    const install = async (): Promise<void> => {
      await graph.replace(node, overlay);
      linked.keep();
    };
    await closing(install, () => linked.end());
  });
  return {
    // The old image is not to change any more; who still writes to it keeps it writable.
    commit: () => (node.readOnly ? undefined : graph.setReadOnly(node, true).catch(() => undefined)),
    abort: async () => {
      const held = graph.hold(overlay);
      const takeBack = async (): Promise<void> => {
        await graph.replace(overlay, node);
        await graph.setBacking(overlay, null, Role.cow);
      };
      await closing(takeBack, () => held.end());
    },
  };
}

/** Arguments of blockdev-snapshot-sync. */
export interface SnapshotSyncArgs {
  device?: string;
  "node-name"?: string;
  "snapshot-file": string;
  "snapshot-node-name"?: string;
  format?: string;
  mode?: "existing" | "absolute-paths";
}

/** blockdev-snapshot-sync: makes the overlay file (unless it exists), opens it and puts it on top. */
export async function prepareSnapshotSync(
  graph: BlockGraph,
  args: SnapshotSyncArgs,
): Promise<PreparedChange> {
  const node = graph.lookup(args["node-name"] ?? args.device ?? "");
  node.checkBlocked("external-snapshot");
  const name = args["snapshot-node-name"];
  if (args["node-name"] !== undefined && name === undefined)
    throw new CommandError("New overlay node-name missing");
  if (name !== undefined && graph.findNode(name))
    throw new CommandError("New overlay node-name already in use", { code: "EEXIST" });
  const format = args.format ?? defaultFormat(graph, "overlay");
  const file = await storageByName(graph, args["snapshot-file"]);
  if (args.mode !== "existing") {
    const backing = { node, format: node.type.name };
    await makeImageFile(graph, { format, filename: args["snapshot-file"], size: node.length, backing });
  }
  const overlay = await graph.open({
    driver: format,
    file,
    backing: null,
    ...(name === undefined ? {} : { "node-name": name }),
  });
  const install = async (): Promise<PreparedChange> => {
    if (!overlay.type.supportsBacking)
      throw new CommandError("The overlay does not support backing images", { code: "ENOTSUP" });
    return installOverlay(graph, node, overlay);
  };
  return closing(install, () => graph.release(overlay));
}
