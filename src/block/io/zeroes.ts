/**
 * Writing zeroes and discarding: in pieces that the driver's limits allow, with the unaligned edges written or left out, zeroes
 * as data where the driver has no fast way. Source: behaviour of QEMU's block/io.c.
 */
import { assert } from "../../base/assert.ts";
import { type Answer, andThen, isPromise, rejected, repeat, rescue } from "../../base/answer.ts";
import { BlockError, isUnsupported, blockError } from "../../base/errors.ts";
import { type ByteRange, alignDown, alignUp } from "../../base/ranges.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { inFlight } from "../model/in-flight.ts";
import { readPadding, withBounce } from "./read-modify-write.ts";
import {
  changing,
  checkRequest,
  checkWritable,
  isPlain,
  prepareWrite,
  tracked,
  writeSplit,
  writing,
} from "./request-path.ts";
import { MiB } from "../../base/limits.ts";

const MAX_ZERO_BUFFER = MiB;
/** Largest request that a driver gets, bytes. */
export const MAX_REQUEST = 2 ** 31 - 4096;
let zeroBuffer: Uint8Array | undefined;

/** A buffer of zeroes that nobody may write to, at most 1 MiB. */
function zeroes(bytes: number): Uint8Array {
  zeroBuffer ??= new Uint8Array(MAX_ZERO_BUFFER);
  return zeroBuffer.subarray(0, bytes);
}

/**
 * The next piece of `left` bytes at `at`: what lies outside of whole units goes in a piece of its own, the rest in
 * pieces of whole units, at most `most` (0: no limit) bytes.
 */
export function pieceBytes(at: number, left: number, { unit, most }: { unit: number; most: number }): number {
  assert(left > 0 && unit > 0, "a piece of something");
  const limit = Math.max(unit, alignDown(Math.min(most || MAX_REQUEST, MAX_REQUEST), unit));
  if (at % unit !== 0) return Math.min(left, unit - (at % unit), limit);
  if (left > unit && left % unit !== 0) return Math.min(alignDown(left, unit), limit);
  return Math.min(left, limit);
}

/** Zeroes a range whose offset and length are multiples of the request alignment. With noFallback: ENOTSUP if it is slow. */
export function zeroAligned(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags,
): Answer<void> {
  const unit = Math.max(node.limits.pwriteZeroesAlignment, node.limits.requestAlignment);
  const most = node.limits.maxPwriteZeroes;
  let done = 0;
  return repeat(() => {
    const piece = pieceBytes(offset + done, bytes - done, { unit, most });
    const zeroed = zeroPiece(node, offset + done, piece, flags);
    done += piece;
    return andThen(zeroed, () => done < bytes);
  });
}

function zeroPiece(node: BlockNode, offset: number, bytes: number, flags: RequestFlags): Answer<void> {
  const { driver } = node;
  if (!driver.pwriteZeroes) return writeOut(node, offset, bytes, flags);
  return rescue(
    () => driver.pwriteZeroes!(offset, bytes, flags),
    (error) => {
      if (!isUnsupported(error)) throw error;
      return writeOut(node, offset, bytes, flags);
    },
  );
}

/** Writes zeroes as data. */
function writeOut(node: BlockNode, offset: number, bytes: number, flags: RequestFlags): Answer<void> {
  if (flags & Req.noFallback) throw blockError("ENOTSUP", "pwriteZeroes");
  let done = 0;
  return repeat(() => {
    const buffer = zeroes(Math.min(MAX_ZERO_BUFFER, bytes - done));
    const written = writeSplit(node, offset + done, buffer, flags & Req.writeUnchanged);
    done += buffer.byteLength;
    return andThen(written, () => done < bytes);
  });
}

/**
 * Makes the range read as zeroes. Without mayUnmap it stays allocated. With noFallback: ENOTSUP where the driver has no
 * fast way. Errors: EPERM on a read-only node, those of the driver.
 */
export function pwriteZeroes(
  node: BlockNode,
  offset: number,
  bytes: number,
  flags: RequestFlags = 0,
): Answer<void> {
  try {
    checkRequest(node, "pwriteZeroes", offset, bytes);
    if (bytes === 0) return undefined;
    const zeroing = { offset, bytes, flags };
    const plain = isPlain(node, offset, bytes) && !(flags & Req.serialising);
    if (!plain) return zeroInTurn(node, zeroing);
    const writing = change(node, zeroing);
    return isPromise(writing) ? tracked(node, { kind: "write", offset, bytes }, writing) : undefined;
  } catch (error) {
    return rejected(error);
  }
}

interface Zeroing extends ByteRange {
  readonly flags: RequestFlags;
}

/** A zero write that waits for others, covers blocks only in part, or keeps others out. */
async function zeroInTurn(node: BlockNode, zeroing: Zeroing): Promise<void> {
  const { offset, bytes } = zeroing;
  const align = node.limits.requestAlignment;
  await inFlight(node, async () => {
    const request = node.requests.begin("write", offset, bytes);
    try {
      if (offset % align !== 0 || bytes % align !== 0) node.requests.makeSerialising(request, align);
      await prepareWrite(node, { request, ...zeroing });
      await change(node, zeroing);
    } finally {
      node.requests.end(request);
    }
  });
}

function change(node: BlockNode, { offset, bytes, flags }: Zeroing): Answer<void> {
  const align = node.limits.requestAlignment;
  const aligned = offset % align === 0 && bytes % align === 0;
  return writing(node, { offset, bytes, flags }, () =>
    aligned ? zeroWhole(node, offset, bytes, flags) : zeroWithEdges(node, { offset, bytes, flags }),
  );
}

async function zeroWithEdges(node: BlockNode, { offset, bytes, flags }: Zeroing): Promise<void> {
  const align = node.limits.requestAlignment;
  const end = offset + bytes;
  const start = alignUp(offset, align);
  const stop = alignDown(end, align);
  if (start > stop) {
    await zeroEdge(node, { from: offset, to: end });
    return;
  }
  if (offset < start) await zeroEdge(node, { from: offset, to: start });
  if (start < stop) await zeroWhole(node, start, stop - start, flags);
  if (stop < end) await zeroEdge(node, { from: stop, to: end });
}

/** Zeroes whole blocks. */
function zeroWhole(node: BlockNode, offset: number, bytes: number, flags: RequestFlags): Answer<void> {
  const zeroed = andThen(node.debugEvent("pwritev_zero"), () => zeroAligned(node, offset, bytes, flags));
  return andThen(zeroed, () => node.debugEvent("pwritev_done"));
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
export function pdiscard(node: BlockNode, offset: number, bytes: number): Answer<void> {
  try {
    checkRequest(node, "pdiscard", offset, bytes);
    if (node.readOnly)
      throw new BlockError({ code: "EPERM", op: "pdiscard", node: node.name, offset, bytes });
    if (bytes === 0 || node.options.discard !== "unmap" || !node.driver.pdiscard) return undefined;
    if (node.requests.inTheWay(offset, bytes)) return discardInTurn(node, { offset, bytes });
    const discarding = discard(node, { offset, bytes });
    return isPromise(discarding) ? tracked(node, { kind: "discard", offset, bytes }, discarding) : undefined;
  } catch (error) {
    return rejected(error);
  }
}

/** A discard that waits for others. */
async function discardInTurn(node: BlockNode, range: ByteRange): Promise<void> {
  await inFlight(node, async () => {
    const request = node.requests.begin("discard", range.offset, range.bytes);
    try {
      await prepareWrite(node, { request, ...range, flags: 0 });
      await discard(node, range);
    } finally {
      node.requests.end(request);
    }
  });
}

function discard(node: BlockNode, { offset, bytes }: ByteRange): Answer<void> {
  checkWritable(node, offset, bytes);
  return changing(node, { offset, bytes, discard: true }, () => discardAligned(node, offset, bytes));
}

/** Each piece lies within one discard unit or covers whole ones, so that the driver can drop the partial ones. */
function discardAligned(node: BlockNode, offset: number, bytes: number): Answer<void> {
  const align = node.limits.requestAlignment;
  const unit = Math.max(node.limits.pdiscardAlignment, align);
  const most = node.limits.maxPdiscard;
  const end = alignDown(offset + bytes, align);
  let at = alignUp(offset, align);
  return repeat(() => {
    if (at >= end) return false;
    const piece = pieceBytes(at, end - at, { unit, most });
    const done = rescue(
      () => node.driver.pdiscard?.(at, piece),
      (error) => {
        if (!isUnsupported(error)) throw error;
      },
    );
    at += piece;
    return andThen(done, () => true);
  });
}
