/**
 * The map of a disk: which ranges are data, which read as zeroes, and which layer of the backing chain decides.
 */
import type { BlockNode } from "../block/node.ts";
import { blockStatusAbove } from "../block/status.ts";

/** One run of bytes of a disk that are all alike. */
export interface MapExtent {
  /** Bytes from the start of the disk. */
  offset: number;
  bytes: number;
  /** Holds data that must be read to be known. */
  data: boolean;
  /** Reads as zeroes. */
  zero: boolean;
  /** Some layer of the chain holds it; else it reads as zeroes because nobody does. */
  present: boolean;
  /** The layer that decides: 0 = the disk's own image, 1 = its backing file … Without one: the lowest. */
  depth: number;
}

/** A range to look at, bytes. */
export interface MapRange {
  /** Default 0. */
  offset?: number;
  /** Default: up to the end. */
  length?: number;
  signal?: AbortSignal;
}

/** What lies at `offset`: one extent of 1 … `bytes` bytes, not joined with its neighbours. */
export async function extentAt(node: BlockNode, offset: number, bytes: number): Promise<MapExtent> {
  const status = await blockStatusAbove(node, offset, bytes);
  return {
    offset,
    bytes: status.bytes,
    data: status.data,
    zero: status.zero,
    present: status.allocated,
    depth: Math.max(status.depth - 1, 0),
  };
}

/** All extents of a range in order, neighbours joined. Cost follows the number of extents and not the size. */
export async function* mapExtents(node: BlockNode, range: MapRange = {}): AsyncGenerator<MapExtent> {
  const start = range.offset ?? 0;
  const end = Math.min(node.length, start + (range.length ?? node.length));
  let joined: MapExtent | undefined;
  for (let at = start; at < end;) {
    range.signal?.throwIfAborted();
    const extent = await extentAt(node, at, end - at);
    at += extent.bytes;
    if (joined && alike(joined, extent)) joined.bytes += extent.bytes;
    else {
      if (joined) yield joined;
      joined = extent;
    }
  }
  if (joined) yield joined;
}

function alike(a: MapExtent, b: MapExtent): boolean {
  return a.data === b.data && a.zero === b.zero && a.present === b.present && a.depth === b.depth;
}
