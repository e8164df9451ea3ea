/**
 * Block status of one node and down a backing chain: what is data, what reads as zeroes, which layer decides.
 * Source: behaviour of QEMU's block/io.c and docs of `block status`.
 */
import { type Answer, andThen, isPromise, rejected, repeat } from "../../base/answer.ts";
import { assert, AssertionError } from "../../base/assert.ts";
import { type ByteRange, alignUp } from "../../base/ranges.ts";
import { filterOrCow } from "../model/chain.ts";
import type { BlockStatus } from "../model/contract.ts";
import { type BlockNode, nodeOf } from "../model/node.ts";
import { leave } from "../model/in-flight.ts";
import { checkRequest } from "./request-path.ts";

/**
 * Status of the range at `offset` in the node itself. `bytes` of the answer is 1 … bytes; beyond the end the answer is
 * `eof` and reads as zeroes.
 */
export function blockStatus(
  node: BlockNode,
  offset: number,
  bytes: number,
  wantZero = true,
): Answer<BlockStatus> {
  try {
    checkRequest(node, "blockStatus", offset, bytes);
    assert(bytes > 0, "block status of an empty range");
    const left = node.length - offset;
    if (left <= 0) return { bytes, data: false, zero: true, allocated: false, eof: true };
    const wanted = Math.min(bytes, left);
    const told = node.driver.blockStatus
      ? driverStatus(node, offset, wanted, wantZero)
      : statusWithoutHook(node, offset, wanted, wantZero);
    return isPromise(told) ? counted(node, offset, told) : withEof(node, offset, told);
  } catch (error) {
    return rejected(error);
  }
}

async function counted(node: BlockNode, offset: number, told: Promise<BlockStatus>): Promise<BlockStatus> {
  node.inFlight += 1;
  try {
    return withEof(node, offset, await told);
  } finally {
    leave(node);
  }
}

function driverStatus(
  node: BlockNode,
  offset: number,
  bytes: number,
  wantZero: boolean,
): Answer<BlockStatus> {
  // A filter hands on what it is told, which may be finer than its own alignment.
  const align = node.isFilter ? 1 : node.limits.requestAlignment;
  const skipped = offset % align;
  const wanted = skipped === 0 && bytes % align === 0 ? bytes : alignUp(bytes + skipped, align);
  const asked = node.driver.blockStatus!(skipped === 0 ? offset : offset - skipped, wanted, wantZero);
  const range: Asked = { offset, bytes, skipped, wantZero };
  // Every copy asks for many of these, nearly all of which are told at once: nothing is made for those that wait.
  return isPromise(asked)
    ? asked.then((told) => statusAsked(node, told, range))
    : statusAsked(node, asked, range);
}

/** The part that was asked for; what the driver told begins `skipped` bytes before it. */
interface Asked extends ByteRange {
  readonly skipped: number;
  readonly wantZero: boolean;
}

function statusAsked(node: BlockNode, told: BlockStatus, range: Asked): Answer<BlockStatus> {
  const status = ownStatus(node, told, range);
  const below = status.recurse && status.map && status.map.node !== node;
  return below ? mergeBelow(node, status, range.wantZero) : status;
}

function withEof(node: BlockNode, offset: number, status: BlockStatus): BlockStatus {
  if (offset + status.bytes >= node.length) status.eof = true;
  return status;
}

/** What the driver told, for the part that was asked for. */
function ownStatus(node: BlockNode, status: BlockStatus, { offset, bytes, skipped }: Asked): BlockStatus {
  if (skipped > 0) status.bytes -= skipped;
  if (status.bytes > bytes) status.bytes = bytes;
  if (status.bytes <= 0)
    throw new AssertionError(`driver '${node.type.name}' answered an empty block status`);
  if (status.map && skipped > 0) status.map = { node: status.map.node, offset: status.map.offset + skipped };
  if (status.recurse && status.map && status.map.node !== node) return status;
  // What a filter shows is allocated where its child says so.
  if (node.isFilter) return status;
  if (status.data || status.zero) status.allocated = true;
  else if (!status.allocated && node.type.supportsBacking) readsZeroWithoutBacking(node, offset, status);
  return status;
}

function statusWithoutHook(
  node: BlockNode,
  offset: number,
  bytes: number,
  wantZero: boolean,
): Answer<BlockStatus> {
  const below = node.filtered;
  if (!below) return { bytes, data: true, zero: false, allocated: true, map: { node, offset } };
  return andThen(blockStatus(below.node, offset, bytes, wantZero), (status) =>
    status.bytes > bytes ? { ...status, bytes } : status,
  );
}

/** Asks the node that holds the bytes: it may know that they are a hole. */
function mergeBelow(node: BlockNode, status: BlockStatus, wantZero: boolean): Answer<BlockStatus> {
  const { map } = status;
  assert(map, "there is a map");
  const asked = blockStatus(nodeOf(map.node), map.offset, status.bytes, wantZero);
  return isPromise(asked) ? asked.then((below) => merged(node, status, below)) : merged(node, status, asked);
}

function merged(node: BlockNode, status: BlockStatus, below: BlockStatus): BlockStatus {
  status.bytes = Math.min(status.bytes, below.bytes);
  status.allocated = true;
  status.recurse = false;
  if (below.zero) status.zero = true;
  // A format without a backing file shows what lies below as it is.
  if (!node.type.supportsBacking) {
    status.data = below.data;
    if (below.map) status.map = below.map;
  }
  return status;
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
export function blockStatusAbove(
  top: BlockNode,
  offset: number,
  bytes: number,
  options: ChainOptions = {},
): Answer<ChainStatus> {
  if (top === options.base && !options.includeBase)
    return { bytes, data: false, zero: false, allocated: false, depth: 0 };
  const own = blockStatus(top, offset, bytes, options.wantZero ?? true);
  return isPromise(own)
    ? own.then((status) => decidedBy(top, status, offset, options))
    : decidedBy(top, own, offset, options);
}

/** Goes on below `top` unless what it answered, `own`, decides. */
function decidedBy(
  top: BlockNode,
  own: BlockStatus,
  offset: number,
  options: ChainOptions,
): Answer<ChainStatus> {
  if (own.allocated) return atDepth(own, 1);
  if (own.eof && offset >= top.length) return atDepth(own, 0);
  const below = layerBelow(top, options);
  return below ? statusBelow(below, own, offset, options) : undecided(own, options);
}

function atDepth(status: BlockStatus, depth: number): ChainStatus {
  const found = status as ChainStatus;
  found.depth = depth;
  return found;
}

/** The next layer that is asked. */
function layerBelow(layer: BlockNode, { base, includeBase = false }: ChainOptions): BlockNode | undefined {
  const below = layer === base ? undefined : filterOrCow(layer);
  return below === base && !includeBase ? undefined : below;
}

/** The status where no layer decides, the last of which answered `last`. */
function undecided(last: BlockStatus, { base }: ChainOptions): ChainStatus {
  last.data = false;
  last.zero = base === undefined;
  last.allocated = false;
  return atDepth(last, 0);
}

/** Asks `first` and the layers below it; the one above answered `own`, and does not decide. */
function statusBelow(
  first: BlockNode,
  own: BlockStatus,
  offset: number,
  options: ChainOptions,
): Answer<ChainStatus> {
  const topEof = own.eof === true ? offset + own.bytes : undefined;
  let last = own;
  let depth = 1;
  let found: ChainStatus | undefined;
  let node: BlockNode | undefined = first;
  const step = (): Answer<boolean> => {
    if (!node) return false;
    const layer = node;
    depth += 1;
    if (offset >= layer.length) {
      // The layers above are longer: beyond the end of a backing file there are zeroes, and they belong to that layer.
      found = { bytes: last.bytes, data: false, zero: true, allocated: true, depth };
      return false;
    }
    const passed = passedThrough(layer, offset, last.bytes);
    if (passed > 0) {
      // One object for all layers that pass.
      if (last === own) last = { bytes: passed, data: false, zero: false, allocated: false };
      else last.bytes = passed;
      node = layerBelow(layer, options);
      return true;
    }
    return andThen(blockStatus(layer, offset, last.bytes, options.wantZero ?? true), (status) => {
      last = status;
      if (status.allocated) found = atDepth(status, depth);
      node = layerBelow(layer, options);
      return !found;
    });
  };
  return andThen(repeat(step), () => {
    const status = found ?? undecided(last, options);
    status.eof = offset + status.bytes === topEof;
    return status;
  });
}

/** How many bytes from `offset` on `layer` surely leaves to the one below it, which reaches as far; 0: it must be asked. */
function passedThrough(layer: BlockNode, offset: number, bytes: number): number {
  if (!layer.isOpen || offset % layer.limits.requestAlignment !== 0) return 0;
  const { driver, backing } = layer;
  if (!driver.passesThrough || !backing) return 0;
  const reach = Math.min(bytes, layer.length - offset, backing.node.length - offset);
  return reach > 0 ? driver.passesThrough(offset, reach) : 0;
}

/** Whether the node itself (filters skipped) decides the range. */
export function isAllocated(
  node: BlockNode,
  offset: number,
  bytes: number,
): Answer<{ allocated: boolean; bytes: number }> {
  return andThen(blockStatus(node, offset, bytes, false), (status) => ({
    allocated: status.allocated,
    bytes: status.bytes,
  }));
}

/** Whether a layer from `top` down to `base` decides the range, and which (depth as in ChainStatus). */
export function isAllocatedAbove(
  top: BlockNode,
  offset: number,
  bytes: number,
  options: ChainOptions = {},
): Answer<{ allocated: boolean; bytes: number; depth: number }> {
  return andThen(blockStatusAbove(top, offset, bytes, { ...options, wantZero: false }), (status) => ({
    allocated: status.allocated,
    bytes: status.bytes,
    depth: status.depth,
  }));
}
