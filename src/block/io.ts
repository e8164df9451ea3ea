/**
 * The request path of a node: range checks, padding to the driver's alignment (read-modify-write), serialisation of
 * overlaps, splitting by limits, zero detection, dirty bitmaps and growth. Everything that reads or writes a node goes
 * through here. Source: behaviour of QEMU's block/io.c.
 */
import { BlockError, blockError, isUnsupported } from "../base/errors.ts";
import { limits } from "../base/limits.ts";
import { type ByteRange, alignDown, alignUp } from "../base/ranges.ts";
import { copyOnRead } from "./copy-on-read.ts";
import { recordWrite } from "./dirty-bitmap.ts";
import { Req, type RequestFlags, type TruncateOptions } from "./driver.ts";
import type { BlockNode } from "./node.ts";
import { Perm } from "./permissions.ts";
import type { TrackedRequest } from "./request.ts";

/** Throws EIO unless 0 <= offset, 0 <= bytes and the end is a legal offset. */
export function checkRange(node: BlockNode, op: string, offset: number, bytes: number): void {
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
function checkOpen(node: BlockNode, op: string): void {
  if (!node.isOpen) throw blockError("ENOMEDIUM", op);
}

/** Runs `body` as one request in flight. */
export async function inFlight<T>(node: BlockNode, body: () => Promise<T>): Promise<T> {
  node.inFlight += 1;
  try {
    return await body();
  } finally {
    node.inFlight -= 1;
    if (node.inFlight === 0) node.graph.changes.wake();
  }
}

/** Fills `buffer` from `offset`; what lies beyond the end reads as zeroes. Errors: those of the driver. */
export async function pread(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags = 0,
): Promise<void> {
  checkOpen(node, "pread");
  checkRange(node, "pread", offset, buffer.byteLength);
  if (buffer.byteLength === 0 && !(flags & Req.prefetch)) return;
  const align = node.limits.requestAlignment;
  const end = offset + buffer.byteLength;
  await inFlight(node, async () => {
    if (offset % align === 0 && end % align === 0) return alignedRead(node, offset, buffer, flags);
    const start = alignDown(offset, align);
    const padded = new Uint8Array(alignUp(end, align) - start);
    await alignedRead(node, start, padded, flags);
    buffer.set(padded.subarray(offset - start, end - start));
  });
}

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
      node.requests.makeSerialising(request, copyOnReadUnit(node));
      await node.requests.waitSerialising(request);
      return await copyOnRead(node, offset, buffer, flags);
    }
    await node.requests.waitSerialising(request);
    await readWithinEnd(node, offset, buffer, flags);
  } finally {
    node.requests.end(request);
  }
}

function copyOnReadUnit(node: BlockNode): number {
  return Math.max(node.driver.getInfo?.().clusterSize ?? 0, node.limits.requestAlignment);
}

/** Reads, zero-filling beyond the end and splitting by maxTransfer. `offset` and length are aligned. */
export async function readWithinEnd(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const readable = Math.min(
    buffer.byteLength,
    Math.max(0, alignUp(node.length, node.limits.requestAlignment) - offset),
  );
  if (readable < buffer.byteLength) buffer.fill(0, readable);
  const chunk = node.limits.maxTransfer || readable;
  if (readable <= chunk) {
    if (readable > 0) await node.driver.pread(offset, buffer.subarray(0, readable), flags);
    return;
  }
  for (let done = 0; done < readable; done += chunk) {
    await node.driver.pread(offset + done, buffer.subarray(done, Math.min(done + chunk, readable)), flags);
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
  await inFlight(node, async () => {
    const request = node.requests.begin("write", offset, buffer.byteLength);
    try {
      if (aligned) await alignedWrite(node, request, offset, buffer, flags);
      else await paddedWrite(node, request, offset, buffer, flags);
    } finally {
      node.requests.end(request);
    }
  });
}

/** Read-modify-write of the blocks that the request covers only in part. */
async function paddedWrite(
  node: BlockNode,
  request: TrackedRequest,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const align = node.limits.requestAlignment;
  const start = alignDown(offset, align);
  const end = offset + buffer.byteLength;
  const padded = new Uint8Array(alignUp(end, align) - start);
  node.requests.makeSerialising(request, align);
  await node.requests.waitSerialising(request, (flags & Req.noWait) !== 0);
  const tail = padded.byteLength - align;
  if (offset !== start) await readWithinEnd(node, start, padded.subarray(0, align), 0);
  if (end % align !== 0 && (tail > 0 || offset === start))
    await readWithinEnd(node, start + tail, padded.subarray(tail), 0);
  padded.set(buffer, offset - start);
  await alignedWrite(node, request, start, padded, flags);
}

/** The last step of a write: `offset` and length are multiples of the request alignment. */
async function alignedWrite(
  node: BlockNode,
  request: TrackedRequest,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const bytes = buffer.byteLength;
  await prepareWrite(node, request, offset, bytes, flags);
  await changing(node, { offset, bytes }, async () => {
    if (
      node.options.detectZeroes !== "off" &&
      node.driver.pwriteZeroes &&
      node.graph.kernels.isZero(buffer)
    ) {
      const unmap =
        node.options.detectZeroes === "unmap" && node.options.discard === "unmap" ? Req.mayUnmap : 0;
      await writeZeroesOnce(node, offset, bytes, (flags & ~Req.compressed) | unmap);
    } else {
      await writeSplit(node, offset, buffer, flags);
    }
    if (flags & Req.fua) await flush(node);
  });
}

async function writeZeroesOnce(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Promise<void> {
  try {
    await node.driver.pwriteZeroes?.(offset, bytes, flags);
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    await writeSplit(node, offset, new Uint8Array(bytes), flags);
  }
}

async function writeSplit(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const { driver } = node;
  if (!driver.pwrite) throw blockError("ENOTSUP", "pwrite");
  const chunk = node.limits.maxTransfer;
  if (chunk === 0 || buffer.byteLength <= chunk) return driver.pwrite(offset, buffer, flags);
  for (let done = 0; done < buffer.byteLength; done += chunk) {
    await driver.pwrite(offset + done, buffer.subarray(done, done + chunk), flags);
  }
}

/** Checks and waits that come before every change of a node's data. */
export async function prepareWrite(
  node: BlockNode,
  request: TrackedRequest,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Promise<void> {
  if (node.readOnly) throw new BlockError({ code: "EPERM", op: "pwrite", node: node.name, offset, bytes });
  if (flags & Req.serialising) node.requests.makeSerialising(request, copyOnReadUnit(node));
  await node.requests.waitSerialising(request, (flags & Req.noWait) !== 0);
  const threshold = node.writeThreshold;
  if (threshold > 0 && offset + bytes > threshold) {
    node.writeThreshold = 0;
    node.graph.events.emit("BLOCK_WRITE_THRESHOLD", {
      "node-name": node.name,
      "amount-exceeded": offset + bytes - threshold,
      "write-threshold": threshold,
    });
  }
}

/**
 * Runs the part of a request that changes data, then does the bookkeeping: bitmaps, growth, generation. A failed change
 * may have happened in part, so it counts as dirty too.
 */
export async function changing(
  node: BlockNode,
  range: ByteRange & { discard?: boolean },
  body: () => Promise<void>,
): Promise<void> {
  const end = range.offset + range.bytes;
  try {
    await body();
    if (!range.discard && end > node.length) node.grew(end);
  } finally {
    node.writeGeneration += 1;
    if (!range.discard && end > node.highestWrite) node.highestWrite = end;
    recordWrite(node, range.offset, range.bytes);
  }
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
