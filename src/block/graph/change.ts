/**
 * Changes that commands make to a graph that is in use: external snapshots, the backing link in a header. Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { closing, Lease } from "../../base/lease.ts";
import { CommandError, messageOf } from "../../base/errors.ts";
import { drained } from "../model/drain.ts";
import { type NodeSpec, Role } from "../model/contract.ts";
import { Perm } from "../model/permissions.ts";
import { chainContains } from "../model/chain.ts";
import { leadsTo } from "./edges.ts";
import type { BlockGraph } from "./graph.ts";
import { flush } from "../io/request-path.ts";
import type { BlockNode } from "../model/node.ts";
import { defaultFormat, findDriver } from "../model/options.ts";
import { storageByName } from "./storage-name.ts";
import { makeImageFile } from "./new-image.ts";

/**
 * A change in a transaction: made, and kept by commit or taken back by abort. Whoever may abort it keeps the nodes drained
 * until then, since an overlay that goes takes along what was written to it.
 */
export interface PreparedChange {
  commit(): Promise<void> | void;
  abort(): Promise<void> | void;
}

function checkCycle(node: BlockNode, backing: BlockNode): void {
  if (!leadsTo(backing, node)) return;
  throw new CommandError(`Making '${backing.name}' a backing child of '${node.name}' would create a cycle`);
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
  // A name that nobody has opened stands for itself.
  node.openedByHeader = undefined;
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

/** Throws where no overlay of this format can be made. */
function checkMakesOverlays(graph: BlockGraph, format: string): void {
  const type = findDriver(graph, format);
  if (!type) throw new CommandError(`Unknown file format '${format}'`);
  if (type.kind !== "protocol" && !type.supportsBacking)
    throw new CommandError(`Backing file not supported for file format '${format}'`);
}

/** blockdev-snapshot-sync: makes the overlay file (unless it exists), opens it and puts it on top. */
export async function prepareSnapshotSync(
  graph: BlockGraph,
  args: SnapshotSyncArgs,
): Promise<PreparedChange> {
  const { device, "node-name": nodeName } = args;
  const node = graph.nodeOrDevice({
    ...(device === undefined ? {} : { device }),
    ...(nodeName === undefined ? {} : { node: nodeName }),
  });
  node.checkBlocked("external-snapshot");
  const name = args["snapshot-node-name"];
  if (args["node-name"] !== undefined && name === undefined)
    throw new CommandError("New overlay node-name missing");
  if (name !== undefined && graph.findNode(name))
    throw new CommandError("New overlay node-name already in use", { code: "EEXIST" });
  const format = args.format ?? defaultFormat(graph, "overlay");
  if (args.mode !== "existing") checkMakesOverlays(graph, format);
  const file = await storageByName(graph, args["snapshot-file"]);
  if (args.mode !== "existing") {
    const backing = { node, format: node.type.name };
    await makeImageFile(graph, { format, filename: args["snapshot-file"], size: node.length, backing });
  }
  const overlay = await graph.open({
    driver: format,
    file,
    backing: null,
    ...cachedAs(node),
    ...(name === undefined ? {} : { "node-name": name }),
  });
  const install = async (): Promise<PreparedChange> => {
    if (!overlay.type.supportsBacking)
      throw new CommandError("The overlay does not support backing images", { code: "ENOTSUP" });
    return installOverlay(graph, node, overlay);
  };
  return heldUntilDecided(graph, overlay, install);
}

/** An overlay is cached as the image is whose place it takes. */
function cachedAs({ options: { cacheDirect, cacheNoFlush } }: BlockNode): Partial<NodeSpec> {
  return cacheDirect || cacheNoFlush ? { cache: { direct: cacheDirect, "no-flush": cacheNoFlush } } : {};
}

/** An overlay that nobody uses is there all the same until all actions of its transaction are: another one may be refused for it. */
async function heldUntilDecided(
  graph: BlockGraph,
  overlay: BlockNode,
  install: () => Promise<PreparedChange>,
): Promise<PreparedChange> {
  const release = (): Promise<void> => graph.release(overlay);
  try {
    const change = await install();
    return {
      commit: () => closing(async () => change.commit(), release),
      abort: () => closing(async () => change.abort(), release),
    };
  } catch (error) {
    await release();
    throw error;
  }
}
