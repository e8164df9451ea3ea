/**
 * Writing zeroes and discarding: split by the driver's limits, with the unaligned edges written or left out.
 * Source: behaviour of QEMU's block/io.c.
 */
import { BlockError, isUnsupported } from "../../base/errors.ts";
import { alignDown, alignUp } from "../../base/ranges.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import { flush } from "./io.ts";
import type { BlockNode } from "../model/node.ts";
import { readPadding } from "./read-modify-write.ts";
import {
  changing,
  checkOpen,
  checkRange,
  inFlight,
  prepareWrite,
  withBounce,
  writeSplit,
} from "./request-path.ts";
import { pieceBytes, zeroAligned } from "./zero-pieces.ts";

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
  checkOpen(node, "pwriteZeroes");
  checkRange(node, "pwriteZeroes", offset, bytes);
  if (bytes === 0) return;
  const effective = node.options.discard === "unmap" ? flags : flags & ~Req.mayUnmap;
  const align = node.limits.requestAlignment;
  await inFlight(node, async () => {
    const request = node.requests.begin("write", offset, bytes);
    try {
      if (offset % align !== 0 || bytes % align !== 0) node.requests.makeSerialising(request, align);
      await prepareWrite(node, { request, offset, bytes, flags: effective });
      await changing(node, { offset, bytes }, () => zeroWithEdges(node, offset, bytes, effective));
      // The change counts as one now, so that this flush is not taken for a needless one.
      if (effective & Req.fua) await flush(node);
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
  if (start > stop) {
    await zeroEdge(node, { from: offset, to: end });
    return;
  }
  if (offset < start) await zeroEdge(node, { from: offset, to: start });
  if (start < stop) {
    await node.debugEvent("pwritev_zero");
    await zeroAligned(node, start, stop - start, flags);
    await node.debugEvent("pwritev_done");
  }
  if (stop < end) await zeroEdge(node, { from: stop, to: end });
}

/** Zeroes a part of one block. */
async function zeroEdge(node: BlockNode, { from, to }: { from: number; to: number }): Promise<void> {
  const align = node.limits.requestAlignment;
  const start = alignDown(from, align);
  await withBounce(node, align, async (block) => {
    await readPadding(node, block, { start, head: from !== start, tail: to % align !== 0 });
    block.fill(0, from - start, to - start);
    await node.debugEvent("pwritev");
    await writeSplit(node, start, block, 0);
    await node.debugEvent("pwritev_done");
  });
}

/**
 * Tells the driver that the range's content is not needed. A hint: a node without discard=unmap, or a driver without
 * discards, ignores it. Errors: EPERM on a read-only node, those of the driver except ENOTSUP.
 */
export async function pdiscard(node: BlockNode, offset: number, bytes: number): Promise<void> {
  checkOpen(node, "pdiscard");
  checkRange(node, "pdiscard", offset, bytes);
  if (node.readOnly) throw new BlockError({ code: "EPERM", op: "pdiscard", node: node.name, offset, bytes });
  if (bytes === 0 || node.options.discard !== "unmap" || !node.driver.pdiscard) return;
  await inFlight(node, async () => {
    const request = node.requests.begin("discard", offset, bytes);
    try {
      await prepareWrite(node, { request, offset, bytes, flags: 0 });
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
  const most = node.limits.maxPdiscard;
  const end = alignDown(offset + bytes, align);
  for (let at = alignUp(offset, align); at < end;) {
    const piece = pieceBytes(at, end - at, { unit, most });
    try {
      await node.driver.pdiscard?.(at, piece);
    } catch (error) {
      if (!isUnsupported(error)) throw error;
    }
    at += piece;
  }
}
