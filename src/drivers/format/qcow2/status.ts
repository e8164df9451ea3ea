/** What this image holds of a range, and where: for block status, convert, and the jobs. */
import type { BlockStatus } from "../../../block/driver.ts";
import type { Image } from "./image.ts";
import { Kind } from "./layout.ts";
import { type Extent, findExtent } from "./mapping.ts";

/** Status of [offset, offset + bytes), as far as it is the same; neighbouring slices are joined. */
export async function statusAt(image: Image, offset: number, bytes: number): Promise<BlockStatus> {
  const first = await findExtent(image, offset, bytes);
  let length = first.bytes;
  while (length < bytes) {
    const next = await findExtent(image, offset + length, bytes - length);
    if (!continues(first, next, length)) break;
    length += next.bytes;
  }
  const status: BlockStatus = {
    bytes: length,
    data: first.kind === Kind.normal || first.kind === Kind.compressed,
    zero: first.kind === Kind.zeroPlain || first.kind === Kind.zeroAllocated,
    allocated: !isUnallocated(first.kind),
  };
  if (first.kind === Kind.compressed) status.compressed = true;
  if (first.kind === Kind.normal || first.kind === Kind.zeroAllocated) {
    status.map = { node: image.data.node, offset: first.host };
  }
  if (first.kind === Kind.normal && (image.hasDataFile || (await isPreallocated(image))))
    status.recurse = true;
  return status;
}

function isUnallocated(kind: Kind): boolean {
  return kind === Kind.unallocated || kind === Kind.reserved;
}

function continues(first: Extent, next: Extent, length: number): boolean {
  if (isUnallocated(first.kind)) return isUnallocated(next.kind);
  if (next.kind !== first.kind) return false;
  if (first.kind === Kind.normal || first.kind === Kind.zeroAllocated)
    return next.host === first.host + length;
  return true;
}

/** Whether the file is much emptier than the image says (preallocation=metadata): then it knows the holes. */
async function isPreallocated(image: Image): Promise<boolean> {
  if (image.preallocated !== undefined) return image.preallocated;
  const onDisk = await image.file.node.driver.allocatedBytes?.();
  const { clusterSize } = image.geometry;
  const real = onDisk === undefined ? Infinity : onDisk / clusterSize;
  image.preallocated = image.file.length / clusterSize > Math.max((real * 10) / 9, real + 2);
  return image.preallocated;
}
