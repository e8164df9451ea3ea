/**
 * Opening and closing nodes. To open: name, driver, options inherited from the parent, children, and the backing file that the image's
 * header names (through the gate). A failed open leaves nothing behind. Source: behaviour of QEMU's bdrv_open_inherit.
 * To close: drain, flush, bitmaps, driver, children; a failed flush is reported after everything is closed.
 */
import { BlockError, CommandError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { checkDiskLength } from "../../base/ranges.ts";
import { restoreBitmaps, saveBitmaps } from "../bitmap/persistence.ts";
import { type Child, BlockNode } from "../model/node.ts";
import {
  type ChildRef,
  type ChildRole,
  type NodeSpec,
  type OpenContext,
  Role,
  type NodeOptions,
} from "../model/contract.ts";
import { attachChild, detachChild, refresh } from "./edges.ts";
import { checkOpened, imageFilename, openedFilename } from "../model/filename.ts";
import type { Gate } from "../model/gate.ts";
import type { NodeHome } from "./home.ts";
import { probeFormat } from "./probe.ts";
import { Perm } from "../model/permissions.ts";
import { assert } from "../../base/assert.ts";
import { drained } from "../model/drain.ts";
import { flush } from "../io/request-path.ts";

interface Inherited {
  parent: BlockNode;
  role: ChildRole;
}

/** Who opens a node: a parent, or a caller who may bring a gate. */
type Opener = Inherited | { gate?: Gate; metadataOnly?: boolean };

/** Opens a node and its children. The caller takes a reference or an edge at once. */
export async function openNode(graph: NodeHome, spec: NodeSpec, opener: Opener = {}): Promise<BlockNode> {
  const inherited = "parent" in opener ? opener : undefined;
  const type = graph.driver(spec.driver);
  const name = graph.claimName(spec["node-name"]);
  const node = new BlockNode({
    services: graph,
    watchers: graph.watchers,
    gate: "parent" in opener ? opener.parent.gate : (opener.gate ?? graph.gate),
    name,
    type,
    spec,
    options: nodeOptions(spec, inherited),
  });
  node.inheritsFrom = inherited?.parent;
  node.metadataOnly = "parent" in opener ? opener.parent.metadataOnly : (opener.metadataOnly ?? false);
  graph.addNode(node);
  try {
    const driver = await type.open(openContext(graph, node, inherited), spec);
    node.setDriver(driver);
    checkDiskLength(node.length, "open");
    // Until now the children were held by the rules of their roles.
    if (driver.childPermissions) await refresh([node]);
    if (type.supportsBacking) await openBacking(graph, node, spec);
    if (node.backing) driver.headerBacking?.check?.(node.backing.node);
    node.childrenChanged();
    await loadBitmaps(node);
  } catch (error) {
    await abandon(graph, node);
    throw error;
  }
  return node;
}

async function abandon(graph: NodeHome, node: BlockNode): Promise<void> {
  const opened = node.isOpen;
  node.closed = true;
  if (opened) await node.driver.close?.().catch(() => undefined);
  for (const child of [...node.children]) {
    await detachChild(child).catch(() => undefined);
    await graph.releaseIfUnused(child.node).catch(() => undefined);
  }
  graph.removeNode(node);
}

/** The options of a node out of its description and, for one that its parent opens, the parent's. Throws CommandError. */
export function nodeOptions(
  spec: NodeSpec,
  inherited: { readonly parent: { readonly options: NodeOptions }; readonly role: ChildRole } | undefined,
): NodeOptions {
  const from = inherited?.parent.options;
  const backing = inherited !== undefined && (inherited.role & Role.cow) !== 0;
  const detectZeroes = spec["detect-zeroes"] ?? "off";
  // Whoever opens a node as a part of its own asks it only for what it was told to discard itself.
  const discard = spec.discard ?? (inherited ? "unmap" : "ignore");
  checkDetectZeroes({ detectZeroes, discard });
  return {
    readOnly: spec["read-only"] ?? (backing || (from?.readOnly ?? false)),
    autoReadOnly: spec["auto-read-only"] ?? (backing ? false : (from?.autoReadOnly ?? false)),
    forceShare: spec["force-share"] ?? from?.forceShare ?? false,
    detectZeroes,
    discard,
    cacheDirect: spec.cache?.direct ?? from?.cacheDirect ?? false,
    cacheNoFlush: spec.cache?.["no-flush"] ?? from?.cacheNoFlush ?? false,
  };
}

/** Throws where zeroes are to be unmapped on a node that ignores discards. */
function checkDetectZeroes(options: Pick<NodeOptions, "detectZeroes" | "discard">): void {
  if (options.detectZeroes !== "unmap" || options.discard === "unmap") return;
  throw new CommandError(
    "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap",
  );
}

function openContext(graph: NodeHome, node: BlockNode, inherited: Inherited | undefined): OpenContext {
  const isStorage = inherited !== undefined && isOpenedAsStorage(inherited);
  return {
    node,
    graph,
    host: graph.host,
    kernels: graph.kernels,
    arena: graph.arena,
    metadataOnly: node.metadataOnly,
    get readOnly() {
      return node.readOnly;
    },
    openChild: async (ref, name, role) => {
      const child = await openChild(graph, node, { ref, name, role });
      // The file of what may be probed is there before that has its name, as in QEMU's lists.
      if (name === "file" && !isStorage) graph.addAgain(node);
      return child;
    },
  };
}

/** Whether a parent takes a child as the storage of its own, whose format nobody asks for. */
function isOpenedAsStorage({ parent, role }: Inherited): boolean {
  return (role & Role.metadata) !== 0 || (parent.type.kind === "format" && !(role & Role.cow));
}

async function openChild(
  graph: NodeHome,
  parent: BlockNode,
  { ref, name, role }: { ref: ChildRef | undefined; name: string; role: ChildRole },
): Promise<Child> {
  if (ref === undefined)
    throw new CommandError(`A block device must be specified for "${name}"`, {
      details: { missingChild: name },
    });
  return attachRef(graph, parent, { ref, name, role });
}

async function attachRef(
  graph: NodeHome,
  parent: BlockNode,
  { ref, name, role }: { ref: ChildRef; name: string; role: ChildRole },
): Promise<Child> {
  const node = await openRef(graph, ref, { parent, role });
  try {
    if (typeof ref === "string") checkCircle(parent, node, name);
    return await attachChild({ name, role, parent, node, perm: 0, shared: Perm.all });
  } catch (error) {
    await graph.releaseIfUnused(node).catch(() => undefined);
    throw error;
  }
}

/** The node that a child is to be. What goes wrong is told as a backing file's, where it is one. */
async function openRef(
  graph: NodeHome,
  ref: ChildRef,
  from: { parent: BlockNode; role: ChildRole },
): Promise<BlockNode> {
  try {
    return typeof ref === "string" ? graph.lookup(ref) : await openNode(graph, ref, from);
  } catch (error) {
    throw from.role === Role.cow ? backingError(error, from.parent) : error;
  }
}

/** An error of opening a node's backing file. A chain without an end is told once, and not by each of its images. */
function backingError(error: unknown, { name }: BlockNode): unknown {
  if (!(error instanceof Error) || (error instanceof BlockError && error.op === chainOp)) return error;
  const message = `Could not open backing file: ${error.message}`;
  if (error instanceof CommandError) {
    const { qmpClass, code, details } = error;
    return new CommandError(message, { qmpClass, code, details, cause: error });
  }
  const code = error instanceof BlockError ? error.code : "EINVAL";
  return new BlockError({ code, op: "open", node: name, message, cause: error });
}

/** A format's file is opened before the node has its name. */
function checkCircle(parent: BlockNode, node: BlockNode, name: string): void {
  if (node === parent && name === "file")
    throw new CommandError(`Cannot find device='${node.name}' nor node-name='${node.name}'`, {
      code: "ENOENT",
    });
  if (node === parent || !node.isOpen)
    throw new CommandError(`Making '${node.name}' a ${name} child of '${parent.name}' would create a cycle`);
}

/** The backing file: as the spec says, or as the header says and the gate allows. */
async function openBacking(graph: NodeHome, node: BlockNode, spec: NodeSpec): Promise<void> {
  const given = spec["backing"] as ChildRef | null | undefined;
  if (given === null || given === "") return;
  if (isFromHeader(graph, given)) {
    await openBackingFromHeader(graph, node, given);
    return;
  }
  if (given !== undefined) {
    await attachRef(graph, node, { ref: given, name: "backing", role: Role.cow });
    return;
  }
  await openBackingFromHeader(graph, node);
}

/** Whether a backing file is described by the header, to which `given` only puts options. */
function isFromHeader(graph: NodeHome, given: ChildRef | undefined): given is Partial<NodeSpec> & NodeSpec {
  if (typeof given !== "object" || given["file"] !== undefined || given["filename"] !== undefined)
    return false;
  const driver: string | undefined = given.driver;
  return driver === undefined || graph.driver(driver).kind === "format";
}

/**
 * Attaches the backing file that the header names, if it names one and the gate allows it; `given` are options beside those
 * of the header, which give way.
 */
export async function openBackingFromHeader(
  graph: NodeHome,
  node: BlockNode,
  given: Partial<NodeSpec> = {},
): Promise<void> {
  const filename = node.driver.headerBacking?.filename();
  if (!filename) return;
  checkDepth(node);
  const answer = await node.gate({
    kind: "backing",
    image: imageFilename(node),
    name: filename,
    format: given.driver ?? node.driver.headerBacking?.format(),
    access: "read",
  });
  if ("refuse" in answer)
    throw new BlockError({
      code: "EPERM",
      op: "open",
      node: node.name,
      message: `Could not open backing file: ${answer.refuse}`,
    });
  checkLoop(node, answer.allow);
  const allowed = answer.allow.driver === "" ? await probed(graph, answer.allow) : answer.allow;
  const ref = { ...given, ...allowed };
  const child = await attachRef(graph, node, { ref, name: "backing", role: Role.cow });
  await checkBacking(graph, node, { child, answer });
  node.openedByHeader = { header: filename, name: openedFilename(child.node) };
}

async function checkBacking(
  graph: NodeHome,
  node: BlockNode,
  { child, answer }: { child: Child; answer: { identity?: string } },
): Promise<void> {
  try {
    checkOpened(child.node, answer);
  } catch (error) {
    await graph.detach(child);
    throw backingError(error, node);
  }
}

/** The operation that errors about the chain as a whole name. */
const chainOp = "open chain";

/** Throws if the file that a header names is one of those that led to it. Two spellings of a name only show in the depth. */
function checkLoop(node: BlockNode, { file }: NodeSpec): void {
  const filename = typeof file === "object" && file !== null ? (file as NodeSpec)["filename"] : undefined;
  if (typeof filename !== "string") return;
  for (let at: BlockNode | undefined = node; at; at = at.inheritsFrom) {
    if (openedName(at) !== filename) continue;
    const message = `Backing file '${filename}' creates an infinite loop.`;
    throw new BlockError({ code: "ELOOP", op: chainOp, node: node.name, message });
  }
}

/** imageFilename() of an image, which in a long chain is looked for often: mostly as it stands in what was to be opened. */
function openedName(image: BlockNode): string {
  const { file } = image.spec;
  const name = typeof file === "object" && file !== null ? (file as NodeSpec)["filename"] : undefined;
  return typeof name === "string" ? name : imageFilename(image);
}

function checkDepth(node: BlockNode): void {
  let depth = 1;
  for (let at = node.inheritsFrom; at; at = at.inheritsFrom) depth += 1;
  if (depth > limits.maxChainDepth) {
    throw new BlockError({
      code: "ELOOP",
      op: chainOp,
      node: node.name,
      message: `Backing chain is deeper than ${limits.maxChainDepth} images (limits.maxChainDepth)`,
    });
  }
}

/** Guesses the format of an image that its overlay does not name; only a gate that allows the file leads here. */
async function probed(graph: NodeHome, spec: NodeSpec): Promise<NodeSpec> {
  const file = spec["file"] as NodeSpec;
  return { ...spec, ...(await probeFormat(graph, file)) };
}

async function loadBitmaps(node: BlockNode): Promise<void> {
  const store = node.driver.bitmapStore?.();
  if (store) await restoreBitmaps(node, store);
}

/** Closes a node that nobody uses, then the children that only it used. */
export async function closeNode(graph: NodeHome, node: BlockNode): Promise<void> {
  assert(node.parents.size === 0, `node '${node.name}' is in use`);
  if (node.closed) return;
  const errors: unknown[] = [];
  const attempt = async (step: () => Promise<void> | undefined): Promise<boolean> => {
    try {
      await step();
      return true;
    } catch (error) {
      errors.push(error);
      return false;
    }
  };
  await drained([node], async () => {
    await attempt(() => saveBitmaps(node));
    const isFlushed = await attempt(() => flush(node));
    node.closed = true;
    const isClosed = await attempt(() => node.driver.close?.());
    // The driver says what it could not keep; that it could not be flushed is less.
    if (!isFlushed && !isClosed) errors.splice(-2, 1);
  });
  for (const bitmap of [...node.dirtyBitmaps]) bitmap.release();
  graph.removeNode(node);
  for (const child of [...node.children]) {
    child.frozen = false;
    await attempt(() => detachChild(child));
    await attempt(() => graph.releaseIfUnused(child.node));
  }
  if (errors.length > 0) throw errors[0];
}
