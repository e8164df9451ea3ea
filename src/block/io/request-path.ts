/**
 * The steps that every kind of request of a node shares: checks, tracking, reads clipped to the end, writes split by the
 * driver's limits, and the bookkeeping around a change. The requests themselves are in io.ts, zeroes.ts, status.ts and
 * copy-on-read.ts. Source: behaviour of QEMU's block/io.c.
 */
import { type Answer, andThen, isPromise, repeat } from "../../base/answer.ts";
import { BlockError, blockError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { type ByteRange, alignUp, type RequestKind, type TrackedRequest } from "../../base/ranges.ts";
import { recordWrite } from "../model/dirty-bitmap.ts";
import { tellOfChange } from "../model/drain.ts";
import { Req, type RequestFlags, Role } from "../model/contract.ts";
import { inFlight, leave } from "../model/in-flight.ts";
import type { BlockNode, Child } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";

/** Throws ENOMEDIUM when the node is closed, and EIO unless 0 <= offset, 0 <= bytes and the end is a legal offset. */
export function checkRequest(node: BlockNode, op: string, offset: number, bytes: number): void {
  checkOpen(node, op);
  const end = offset + bytes;
  if (offset >= 0 && bytes >= 0 && Number.isSafeInteger(end) && end <= limits.maxImageBytes) return;
  throw new BlockError({
    code: "EIO",
    op,
    node: node.name,
    offset,
    bytes,
    message: `${op}: range ${offset}+${bytes} is out of bounds`,
  });
}

/** Throws ENOMEDIUM when the node is closed. */
export function checkOpen(node: BlockNode, op: string): void {
  if (!node.isOpen) throw blockError("ENOMEDIUM", op);
}

/** Whether a request can be given to the driver as it is: aligned, and in nobody's way. */
export function isPlain(node: BlockNode, offset: number, bytes: number): boolean {
  const align = node.limits.requestAlignment;
  return offset % align === 0 && bytes % align === 0 && !node.requests.inTheWay(offset, bytes);
}

/** The unit in which copies into a node are made, and requests that must not overlap are kept apart, bytes. */
export function copyUnit(node: BlockNode): number {
  return Math.max(node.driver.getInfo?.()?.clusterSize ?? 0, node.limits.requestAlignment);
}

/** Keeps account of a request that was given to the driver in this turn, and is not over yet. Whoever comes later finds it. */
export function tracked(
  node: BlockNode,
  { kind, offset, bytes }: ByteRange & { kind: RequestKind },
  work: Promise<void>,
): Promise<void> {
  node.inFlight += 1;
  const request = node.requests.begin(kind, offset, bytes);
  return work.finally(() => {
    node.requests.end(request);
    leave(node);
  });
}

/** Reads, zero-filling beyond the end and splitting by maxTransfer. `offset` and length are aligned. */
export function readWithinEnd(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Answer<void> {
  const readable = Math.min(
    buffer.byteLength,
    Math.max(0, alignUp(node.length, node.limits.requestAlignment) - offset),
  );
  const whole = readable === buffer.byteLength ? buffer : buffer.subarray(0, readable);
  if (whole !== buffer) buffer.fill(0, readable);
  if (readable === 0) return undefined;
  const chunk = node.limits.maxTransfer;
  if (chunk === 0 || readable <= chunk) return node.driver.pread(offset, whole, flags);
  return readInChunks(node, offset, whole, flags);
}

function readInChunks(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Answer<void> {
  return inChunks(buffer, node.limits.maxTransfer, (part, at) => node.driver.pread(offset + at, part, flags));
}

/** Hands a write to the driver, split by maxTransfer. `offset` and length are aligned. */
export function writeSplit(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Answer<void> {
  const { driver } = node;
  if (!driver.pwrite) throw blockError("ENOTSUP", "pwrite");
  const chunk = node.limits.maxTransfer;
  if (chunk === 0 || buffer.byteLength <= chunk) return driver.pwrite(offset, buffer, flags);
  return inChunks(buffer, chunk, (part, at) => driver.pwrite!(offset + at, part, flags));
}

/** Calls `work` for one part of the buffer after the other, each with where it begins. */
function inChunks(
  buffer: Uint8Array,
  chunk: number,
  work: (part: Uint8Array, at: number) => Answer<void>,
): Answer<void> {
  let at = 0;
  return repeat(() => {
    const part = buffer.subarray(at, at + chunk);
    return andThen(work(part, at), () => (at += chunk) < buffer.byteLength);
  });
}

/** What is written, and how. */
interface Write extends ByteRange {
  readonly flags: RequestFlags;
}

/** A change of a node's data that is about to be made. */
export interface ChangeRequest extends Write {
  readonly request: TrackedRequest;
}

/** Checks and waits that come before every tracked change of a node's data. Errors: EPERM on a read-only node, EBUSY (noWait). */
export async function prepareWrite(node: BlockNode, change: ChangeRequest): Promise<void> {
  const { request, offset, bytes, flags } = change;
  checkMayWrite(node, offset, bytes);
  if (flags & Req.serialising) node.requests.makeSerialising(request, copyUnit(node));
  if (node.requests.anySerialising) await node.requests.waitSerialising(request, (flags & Req.noWait) !== 0);
}

/** What comes right before a change that nobody is in the way of: throws EPERM on a read-only node, tells of the threshold. */
export function checkWritable(node: BlockNode, offset: number, bytes: number): void {
  checkMayWrite(node, offset, bytes);
  node.noteThreshold(offset + bytes);
}

function checkMayWrite(node: BlockNode, offset: number, bytes: number): void {
  if (node.readOnly) throw new BlockError({ code: "EPERM", op: "pwrite", node: node.name, offset, bytes });
}

/** What is changed; a discard leaves the length and the highest write as they are. */
interface Change extends ByteRange {
  readonly discard?: boolean;
}

/**
 * Does the part of a request that changes data, and the bookkeeping: bitmaps, growth, generation. A failed change may have
 * happened in part, so it counts as dirty too. What the image is to know before is told first.
 */
export function changing(node: BlockNode, range: Change, body: () => Answer<void>): Answer<void> {
  const wait = node.writeAhead?.cover(range.offset, range.bytes);
  if (wait) return wait.then(() => changing(node, range, body));
  let making: Answer<void>;
  try {
    making = body();
  } catch (error) {
    changed(node, range);
    throw error;
  }
  if (isPromise(making)) return changingAll(node, [range], making);
  grow(node, range);
  changed(node, range);
}

/** A write, of data or zeroes, that nobody is in the way of; with FUA it is durable when it is over. Throws EPERM on a read-only node. */
export function writing(node: BlockNode, write: Write, body: () => Answer<void>): Answer<void> {
  checkWritable(node, write.offset, write.bytes);
  const done = changing(node, write, body);
  // The change counts as one now, so that this flush is not taken for a needless one.
  return write.flags & Req.fua ? andThen(done, () => flush(node)) : done;
}

/** The bookkeeping around a change of several ranges that is under way. */
export async function changingAll(
  node: BlockNode,
  all: readonly Change[],
  work: Promise<void>,
): Promise<void> {
  try {
    await work;
    for (let index = 0; index < all.length; index++) grow(node, all[index]!);
  } finally {
    for (let index = 0; index < all.length; index++) changed(node, all[index]!);
  }
}

function grow(node: BlockNode, { offset, bytes, discard }: Change): void {
  if (!discard && offset + bytes > node.length) node.grew(offset + bytes);
}

function changed(node: BlockNode, range: Change): void {
  const end = range.offset + range.bytes;
  node.writeGeneration += 1;
  if (!range.discard && end > node.highestWrite) node.highestWrite = end;
  recordWrite(node, range.offset, range.bytes);
  tellOfChange(node);
}

/** Makes all completed writes durable, metadata included, down to the protocol. */
export async function flush(node: BlockNode): Promise<void> {
  checkOpen(node, "flush");
  if (node.readOnly) return;
  await inFlight(node, async () => {
    while (node.activeFlush) await node.activeFlush.catch(() => undefined);
    const active = flushOnce(node);
    node.activeFlush = active;
    try {
      await active;
    } finally {
      if (node.activeFlush === active) node.activeFlush = undefined;
    }
  });
}

/**
 * Whether anything can have been written through an edge since the last flush: it may be, or it was before its right to was given
 * back, which an emulator's flush does not look at. What is written to a backing file is written by somebody else.
 */
function mayHaveWritten({ perm, role, node }: Child): boolean {
  if (perm & (Perm.write | Perm.writeUnchanged)) return true;
  if (node.services.isForGuests) return false;
  return !(role & Role.cow) && node.writeGeneration !== node.flushedGeneration;
}

async function flushOnce(node: BlockNode): Promise<void> {
  const generation = node.writeGeneration;
  // Not while somebody is at the graph; what is drained is not written to.
  if (node.quiesceCounter === 0) await node.writeAhead?.settle();
  const below = node.primary?.node;
  await below?.debugEvent("flush_to_os");
  await node.driver.writeBack?.();
  if (!node.options.cacheNoFlush && node.flushedGeneration !== generation) {
    await below?.debugEvent("flush_to_disk");
    await node.driver.flush?.();
  }
  for (const child of [...node.children]) {
    if (!mayHaveWritten(child)) continue;
    if (node.driver.flushes?.(child) ?? true) await flush(child.node);
  }
  node.flushedGeneration = generation;
}
