/**
 * Copying out of files of the host into a node, by the host: for whole disks, whose bytes need not come through here. Source:
 * QEMU's bdrv_co_copy_range. What is not copied, for whatever reason, is for reads and writes to copy.
 */
import type { FilePart } from "../../base/host.ts";
import { assert } from "../../base/assert.ts";
import type { ByteRange, FileZeroes } from "../../base/ranges.ts";
import type { BlockNode } from "../model/node.ts";
import { changingAll, checkRequest, checkWritable, isPlain, tracked } from "./request-path.ts";

/** Writes what lies in files, in ascending order; see DataPath.copyRanges(). Undefined also where more is to be done than to write. */
export function copyRanges(
  node: BlockNode,
  parts: readonly FilePart[],
  zeroes: FileZeroes,
): Promise<readonly number[]> | undefined {
  const { driver } = node;
  const ranges = checkedRanges(node, parts);
  if (!driver.copyRanges || driver.debugEvent || node.options.detectZeroes !== "off") return undefined;
  if (node.readOnly || !ranges || !areCovered(node, ranges)) return undefined;
  const copying = driver.copyRanges(parts, zeroes);
  if (!copying) return undefined;
  const hull = hullOf(ranges);
  // The highest of them tells of the threshold for all.
  checkWritable(node, hull.offset, hull.bytes);
  const whole = { kind: "write", ...hull } as const;
  const copied = copying.then(() => undefined);
  return tracked(node, whole, changingAll(node, ranges, copied)).then(async () => {
    const counts = await copying;
    assert(counts.length === ranges.length, "each range is told of");
    // They count as having grown by all of it.
    if (counts.some((count, index) => count < ranges[index]!.bytes)) node.updateLength();
    return counts;
  });
}

/** What is written; undefined where somebody is in the way. There may be many: nothing is made for each but what is kept. */
function checkedRanges(node: BlockNode, parts: readonly FilePart[]): ByteRange[] | undefined {
  const ranges: ByteRange[] = [];
  for (let index = 0; index < parts.length; index++) {
    const { offset, source } = parts[index]!;
    checkRequest(node, "pwrite", offset, source.bytes);
    if (!isPlain(node, offset, source.bytes)) return undefined;
    ranges.push({ offset, bytes: source.bytes });
  }
  return ranges;
}

/** Whether what is written has been noted where that comes first; whoever writes what has not waits for it. */
function areCovered({ writeAhead }: BlockNode, ranges: readonly ByteRange[]): boolean {
  if (!writeAhead) return true;
  const waits = ranges.map(({ offset, bytes }) => writeAhead.cover(offset, bytes)?.catch(() => undefined));
  return waits.every((wait) => wait === undefined);
}

/** From the first byte of ranges to the last. */
function hullOf(ranges: readonly ByteRange[]): ByteRange {
  let first = Infinity;
  let end = 0;
  for (let index = 0; index < ranges.length; index++) {
    const { offset, bytes } = ranges[index]!;
    first = Math.min(first, offset);
    end = Math.max(end, offset + bytes);
  }
  assert(first < end, "no bytes are copied");
  return { offset: first, bytes: end - first };
}
