/**
 * Writing a segment that lies in a file of the host: the host copies it (Edge.copyRange()). All of it or nothing: what can't be
 * copied whole is for an ordinary write, which knows what is to be done about zeroes, and what to tell of errors.
 */
import { assert } from "../../../../base/assert.ts";
import { blockError } from "../../../../base/errors.ts";
import type { FileRange } from "../../../../base/host.ts";
import type { FileZeroes } from "../../../../base/ranges.ts";
import type { Image } from "../metadata/image.ts";
import type { Segment } from "./plan.ts";

/** What is written, from the guest offset on. */
export interface FileSource {
  readonly offset: number;
  readonly range: FileRange;
  readonly zeroes: FileZeroes;
}

/** Whether whole clusters can be written so. */
export function copiesRanges(image: Image, { offset, range }: FileSource): boolean {
  const { clusterSize } = image.geometry;
  if (image.encryption || offset % clusterSize !== 0 || range.bytes % clusterSize !== 0) return false;
  return image.data.node.driver.copyRange !== undefined && !image.file.node.driver.debugEvent;
}

/** A part of a range; undefined where it begins within a stream. */
function partOf({ file, offset, streams }: FileRange, from: number, bytes: number): FileRange | undefined {
  assert(from >= 0, "parts within their whole");
  if (!streams) return { file, offset: offset + from, bytes };
  const { unit, places } = streams;
  if (from % unit !== 0) return undefined;
  const [first, end] = [from / unit, Math.ceil((from + bytes) / unit)];
  return { file, offset, bytes, streams: { ...streams, places: places.subarray(2 * first, 2 * end) } };
}

/** Has the host copy a segment. Rejects unless all of it was. */
export async function copySegment(
  image: Image,
  { guest, bytes, host, head, tail, fresh }: Segment,
  { offset, range, zeroes }: FileSource,
): Promise<void> {
  const part = head === 0 && tail === 0 ? partOf(range, guest - offset, bytes) : undefined;
  await image.checkDataOverlap(host, bytes);
  // A cluster of zeroes is not to be allocated; in a new one that holds something they need not be written.
  const unit = fresh ? image.geometry.clusterSize : 0;
  const rule = { granule: zeroes.granule, unit };
  const copied = part && (await image.data.copyRange(host, part, rule));
  if (copied !== bytes) throw blockError("ENOTSUP", "pwrite");
}
