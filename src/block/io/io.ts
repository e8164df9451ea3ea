/**
 * The requests of a node: reads, writes, flushes and changes of length, with padding to the driver's alignment
 * (read-modify-write), serialisation of overlaps and zero detection. Writing zeroes and discarding are in zeroes.ts.
 * Source: behaviour of QEMU's block/io.c.
 */
import { type Answer, isPromise, rejected } from "../../base/answer.ts";
import { BlockError } from "../../base/errors.ts";
import { alignDown, alignUp, checkDiskLength, type TrackedRequest } from "../../base/ranges.ts";
import { copyOnRead } from "./copy-on-read.ts";
import { recordGrowth } from "../model/dirty-bitmap.ts";
import { tellOfChange } from "../model/drain.ts";
import { Req, type RequestFlags, type TruncateOptions } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { inFlight, leave } from "../model/in-flight.ts";
import { readPadding, withBounce } from "./read-modify-write.ts";
import {
  checkRequest,
  copyUnit,
  isPlain,
  prepareWrite,
  readWithinEnd,
  tracked,
  writeSplit,
  writing,
} from "./request-path.ts";
import { isAllocated } from "./status.ts";
import { zeroAligned } from "./zeroes.ts";

/** Fills `buffer` from `offset`; what lies beyond the end reads as zeroes. Errors: those of the driver. */
export function pread(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags = 0,
): Answer<void> {
  try {
    const bytes = buffer.byteLength;
    checkRequest(node, "pread", offset, bytes);
    if (bytes === 0) return undefined;
    const copies = flags & Req.copyOnRead && !holdsAll(node, { offset, buffer, flags });
    if (copies || !isPlain(node, offset, bytes)) return readInTurn(node, { offset, buffer, flags });
    const reading = readWithinEnd(node, offset, buffer, flags);
    return isPromise(reading) ? tracked(node, { kind: "read", offset, bytes }, reading) : undefined;
  } catch (error) {
    return rejected(error);
  }
}

/** Whether copy on read has nothing to copy, as far as that is known at once: what the node holds itself is copied by nobody. */
function holdsAll(node: BlockNode, { offset, buffer, flags }: DataRequest): boolean {
  const within = offset + buffer.byteLength <= node.length;
  if (!within || node.isFilter || flags & Req.prefetch) return false;
  const held = isAllocated(node, offset, buffer.byteLength);
  if (isPromise(held)) void held.catch(() => undefined);
  return !isPromise(held) && held.allocated && held.bytes >= buffer.byteLength;
}

/** A read that waits for others, is padded, or copies what it reads. */
async function readInTurn(node: BlockNode, read: DataRequest): Promise<void> {
  const { offset, buffer, flags } = read;
  const align = node.limits.requestAlignment;
  const start = alignDown(offset, align);
  const end = offset + buffer.byteLength;
  node.inFlight += 1;
  try {
    if (start === offset && end % align === 0) return await alignedRead(node, read);
    await withBounce(node, alignUp(end, align) - start, async (padded) => {
      await alignedRead(node, { offset: start, buffer: padded, flags });
      if (!(flags & Req.prefetch)) buffer.set(padded.subarray(offset - start, end - start));
    });
  } finally {
    leave(node);
  }
}

async function alignedRead(node: BlockNode, { offset, buffer, flags }: DataRequest): Promise<void> {
  const request = node.requests.begin("read", offset, buffer.byteLength);
  try {
    // A read that also writes keeps guest writes to the same clusters out until it is done.
    if (flags & Req.copyOnRead) node.requests.makeSerialising(request, copyUnit(node));
    if (node.requests.anySerialising) await node.requests.waitSerialising(request);
    await (flags & Req.copyOnRead ? copyOnRead : readWithinEnd)(node, offset, buffer, flags);
  } finally {
    node.requests.end(request);
  }
}

/** Writes `buffer` at `offset`. Errors: EPERM on a read-only node, those of the driver. */
export function pwrite(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags = 0,
): Answer<void> {
  try {
    const bytes = buffer.byteLength;
    checkRequest(node, "pwrite", offset, bytes);
    if (bytes === 0) return undefined;
    const write: DataRequest = { offset, buffer, flags };
    const plain = isPlain(node, offset, bytes) && !(flags & Req.serialising);
    if (!plain) return writeInTurn(node, write);
    const writing = change(node, write);
    return isPromise(writing) ? tracked(node, { kind: "write", offset, bytes }, writing) : undefined;
  } catch (error) {
    return rejected(error);
  }
}

interface DataRequest {
  readonly offset: number;
  readonly buffer: Uint8Array;
  readonly flags: RequestFlags;
}

/** A write that waits for others, is padded, or keeps others out. */
async function writeInTurn(node: BlockNode, write: DataRequest): Promise<void> {
  const { offset, buffer, flags } = write;
  const bytes = buffer.byteLength;
  const align = node.limits.requestAlignment;
  node.inFlight += 1;
  const request = node.requests.begin("write", offset, bytes);
  try {
    if (offset % align !== 0 || bytes % align !== 0) return await paddedWrite(node, request, write);
    await prepareWrite(node, { request, offset, bytes, flags });
    await change(node, write);
  } finally {
    node.requests.end(request);
    leave(node);
  }
}

/** Read-modify-write of the blocks that the request covers only in part. */
async function paddedWrite(node: BlockNode, request: TrackedRequest, write: DataRequest): Promise<void> {
  const { offset, buffer, flags } = write;
  const align = node.limits.requestAlignment;
  const start = alignDown(offset, align);
  const end = offset + buffer.byteLength;
  // All that the request will ever keep out, before it reads: a request at work can't be widened safely.
  node.requests.makeSerialising(request, flags & Req.serialising ? copyUnit(node) : align);
  await node.requests.waitSerialising(request, (flags & Req.noWait) !== 0);
  await withBounce(node, alignUp(end, align) - start, async (padded) => {
    await readPadding(node, padded, { start, head: offset !== start, tail: end % align !== 0 });
    padded.set(buffer, offset - start);
    await change(node, { offset: start, buffer: padded, flags });
  });
}

/** The last step of a write: `offset` and length are multiples of the request alignment, and nobody is in the way. */
function change(node: BlockNode, write: DataRequest): Answer<void> {
  const { offset, buffer, flags } = write;
  return writing(node, { offset, bytes: buffer.byteLength, flags }, () => writeAsWished(node, write));
}

/** Writes the buffer, or zeroes where they are to be detected. */
function writeAsWished(node: BlockNode, write: DataRequest): Answer<void> {
  const zero = node.options.detectZeroes !== "off" && isZeroWrite(node, write.buffer);
  if (zero || node.driver.debugEvent) return writeWithEvents(node, write, zero);
  return writeSplit(node, write.offset, write.buffer, write.flags);
}

function isZeroWrite(node: BlockNode, buffer: Uint8Array): boolean {
  return node.driver.pwriteZeroes !== undefined && node.services.kernels.isZero(buffer);
}

async function writeWithEvents(
  node: BlockNode,
  { offset, buffer, flags }: DataRequest,
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

/** Changes the node's length, bytes. Errors: EINVAL for a bad size, ENOTSUP where the driver can't. */
export async function truncate(node: BlockNode, size: number, options: TruncateOptions): Promise<void> {
  checkDiskLength(size, "truncate");
  checkRequest(node, "truncate", size, 0);
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
      const resize = async (): Promise<void> => {
        const grew = recordGrowth(node, old, grown);
        await truncateDriver(node, size, options);
        node.updateLength();
        node.writeGeneration += 1;
        tellOfChange(node);
        grew();
      };
      const range = { offset: Math.min(old, size), bytes: Math.abs(size - old) };
      await (node.writeAhead ? node.writeAhead.resizing(range, resize) : resize());
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
