/** What this image holds of a range, and where: for block status, convert, and the jobs. */
import type { BlockStatus } from "../../../../block/model/contract.ts";
import type { Image } from "../metadata/image.ts";
import { Kind } from "../disk/layout.ts";
import { type Extent, extentAt, findExtent, isImpossible, peekSlice } from "../metadata/mapping.ts";

/** Status of [offset, offset + bytes), as far as it is the same; neighbouring slices are joined. */
export async function statusAt(image: Image, offset: number, bytes: number): Promise<BlockStatus> {
  const first = await findExtent(image, offset, bytes);
  let length = first.bytes;
  while (length < bytes) {
    const next = await findExtent(image, offset + length, bytes - length);
    if (!continues(first, next, length)) break;
    length += next.bytes;
  }
  const status = describe(image, first, length);
  if (status.map && first.kind === Kind.normal && (image.hasDataFile || (await isPreallocated(image))))
    status.recurse = true;
  return status;
}

/** As statusAt(), if all that it needs is in memory. */
export function statusNow(image: Image, offset: number, bytes: number): BlockStatus | undefined {
  const first = peekExtent(image, offset, bytes);
  if (!first) return undefined;
  let length = first.bytes;
  while (length < bytes) {
    const next = peekExtent(image, offset + length, bytes - length);
    if (!next) return undefined;
    if (!continues(first, next, length)) break;
    length += next.bytes;
  }
  const status = describe(image, first, length);
  // What is not known yet is better asked for, too.
  const recurses = image.hasDataFile || image.preallocated !== false;
  if (status.map && first.kind === Kind.normal && recurses) status.recurse = true;
  return status;
}

/** The extent at `offset`, if the way to it is in memory and it is a possible one. */
function peekExtent(image: Image, offset: number, bytes: number): Extent | undefined {
  const slice = peekSlice(image, offset);
  if (slice === undefined) return undefined;
  const extent = extentAt(image, slice, offset, bytes);
  return isImpossible(image, extent, offset) ? undefined : extent;
}

function describe(image: Image, first: Extent, bytes: number): BlockStatus {
  const status: BlockStatus = {
    bytes,
    data: first.kind === Kind.normal || first.kind === Kind.compressed,
    zero: first.kind === Kind.zeroPlain || first.kind === Kind.zeroAllocated,
    allocated: !isUnallocated(first.kind),
  };
  if (first.kind === Kind.compressed) status.compressed = true;
  // Of encrypted data the file holds something else.
  if (image.encryption || !image.hasData) return status;
  if (first.kind === Kind.normal || first.kind === Kind.zeroAllocated) {
    status.map = { node: image.data.node, offset: first.host };
  }
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
