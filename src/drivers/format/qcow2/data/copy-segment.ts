/**
 * Writing a segment that lies in a file of the host: the host copies it (Edge.copyRange()). All of it or nothing: what can't be
 * copied whole is for an ordinary write, which knows what is to be done about zeroes, and what to tell of errors.
 */
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

/** Has the host copy a segment. Rejects unless all of it was. */
export async function copySegment(
  image: Image,
  { guest, bytes, host, head, tail, fresh }: Segment,
  { offset, range, zeroes }: FileSource,
): Promise<void> {
  const part = { file: range.file, offset: range.offset + guest - offset, bytes };
  await image.checkDataOverlap(host, bytes);
  const isWhole = head === 0 && tail === 0;
  // A cluster of zeroes is not to be allocated; in a new one that holds something they need not be written.
  const unit = fresh ? image.geometry.clusterSize : 0;
  const rule = { granule: zeroes.granule, unit };
  const copied = isWhole ? await image.data.copyRange(host, part, rule) : undefined;
  if (copied !== bytes) throw blockError("ENOTSUP", "pwrite");
}
