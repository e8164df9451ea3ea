/**
 * Read-modify-write: what a write that is not aligned leaves of the blocks at its ends is read first, while the request
 * keeps all that overlap out. A failed read fails the write: the alternative would be to write garbage beside it.
 * Source: behaviour of QEMU's block/io.c, its events of blkdebug included.
 */
import { assert } from "../../base/assert.ts";
import type { BlockNode } from "../model/node.ts";
import { readWithinEnd } from "./request-path.ts";

/** Which blocks of a padded buffer are covered only in part. */
export interface Padding {
  /** Offset of the buffer's first block, bytes. */
  start: number;
  head: boolean;
  tail: boolean;
}

/** Reads the first and the last block of `padded` as far as they are covered only in part. */
export async function readPadding(node: BlockNode, padded: Uint8Array, padding: Padding): Promise<void> {
  const align = node.limits.requestAlignment;
  const { start, head, tail } = padding;
  const lastAt = padded.byteLength - align;
  assert(start % align === 0 && lastAt % align === 0 && lastAt >= 0, "padding is whole blocks");
  const single = lastAt === 0;
  if (head || (single && tail)) {
    if (head) await node.debugEvent("pwritev_rmw_head");
    if (single && tail) await node.debugEvent("pwritev_rmw_tail");
    await readWithinEnd(node, start, padded.subarray(0, align), 0);
    if (head) await node.debugEvent("pwritev_rmw_after_head");
    if (single && tail) await node.debugEvent("pwritev_rmw_after_tail");
  }
  if (single || !tail) return;
  await node.debugEvent("pwritev_rmw_tail");
  await readWithinEnd(node, start + lastAt, padded.subarray(lastAt), 0);
  await node.debugEvent("pwritev_rmw_after_tail");
}

/**
 * Runs `body` with a buffer for padding: out of the arena if it has room now, so that it is aligned for direct I/O, else
 * from the heap, so that nobody waits. Its content is not defined.
 */
export async function withBounce<T>(
  node: BlockNode,
  bytes: number,
  body: (buffer: Uint8Array) => Promise<T>,
): Promise<T> {
  const { arena } = node.services;
  const slot = bytes <= arena.size ? arena.tryAcquire(bytes) : undefined;
  try {
    return await body(slot?.bytes ?? new Uint8Array(bytes));
  } finally {
    slot?.release();
  }
}
