/**
 * Block status of one node and down a backing chain: what is data, what reads as zeroes, which layer decides.
 * Source: behaviour of QEMU's block/io.c and docs of `block status`.
 */
import { assert } from "../../base/assert.ts";
import { alignDown, alignUp } from "../../base/ranges.ts";
import { filterOrCow } from "../model/chain.ts";
import type { BlockStatus } from "../model/contract.ts";
import { type BlockNode, nodeOf } from "../model/node.ts";
import { checkOpen, checkRange, leave } from "./request-path.ts";

/**
 * Status of the range at `offset` in the node itself. `bytes` of the answer is 1 … bytes; beyond the end the answer is
 * `eof` and reads as zeroes.
 */
export async function blockStatus(
  node: BlockNode,
  offset: number,
  bytes: number,
  wantZero = true,
): Promise<BlockStatus> {
  checkOpen(node, "blockStatus");
  checkRange(node, "blockStatus", offset, bytes);
  assert(bytes > 0, "block status of an empty range");
  const left = node.length - offset;
  if (left <= 0) return { bytes, data: false, zero: true, allocated: false, eof: true };
  const wanted = Math.min(bytes, left);
  node.inFlight += 1;
  try {
    if (!node.driver.blockStatus)
      return withEof(node, offset, await statusWithoutHook(node, offset, wanted, wantZero));
    // A filter hands on what it is told, which may be finer than its own alignment.
    const align = node.isFilter ? 1 : node.limits.requestAlignment;
    const start = alignDown(offset, align);
    const told = await node.driver.blockStatus(start, alignUp(offset + wanted, align) - start, wantZero);
    const status = ownStatus(node, told, { offset, bytes: wanted, skipped: offset - start });
    const below = status.recurse && status.map && status.map.node !== node;
    return withEof(node, offset, below ? await mergeBelow(node, status, wantZero) : status);
  } finally {
    leave(node);
  }
}

/** As blockStatus(), if the driver knows without waiting. The range lies within the node. */
export function blockStatusNow(node: BlockNode, offset: number, bytes: number): BlockStatus | undefined {
  if (!node.isOpen || node.limits.requestAlignment !== 1 || offset + bytes > node.length) return undefined;
  const told = node.driver.blockStatusNow?.(offset, bytes);
  if (!told || told.recurse) return undefined;
  return withEof(node, offset, ownStatus(node, told, { offset, bytes, skipped: 0 }));
}

/** Whether the node itself holds the whole range, as far as its driver knows without waiting. */
export function isAllocatedNow(node: BlockNode, offset: number, bytes: number): boolean {
  if (!node.isOpen || node.isFilter || offset + bytes > node.length) return false;
  const told = node.driver.blockStatusNow?.(offset, bytes);
  return told !== undefined && told.allocated && told.bytes >= bytes;
}

function withEof(node: BlockNode, offset: number, status: BlockStatus): BlockStatus {
  if (offset + status.bytes >= node.length) status.eof = true;
  return status;
}

/** What the driver told, for the part that was asked for. */
function ownStatus(
  node: BlockNode,
  status: BlockStatus,
  { offset, bytes, skipped }: { offset: number; bytes: number; skipped: number },
): BlockStatus {
  status.bytes = Math.min(status.bytes - skipped, bytes);
  assert(status.bytes > 0, `driver '${node.type.name}' answered an empty block status`);
  if (status.map && skipped > 0) status.map = { node: status.map.node, offset: status.map.offset + skipped };
  if (status.recurse && status.map && status.map.node !== node) return status;
  // What a filter shows is allocated where its child says so.
  if (node.isFilter) return status;
  if (status.data || status.zero) status.allocated = true;
  else if (!status.allocated && node.type.supportsBacking) readsZeroWithoutBacking(node, offset, status);
  return status;
}

async function statusWithoutHook(
  node: BlockNode,
  offset: number,
  bytes: number,
  wantZero: boolean,
): Promise<BlockStatus> {
  const below = node.filtered;
  if (below) {
    const status = await blockStatus(below.node, offset, bytes, wantZero);
    return status.bytes > bytes ? { ...status, bytes } : status;
  }
  return { bytes, data: true, zero: false, allocated: true, map: { node, offset } };
}

/** Asks the node that holds the bytes: it may know that they are a hole. */
async function mergeBelow(node: BlockNode, status: BlockStatus, wantZero: boolean): Promise<BlockStatus> {
  const { map } = status;
  assert(map, "recursion without a map");
  const below = await blockStatus(nodeOf(map.node), map.offset, status.bytes, wantZero);
  const merged: BlockStatus = { ...status, bytes: Math.min(status.bytes, below.bytes), allocated: true };
  delete merged.recurse;
  if (below.zero) merged.zero = true;
  // A format without a backing file shows what lies below as it is.
  if (!node.type.supportsBacking) {
    merged.data = below.data;
    if (below.map) merged.map = below.map;
  }
  return merged;
}

function readsZeroWithoutBacking(node: BlockNode, offset: number, status: BlockStatus): void {
  const backing = node.backing?.node;
  if (!backing || offset >= backing.length) status.zero = true;
  else status.bytes = Math.min(status.bytes, backing.length - offset);
}

/** A status together with the layer that decided it. */
export interface ChainStatus extends BlockStatus {
  /** 0 = not allocated in the layers looked at; 1 = the top node, 2 = the next … */
  depth: number;
}

/** Which layers are asked. */
export interface ChainOptions {
  /** The layer to stop at; undefined = the whole chain. */
  base?: BlockNode | undefined;
  /** Whether the base itself is asked. */
  includeBase?: boolean;
  wantZero?: boolean;
}

/** Status of a range in the chain from `top` down. Where no layer decides, it reads as zeroes unless a base was left out. */
export async function blockStatusAbove(
  top: BlockNode,
  offset: number,
  bytes: number,
  options: ChainOptions = {},
): Promise<ChainStatus> {
  const wantZero = options.wantZero ?? true;
  if (top === options.base && !options.includeBase)
    return { bytes, data: false, zero: false, allocated: false, depth: 0 };
  let status = await blockStatus(top, offset, bytes, wantZero);
  let depth = 1;
  const topEof = status.eof === true ? offset + status.bytes : undefined;
  const withEnd = (found: ChainStatus): ChainStatus => ({ ...found, eof: offset + found.bytes === topEof });
  if (status.allocated || (status.eof && offset >= top.length))
    return { ...status, depth: status.allocated ? depth : 0 };
  let reach = status.bytes;
  for (
    let node = top === options.base ? undefined : filterOrCow(top);
    node && (node !== options.base || options.includeBase);
    node = filterOrCow(node)
  ) {
    depth += 1;
    if (offset >= node.length) {
      // The layers above are longer: beyond the end of a backing file there are zeroes, and they belong to that layer.
      return withEnd({ bytes: reach, data: false, zero: true, allocated: true, depth });
    }
    status = await blockStatus(node, offset, reach, wantZero);
    reach = status.bytes;
    if (status.allocated) return withEnd({ ...status, depth });
    if (node === options.base) break;
  }
  return withEnd({
    ...status,
    bytes: reach,
    data: false,
    zero: options.base === undefined,
    allocated: false,
    depth: 0,
  });
}

/** As blockStatusAbove() for the whole chain, if it is known without waiting what the top node holds. */
export function blockStatusAboveNow(top: BlockNode, offset: number, bytes: number): ChainStatus | undefined {
  const status = blockStatusNow(top, offset, bytes) as ChainStatus | undefined;
  if (!status || (!status.allocated && filterOrCow(top))) return undefined;
  status.depth = status.allocated ? 1 : 0;
  return status;
}

/** Whether the node itself (filters skipped) decides the range. */
export async function isAllocated(
  node: BlockNode,
  offset: number,
  bytes: number,
): Promise<{ allocated: boolean; bytes: number }> {
  const status = await blockStatus(node, offset, bytes, false);
  return { allocated: status.allocated, bytes: status.bytes };
}

/** Whether a layer from `top` down to `base` decides the range, and which (depth as in ChainStatus). */
export async function isAllocatedAbove(
  top: BlockNode,
  offset: number,
  bytes: number,
  options: ChainOptions = {},
): Promise<{ allocated: boolean; bytes: number; depth: number }> {
  const status = await blockStatusAbove(top, offset, bytes, { ...options, wantZero: false });
  return { allocated: status.allocated, bytes: status.bytes, depth: status.depth };
}
