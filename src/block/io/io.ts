/**
 * The requests of a node: reads, writes, flushes and changes of length, with padding to the driver's alignment
 * (read-modify-write), serialisation of overlaps and zero detection. Writing zeroes and discarding are in zeroes.ts.
 * Source: behaviour of QEMU's block/io.c.
 */
import { BlockError } from "../../base/errors.ts";
import { limits } from "../../base/limits.ts";
import { alignDown, alignUp } from "../../base/ranges.ts";
import { copyOnRead } from "./copy-on-read.ts";
import { recordWrite } from "../model/dirty-bitmap.ts";
import { Req, type RequestFlags, type TruncateOptions } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { Perm } from "../model/permissions.ts";
import { readPadding } from "./read-modify-write.ts";
import type { TrackedRequest } from "../model/request.ts";
import {
  changed,
  changing,
  checkOpen,
  checkRange,
  copyUnit,
  inFlight,
  leave,
  prepareWrite,
  readWithinEnd,
  withBounce,
  writeSplit,
} from "./request-path.ts";
import { zeroAligned } from "./zero-pieces.ts";

/** Fills `buffer` from `offset`; what lies beyond the end reads as zeroes. Errors: those of the driver. */
export async function pread(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags = 0,
): Promise<void> {
  checkOpen(node, "pread");
  checkRange(node, "pread", offset, buffer.byteLength);
  if (buffer.byteLength === 0) return;
  const align = node.limits.requestAlignment;
  node.inFlight += 1;
  try {
    const aligned = offset % align === 0 && buffer.byteLength % align === 0;
    await (aligned ? alignedRead : paddedRead)(node, offset, buffer, flags);
  } finally {
    leave(node);
  }
}

/** Reads the blocks that the request covers only in part as a whole. */
function paddedRead(node: BlockNode, offset: number, buffer: Uint8Array, flags: RequestFlags): Promise<void> {
  const align = node.limits.requestAlignment;
  const start = alignDown(offset, align);
  const end = offset + buffer.byteLength;
  return withBounce(node, alignUp(end, align) - start, async (padded) => {
    await alignedRead(node, start, padded, flags);
    if (!(flags & Req.prefetch)) buffer.set(padded.subarray(offset - start, end - start));
  });
}

/** Every read comes this way, so it waits no more often than it must: a read that is done at once costs a microsecond. */
async function alignedRead(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const request = node.requests.begin("read", offset, buffer.byteLength);
  try {
    if (flags & Req.copyOnRead) {
      // The read also writes: keep guest writes to the same clusters out until it is done.
      node.requests.makeSerialising(request, copyUnit(node));
      await node.requests.waitSerialising(request);
      await copyOnRead(node, offset, buffer, flags);
      return;
    }
    if (node.requests.anySerialising) await node.requests.waitSerialising(request);
    await readWithinEnd(node, offset, buffer, flags);
  } finally {
    node.requests.end(request);
  }
}

/** Writes `buffer` at `offset`. Errors: EPERM on a read-only node, those of the driver. */
export async function pwrite(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags = 0,
): Promise<void> {
  checkOpen(node, "pwrite");
  checkRange(node, "pwrite", offset, buffer.byteLength);
  if (buffer.byteLength === 0) return;
  const align = node.limits.requestAlignment;
  const aligned = offset % align === 0 && buffer.byteLength % align === 0;
  node.inFlight += 1;
  const request = node.requests.begin("write", offset, buffer.byteLength);
  try {
    await (aligned ? alignedWrite : paddedWrite)(node, { request, offset, buffer, flags });
  } finally {
    node.requests.end(request);
    leave(node);
  }
}

/** See Child.preadNow(). A request that is over when this returns needs no tracking; one that would have to wait can't be. */
export function preadNow(node: BlockNode, offset: number, buffer: Uint8Array): boolean {
  const within = offset + buffer.byteLength <= node.length;
  return within && fitsNow(node, offset, buffer) && (node.driver.preadNow?.(offset, buffer) ?? false);
}

/** See Child.pwriteNow(). */
export function pwriteNow(node: BlockNode, offset: number, buffer: Uint8Array): boolean {
  const { driver, options } = node;
  if (!driver.pwriteNow || !fitsNow(node, offset, buffer)) return false;
  if (node.readOnly || options.detectZeroes !== "off" || node.writeThreshold > 0) return false;
  const done = driver.pwriteNow(offset, buffer);
  const bytes = buffer.byteLength;
  if (done && offset + bytes > node.length) node.grew(offset + bytes);
  changed(node, { offset, bytes });
  return done;
}

/** Whether a request is plain: aligned, in one piece, and not in anybody's way. */
function fitsNow(node: BlockNode, offset: number, buffer: Uint8Array): boolean {
  const { byteLength } = buffer;
  const { requestAlignment, maxTransfer } = node.limits;
  return (
    node.isOpen &&
    offset >= 0 &&
    offset + byteLength <= limits.maxImageBytes &&
    offset % requestAlignment === 0 &&
    byteLength % requestAlignment === 0 &&
    (maxTransfer === 0 || byteLength <= maxTransfer) &&
    !node.requests.inTheWay(offset, byteLength) &&
    !node.driver.debugEvent
  );
}

interface DataWrite {
  request: TrackedRequest;
  offset: number;
  buffer: Uint8Array;
  flags: RequestFlags;
}

/** Read-modify-write of the blocks that the request covers only in part. */
async function paddedWrite(node: BlockNode, write: DataWrite): Promise<void> {
  const { request, offset, buffer, flags } = write;
  const align = node.limits.requestAlignment;
  const start = alignDown(offset, align);
  const end = offset + buffer.byteLength;
  // All that the request will ever keep out, before it reads: a request at work can't be widened safely.
  node.requests.makeSerialising(request, flags & Req.serialising ? copyUnit(node) : align);
  await node.requests.waitSerialising(request, (flags & Req.noWait) !== 0);
  await withBounce(node, alignUp(end, align) - start, async (padded) => {
    await readPadding(node, padded, { start, head: offset !== start, tail: end % align !== 0 });
    padded.set(buffer, offset - start);
    await alignedWrite(node, { request, offset: start, buffer: padded, flags });
  });
}

/** The last step of a write: `offset` and length are multiples of the request alignment. */
async function alignedWrite(node: BlockNode, write: DataWrite): Promise<void> {
  const { request, offset, buffer, flags } = write;
  const bytes = buffer.byteLength;
  const wait = prepareWrite(node, { request, offset, bytes, flags });
  if (wait) await wait;
  await changing(node, { offset, bytes }, () => writeAsWished(node, write));
  // The change counts as one now, so that this flush is not taken for a needless one.
  if (flags & Req.fua) await flush(node);
}

/** Writes the buffer, or zeroes where they are to be detected. Throws at once or rejects. */
function writeAsWished(node: BlockNode, write: DataWrite): Promise<void> {
  const zero = node.options.detectZeroes !== "off" && isZeroWrite(node, write.buffer);
  if (zero || node.driver.debugEvent) return writeWithEvents(node, write, zero);
  return writeSplit(node, write.offset, write.buffer, write.flags);
}

function isZeroWrite(node: BlockNode, buffer: Uint8Array): boolean {
  return node.driver.pwriteZeroes !== undefined && node.services.kernels.isZero(buffer);
}

async function writeWithEvents(
  node: BlockNode,
  { offset, buffer, flags }: DataWrite,
  zero: boolean,
): Promise<void> {
  if (zero) {
    const { detectZeroes, discard } = node.options;
    const unmap = detectZeroes === "unmap" && discard === "unmap" ? Req.mayUnmap : 0;
    await node.debugEvent("pwritev_zero");
    await zeroAligned(node, offset, buffer.byteLength, (flags & ~Req.compressed) | unmap);
  } else {
    if (!(flags & Req.compressed)) await node.debugEvent("pwritev");
    await writeSplit(node, offset, buffer, flags);
  }
  await node.debugEvent("pwritev_done");
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

async function flushOnce(node: BlockNode): Promise<void> {
  const generation = node.writeGeneration;
  const below = node.primary?.node;
  await below?.debugEvent("flush_to_os");
  await node.driver.writeBack?.();
  if (!node.options.cacheNoFlush && node.flushedGeneration !== generation) {
    await below?.debugEvent("flush_to_disk");
    await node.driver.flush?.();
  }
  for (const child of [...node.children]) {
    if (!(child.perm & (Perm.write | Perm.writeUnchanged))) continue;
    if (node.driver.flushes?.(child) ?? true) await flush(child.node);
  }
  node.flushedGeneration = generation;
}

/** Changes the node's length, bytes. Errors: EINVAL for a bad size, ENOTSUP where the driver can't. */
export async function truncate(node: BlockNode, size: number, options: TruncateOptions): Promise<void> {
  checkOpen(node, "truncate");
  checkRange(node, "truncate", size, 0);
  if (node.readOnly)
    throw new BlockError({ code: "EACCES", op: "truncate", node: node.name, message: "Image is read-only" });
  const old = node.length;
  await inFlight(node, async () => {
    const grown = Math.max(0, size - old);
    const request = node.requests.begin("truncate", size - grown, grown);
    try {
      if (grown > 0) {
        node.requests.makeSerialising(request, 1);
        await node.requests.waitSerialising(request);
      }
      await truncateDriver(node, size, options);
      node.updateLength();
      node.writeGeneration += 1;
      if (grown > 0) recordWrite(node, old, grown);
    } finally {
      node.requests.end(request);
    }
  });
}

async function truncateDriver(node: BlockNode, size: number, options: TruncateOptions): Promise<void> {
  const { driver } = node;
  if (driver.truncate) {
    const longerBacking =
      node.backing !== undefined && node.backing.length > node.length && size > node.length;
    return driver.truncate(size, longerBacking ? { ...options, zeroNew: true } : options);
  }
  if (node.filtered) return truncate(node.filtered.node, size, options);
  throw new BlockError({
    code: "ENOTSUP",
    op: "truncate",
    node: node.name,
    message: "Image format driver does not support resize",
  });
}
