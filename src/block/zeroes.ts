/**
 * Writing zeroes and discarding: split by the driver's limits, with the unaligned edges written or left out.
 * Source: behaviour of QEMU's block/io.c.
 */
import { BlockError, blockError, isUnsupported } from "../base/errors.ts";
import { alignDown, alignUp } from "../base/ranges.ts";
import { Req, type RequestFlags } from "./driver.ts";
import { changing, checkRange, flush, inFlight, prepareWrite, readWithinEnd } from "./io.ts";
import type { BlockNode } from "./node.ts";

const MAX_ZERO_BUFFER = 1 << 20;
const MAX_REQUEST = 2 ** 31 - 4096;
let zeroBuffer: Uint8Array | undefined;

/** A buffer of zeroes that nobody may write to, at most 1 MiB. */
function zeroes(bytes: number): Uint8Array {
  zeroBuffer ??= new Uint8Array(MAX_ZERO_BUFFER);
  return zeroBuffer.subarray(0, bytes);
}

/**
 * Makes the range read as zeroes. Without mayUnmap it stays allocated. With noFallback: ENOTSUP where the driver has no
 * fast way. Errors: EPERM on a read-only node, those of the driver.
 */
export async function pwriteZeroes(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags = 0,
): Promise<void> {
  if (!node.isOpen) throw blockError("ENOMEDIUM", "pwriteZeroes");
  checkRange(node, "pwriteZeroes", offset, bytes);
  if (bytes === 0) return;
  const effective = node.options.discard === "unmap" ? flags : flags & ~Req.mayUnmap;
  const align = node.limits.requestAlignment;
  await inFlight(node, async () => {
    const request = node.requests.begin("write", offset, bytes);
    try {
      if (offset % align !== 0 || bytes % align !== 0) {
        node.requests.makeSerialising(request, align);
        await node.requests.waitSerialising(request);
      }
      await prepareWrite(node, request, offset, bytes, effective);
      await changing(node, { offset, bytes }, async () => {
        await zeroWithEdges(node, offset, bytes, effective);
        if (effective & Req.fua) await flush(node);
      });
    } finally {
      node.requests.end(request);
    }
  });
}

async function zeroWithEdges(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Promise<void> {
  const align = node.limits.requestAlignment;
  const end = offset + bytes;
  const start = alignUp(offset, align);
  const stop = alignDown(end, align);
  if (
    start > stop ||
    (start === stop && offset % align !== 0 && end % align !== 0 && alignDown(offset, align) === stop)
  ) {
    return zeroEdge(node, alignDown(offset, align), offset, end);
  }
  if (offset < start) await zeroEdge(node, start - align, offset, start);
  if (start < stop) await zeroAligned(node, start, stop - start, flags);
  if (stop < end) await zeroEdge(node, stop, stop, end);
}

async function zeroEdge(node: BlockNode, block: number, from: number, to: number): Promise<void> {
  const padded = new Uint8Array(node.limits.requestAlignment);
  await readWithinEnd(node, block, padded, 0);
  padded.fill(0, from - block, to - block);
  await writeData(node, block, padded, 0);
}

/** Zeroes an aligned range piece by piece: heads and tails outside the zero alignment go in pieces of their own. */
async function zeroAligned(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Promise<void> {
  const unit = Math.max(node.limits.pwriteZeroesAlignment, node.limits.requestAlignment);
  const most = alignDown(Math.min(node.limits.maxPwriteZeroes || MAX_REQUEST, MAX_REQUEST), unit);
  const end = offset + bytes;
  for (let at = offset; at < end;) {
    let piece = end - at;
    if (at % unit !== 0) piece = Math.min(piece, unit - (at % unit));
    else if (piece > unit && piece % unit !== 0) piece = Math.min(alignDown(piece, unit), most);
    piece = Math.min(piece, most);
    await zeroPiece(node, at, piece, flags);
    at += piece;
  }
}

async function zeroPiece(node: BlockNode, offset: number, bytes: number, flags: RequestFlags): Promise<void> {
  if (node.driver.pwriteZeroes) {
    try {
      return await node.driver.pwriteZeroes(offset, bytes, flags);
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    }
  }
  if (flags & Req.noFallback) throw blockError("ENOTSUP", "pwriteZeroes");
  const chunk = Math.min(MAX_ZERO_BUFFER, node.limits.maxTransfer || MAX_ZERO_BUFFER);
  for (let done = 0; done < bytes; done += chunk) {
    await writeData(node, offset + done, zeroes(Math.min(chunk, bytes - done)), flags & Req.writeUnchanged);
  }
}

async function writeData(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  if (!node.driver.pwrite) throw blockError("ENOTSUP", "pwrite");
  await node.driver.pwrite(offset, buffer, flags);
}

/**
 * Tells the driver that the range's content is not needed. A hint: a node without discard=unmap, or a driver without
 * discards, ignores it. Errors: EPERM on a read-only node, those of the driver except ENOTSUP.
 */
export async function pdiscard(node: BlockNode, offset: number, bytes: number): Promise<void> {
  if (!node.isOpen) throw blockError("ENOMEDIUM", "pdiscard");
  checkRange(node, "pdiscard", offset, bytes);
  if (node.readOnly) throw new BlockError({ code: "EPERM", op: "pdiscard", node: node.name, offset, bytes });
  if (bytes === 0 || node.options.discard !== "unmap" || !node.driver.pdiscard) return;
  await inFlight(node, async () => {
    const request = node.requests.begin("discard", offset, bytes);
    try {
      await prepareWrite(node, request, offset, bytes, 0);
      await changing(node, { offset, bytes, discard: true }, () => discardAligned(node, offset, bytes));
    } finally {
      node.requests.end(request);
    }
  });
}

/** Each piece lies within one discard unit or covers whole ones, so that the driver can drop the partial ones. */
async function discardAligned(node: BlockNode, offset: number, bytes: number): Promise<void> {
  const align = node.limits.requestAlignment;
  const unit = Math.max(node.limits.pdiscardAlignment, align);
  const most = alignDown(Math.min(node.limits.maxPdiscard || MAX_REQUEST, MAX_REQUEST), unit);
  const start = alignUp(offset, align);
  const end = alignDown(offset + bytes, align);
  for (let at = start; at < end;) {
    let piece = end - at;
    if (at % unit !== 0) piece = Math.min(piece, unit - (at % unit));
    else if (piece > unit && piece % unit !== 0) piece = alignDown(piece, unit);
    piece = Math.min(piece, most);
    try {
      await node.driver.pdiscard?.(at, piece);
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    }
    at += piece;
  }
}
