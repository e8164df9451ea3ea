/** What this image holds of a range, and where: for block status, convert, and the jobs. */
import { type Answer, isPromise } from "../../../../base/answer.ts";
import type { BlockStatus } from "../../../../block/model/contract.ts";
import type { Image } from "../metadata/image.ts";
import { Kind } from "../disk/layout.ts";
import { type Extent, findExtent } from "../metadata/mapping.ts";

/** Status of [offset, offset + bytes), as far as it is the same; neighbouring slices are joined. `wantZero`: the file's holes count. */
export function statusAt(
  image: Image,
  offset: number,
  bytes: number,
  wantZero: boolean,
): Answer<BlockStatus> {
  const asked: Asked = { offset, bytes, wantZero };
  const first = findExtent(image, offset, bytes);
  return isPromise(first)
    ? first.then((found) => statusFrom(image, asked, { first: found, length: found.bytes }))
    : statusFrom(image, asked, { first, length: first.bytes });
}

interface Asked {
  readonly offset: number;
  readonly bytes: number;
  readonly wantZero: boolean;
}

/** The first extent, and how far those that are the same go on behind it. */
interface Same {
  readonly first: Extent;
  length: number;
}

function statusFrom(image: Image, asked: Asked, same: Same): Answer<BlockStatus> {
  while (same.length < asked.bytes) {
    const next = findExtent(image, asked.offset + same.length, asked.bytes - same.length);
    if (isPromise(next))
      return next.then((found) =>
        joins(same, found) ? statusFrom(image, asked, same) : told(image, asked, same),
      );
    if (!joins(same, next)) break;
  }
  return told(image, asked, same);
}

/** Adds an extent to those that are the same, if it is. */
function joins(same: Same, next: Extent): boolean {
  if (!continues(same.first, next, same.length)) return false;
  same.length += next.bytes;
  return true;
}

/** What is told of them: also whether the file below should be asked for holes. */
function told(image: Image, { wantZero }: Asked, { first, length }: Same): Answer<BlockStatus> {
  const status = describe(image, first, length);
  if (!wantZero || !status.map || first.kind !== Kind.normal) return status;
  const recurses = isPreallocated(image);
  return isPromise(recurses)
    ? recurses.then((known) => recursing(status, known))
    : recursing(status, recurses);
}

function recursing(status: BlockStatus, recurses: boolean): BlockStatus {
  if (recurses) status.recurse = true;
  return status;
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
  if (hasPlace(first.kind)) {
    status.map = { node: image.data.node, offset: first.host };
  }
  return status;
}

function isUnallocated(kind: Kind): boolean {
  return kind === Kind.unallocated || kind === Kind.reserved;
}

/** Whether clusters of the kind lie in the file: subclusters that are not in use, too, of a cluster that is. */
function hasPlace(kind: Kind): boolean {
  return kind === Kind.normal || kind === Kind.zeroAllocated || kind === Kind.reserved;
}

function continues(first: Extent, next: Extent, length: number): boolean {
  return next.kind === first.kind && (!hasPlace(first.kind) || next.host === first.host + length);
}

/** Whether the file is much emptier than the image says (preallocation=metadata): then it knows the holes. Found out once. */
function isPreallocated(image: Image): Answer<boolean> {
  return image.preallocated ?? findPreallocation(image);
}

async function findPreallocation(image: Image): Promise<boolean> {
  const onDisk = await image.file.node.driver.allocatedBytes?.();
  const { clusterSize } = image.geometry;
  const real = onDisk === undefined ? Infinity : onDisk / clusterSize;
  image.preallocated = image.file.length / clusterSize > Math.max((real * 10) / 9, real + 2);
  return image.preallocated;
}
