/**
 * Copy on read: what a read takes from the backing chain is written into the node, so that the next read finds it
 * there. The request is serialising already. Source: behaviour of QEMU's block/io.c.
 */
import { errnoOf, isUnsupported } from "../../base/errors.ts";
import { KiB, MiB } from "../../base/limits.ts";
import { alignDown, alignUp } from "../../base/ranges.ts";
import { Req, type RequestFlags } from "../model/contract.ts";
import type { BlockNode } from "../model/node.ts";
import { withBounce } from "./read-modify-write.ts";
import { copyUnit, readWithinEnd, writeSplit } from "./request-path.ts";
import { isAllocated } from "./status.ts";

/** Most bytes that are read at once: into memory of the arena, and where that has none into other. */
const MAX_SLOT_BYTES = 4 * MiB;
const MAX_BOUNCE_BYTES = MiB;
/** Zeroes are looked for in parts of so many bytes, or a cluster. */
const ZERO_BYTES = 512 * KiB;

/** Reads the range and populates the node with whatever part of it is not allocated there. */
export async function copyOnRead(
  node: BlockNode,
  offset: number,
  buffer: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const end = Math.min(offset + buffer.byteLength, alignUp(node.length, node.limits.requestAlignment));
  if (end < offset + buffer.byteLength && !(flags & Req.prefetch)) buffer.fill(0, Math.max(0, end - offset));
  for (let at = offset; at < end;) {
    const status = await isAllocated(node, at, end - at);
    const part = buffer.subarray(at - offset, at - offset + status.bytes);
    if (status.allocated) {
      if (!(flags & Req.prefetch)) await readWithinEnd(node, at, part, flags & Req.background);
    } else {
      await populate(node, at, part, flags);
    }
    at += status.bytes;
  }
}

async function populate(
  node: BlockNode,
  offset: number,
  part: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  const cluster = copyUnit(node);
  const start = alignDown(offset, cluster);
  const stop = Math.min(
    alignUp(offset + part.byteLength, cluster),
    alignUp(node.length, node.limits.requestAlignment),
  );
  for (let at = start; at < stop;) {
    await withChunk(node, stop - at, async (chunk) => {
      await populateChunk(node, at, chunk, flags);
      if (!(flags & Req.prefetch)) copyOverlap(chunk, at, part, offset);
      at += chunk.byteLength;
    });
  }
}

/** Runs `body` with memory for a beginning of `bytes`. Whoever reads may hold memory of the arena already, and must not wait for more. */
async function withChunk(
  node: BlockNode,
  bytes: number,
  body: (chunk: Uint8Array) => Promise<void>,
): Promise<void> {
  const { arena } = node.services;
  const most = Math.min(bytes, MAX_SLOT_BYTES);
  const slot = most > MAX_BOUNCE_BYTES && most <= arena.size ? arena.tryAcquire(most) : undefined;
  if (!slot) return withBounce(node, Math.min(bytes, MAX_BOUNCE_BYTES), body);
  try {
    await body(slot.bytes);
  } finally {
    slot.release();
  }
}

async function populateChunk(
  node: BlockNode,
  offset: number,
  bytes: Uint8Array,
  flags: RequestFlags,
): Promise<void> {
  await readWithinEnd(node, offset, bytes, flags & Req.background);
  await node.debugEvent("cor_write");
  try {
    await writeCopy(node, offset, bytes);
  } catch (error) {
    // A guest has what it asked for; that there is no room for a copy is the concern of whoever wants one.
    if (flags & Req.prefetch || errnoOf(error) !== "ENOSPC") throw error;
  }
  node.writeGeneration += 1;
}

/** Writes what the backing chain holds. The content of the node does not change, so no bitmap is told. */
async function writeCopy(node: BlockNode, offset: number, bytes: Uint8Array): Promise<void> {
  const granule = Math.max(ZERO_BYTES, copyUnit(node));
  const runs = new Uint32Array(2 * (Math.ceil(bytes.byteLength / granule / 2) + 1));
  const count = node.driver.pwriteZeroes ? node.services.kernels.zeroRuns(bytes, granule, runs) : 0;
  let done = 0;
  for (let index = 0; index < 2 * count; index += 2) {
    const [from = 0, length = 0] = runs.subarray(index, index + 2);
    if (from > done) await writeSplit(node, offset + done, bytes.subarray(done, from), Req.writeUnchanged);
    done = from + length;
    await writeZeroes(node, offset + from, bytes.subarray(from, done));
  }
  if (done < bytes.byteLength)
    await writeSplit(node, offset + done, bytes.subarray(done), Req.writeUnchanged);
}

async function writeZeroes(node: BlockNode, offset: number, bytes: Uint8Array): Promise<void> {
  try {
    await node.driver.pwriteZeroes!(offset, bytes.byteLength, Req.writeUnchanged);
  } catch (error) {
    if (!isUnsupported(error)) throw error;
    await writeSplit(node, offset, bytes, Req.writeUnchanged);
  }
}

function copyOverlap(from: Uint8Array, fromOffset: number, to: Uint8Array, toOffset: number): void {
  const start = Math.max(fromOffset, toOffset);
  const end = Math.min(fromOffset + from.byteLength, toOffset + to.byteLength);
  if (start < end) to.set(from.subarray(start - fromOffset, end - fromOffset), start - toOffset);
}
