/**
 * Writing segments that lie in files of the host: the host copies them (Edge.copyRanges()). Each all of it or not: what can't be
 * copied whole is for an ordinary write, which knows what is to be done about zeroes, and what to tell of errors.
 */
import { assert, AssertionError } from "../../../../base/assert.ts";
import type { FilePart, FileRange } from "../../../../base/host.ts";
import type { FileZeroes } from "../../../../base/ranges.ts";
import type { Image } from "../metadata/image.ts";
import type { Segment } from "./plan.ts";

/** What is written: parts of the disk, the lowest first. */
export interface FileSource {
  readonly parts: readonly FilePart[];
  readonly zeroes: FileZeroes;
  /** Bytes written of each part, once that is known. */
  counts: readonly number[];
}

/** Whether whole clusters can be written so. */
export function copiesRanges(image: Image, parts: readonly FilePart[]): boolean {
  const { clusterSize } = image.geometry;
  if (image.encryption || image.data.node.driver.copyRanges === undefined) return false;
  const isWhole = ({ offset, source }: FilePart): boolean =>
    offset % clusterSize === 0 && source.bytes % clusterSize === 0;
  return parts.every(isWhole) && !image.file.node.driver.debugEvent;
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

/** Segments that are copied by the same rule. */
interface Batch {
  readonly indices: number[];
  readonly parts: FilePart[];
}

/** Has the host copy the segments of a source, the lowest first. Answers which were copied whole, and notes it of the parts. */
export async function copySegments(
  image: Image,
  segments: readonly Segment[],
  source: FileSource,
): Promise<readonly boolean[]> {
  const batches = batchesOf(segments, source);
  const isCopied = segments.map(() => false);
  await Promise.all(
    [true, false].map(async (fresh) => {
      const { parts, indices } = batches[fresh ? "fresh" : "used"];
      const counts = await copyBatch(image, parts, { source, fresh });
      for (const [at, index] of indices.entries()) isCopied[index] = counts[at] === segments[index]!.bytes;
    }),
  );
  source.counts = countsOf(segments, source, isCopied);
  return isCopied;
}

function batchesOf(segments: readonly Segment[], { parts }: FileSource): Record<"fresh" | "used", Batch> {
  const batches = { fresh: { indices: [], parts: [] }, used: { indices: [], parts: [] } } as Record<
    "fresh" | "used",
    Batch
  >;
  let at = 0;
  for (const [index, { guest, bytes, host, head, tail, fresh }] of segments.entries()) {
    at = partAt(parts, at, guest);
    const { offset, source } = parts[at]!;
    const range = head === 0 && tail === 0 ? partOf(source, guest - offset, bytes) : undefined;
    if (!range) continue;
    const { indices, parts: list } = batches[fresh ? "fresh" : "used"];
    indices.push(index);
    list.push({ offset: host, source: range });
  }
  return batches;
}

/** Which part, from the one at `at` on, a byte lies in. */
function partAt(parts: readonly FilePart[], at: number, guest: number): number {
  let found = at;
  while (guest >= parts[found]!.offset + parts[found]!.source.bytes) found += 1;
  assert(guest >= parts[found]!.offset, "a segment lies outside of what is copied");
  return found;
}

/** What was copied of each part, bytes; nothing where the host can't. */
async function copyBatch(
  image: Image,
  parts: readonly FilePart[],
  { source, fresh }: { source: FileSource; fresh: boolean },
): Promise<readonly number[]> {
  if (parts.length === 0) return [];
  try {
    for (const { offset, source: range } of parts) {
      const refusal = image.checkDataOverlap(offset, range.bytes);
      if (refusal) await refusal;
    }
    // A cluster of zeroes is not to be allocated; in a new one that holds something they need not be written.
    const unit = fresh ? image.geometry.clusterSize : 0;
    const rule = { ...source.zeroes, unit };
    const isStreams = parts[0]!.source.streams !== undefined;
    if (!isStreams || parts.length === 1) return (await image.data.copyRanges(parts, rule)) ?? [];
    const one = async (part: FilePart): Promise<number> =>
      (await image.data.copyRanges([part], rule))?.[0] ?? 0;
    return await Promise.all(parts.map(one));
  } catch (error) {
    if (error instanceof AssertionError) throw error;
    return [];
  }
}

/** All of a part whose segments were copied, else nothing of it. */
function countsOf(
  segments: readonly Segment[],
  { parts }: FileSource,
  isCopied: readonly boolean[],
): number[] {
  const counts = parts.map(({ source }) => source.bytes);
  let at = 0;
  for (const [index, { guest }] of segments.entries()) {
    at = partAt(parts, at, guest);
    if (!isCopied[index]) counts[at] = 0;
  }
  return counts;
}
