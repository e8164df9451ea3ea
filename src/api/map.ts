/**
 * The map of a disk: which ranges are data, which read as zeroes, and which layer of the backing chain decides.
 */
import { SECTOR_SIZE } from "../base/limits.ts";
import { skipFilters } from "../block/model/chain.ts";
import type { BlockNode } from "../block/model/node.ts";
import { ownFilename } from "../block/model/filename.ts";
import { blockStatus, blockStatusAbove } from "../block/io/status.ts";
import { checkNodes, optionsOf, rangeOptions } from "./options.ts";

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

/** Throws CommandError for a range that is none. */
export const checkMapRange = optionsOf<MapRange>(rangeOptions);

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

/** One entry of imageMap(): as MapExtent, in the words of `qemu-img map`. */
export interface ImageMapEntry extends MapExtent {
  /** Where the bytes lie in `file`, if they lie there as they are read. */
  fileOffset?: number;
  /** Name of the file that holds them; empty for what is no file. */
  file?: string;
  /** Stored compressed, as QEMU tells since 8.2. */
  compressed: boolean;
}

/**
 * The map of an image as `qemu-img map` draws it: which layer of the chain decides each range, and where its bytes lie.
 * Neighbours are joined where they also lie next to each other. The length counts in sectors of 512 bytes. Rejects with
 * BlockError when metadata can't be read.
 */
export function imageMap(
  node: { readonly blockNode: BlockNode },
  range: MapRange = {},
): AsyncGenerator<ImageMapEntry> {
  checkMapRange(range);
  checkNodes({ node });
  return mapEntries(node, range);
}

async function* mapEntries(
  node: { readonly blockNode: BlockNode },
  range: MapRange,
): AsyncGenerator<ImageMapEntry> {
  const { blockNode } = node;
  const start = range.offset ?? 0;
  const sectors = Math.ceil(blockNode.length / SECTOR_SIZE) * SECTOR_SIZE;
  const end = Math.min(sectors, start + (range.length ?? sectors));
  let joined: ImageMapEntry | undefined;
  for (let at = start; at < end;) {
    range.signal?.throwIfAborted();
    const entry = await entryAt(blockNode, at, end - at);
    at += entry.bytes;
    if (joined && isContinued(joined, entry)) joined.bytes += entry.bytes;
    else {
      if (joined) yield joined;
      joined = entry;
    }
  }
  if (joined) yield joined;
}

async function entryAt(top: BlockNode, offset: number, bytes: number): Promise<ImageMapEntry> {
  let reach = bytes;
  let depth = 0;
  for (let node = skipFilters(top); ; depth++) {
    const left = node.length - offset;
    const status = await blockStatus(node, offset, Math.max(1, Math.min(reach, left)));
    // The last sector belongs to the disk as a whole.
    const atEnd = left > 0 && status.bytes === left && left % SECTOR_SIZE !== 0;
    reach = Math.min(
      reach,
      atEnd ? Math.ceil((offset + left) / SECTOR_SIZE) * SECTOR_SIZE - offset : status.bytes,
    );
    const below = status.zero || status.data ? undefined : node.backing;
    if (below) {
      node = skipFilters(below.node);
      continue;
    }
    const decided = status.zero || status.data;
    const entry = {
      offset,
      bytes: reach,
      data: status.data,
      zero: status.zero,
      present: decided && status.allocated,
      depth,
      compressed: decided && (status.compressed ?? false),
    };
    if (!decided || !status.map) return entry;
    return { ...entry, fileOffset: status.map.offset, file: ownFilename(status.map.node as BlockNode) };
  }
}

function isContinued(a: ImageMapEntry, b: ImageMapEntry): boolean {
  if (!alike(a, b) || a.file !== b.file || a.compressed !== b.compressed) return false;
  return a.fileOffset === undefined ? b.fileOffset === undefined : a.fileOffset + a.bytes === b.fileOffset;
}
