/**
 * The driver's part of writing zeroes: an aligned range in pieces that the driver's limits allow, written out as data
 * where it has no fast way. Source: behaviour of QEMU's block/io.c.
 */
import { type Answer, andThen, repeat, rescue } from "../../base/answer.ts";
import { blockError, isUnsupported } from "../../base/errors.ts";
import { MiB } from "../../base/limits.ts";
import { alignDown } from "../../base/ranges.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { writeSplit } from "./request-path.ts";

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
