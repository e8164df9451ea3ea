/**
 * What lies in files of the host is copied and compared without reading it here: the host does it, on more than one thread
 * (HostFile.copyFrom, sameAs). For whole disks that nobody writes to, of which only what is data is asked for.
 */
import { assert } from "../../base/assert.ts";
import type { FilePart, FileRange } from "../../base/host.ts";
import { alignDown } from "../../base/ranges.ts";
import { type BlockNode, nodeOf } from "../model/node.ts";
import type { BlockStatus } from "../model/contract.ts";

/**
 * Ranges of fewer bytes than this together are done sooner than they are handed over, unless disks of fewer are. Of streams in smaller
 * pieces so much is left to reads and writes before the next are tried.
 */
const LEAST_BYTES = 2 ** 21;
/** Lists that were not done whole, one after the other, before as many as this are not tried; then twice as many. */
const PATIENCE = 4;
const MOST_PASSED_OVER = 1024;

/** Whether what a disk's status says of files is all there is to know: nobody writes to a layer, or looks at what is read. */
export function isStill(node: BlockNode): boolean {
  if (!node.readOnly || node.isFilter || node.watchers?.hasSubscribers) return false;
  return node.children.every((child) => isStill(child.node));
}

/** Where a beginning of what a status tells of, `passed` bytes behind its start, lies in a file, in whole units; undefined: nowhere. */
export function rangeInFile(
  { map, data, zero, bytes }: BlockStatus,
  { passed = 0, most, unit }: { passed?: number; most: number; unit: number },
): FileRange | undefined {
  const length = alignDown(Math.min(bytes - passed, most), unit);
  if (!map || !data || zero || length <= 0) return undefined;
  return nodeOf(map.node).driver.fileRange?.(map.offset + passed, length);
}

/** Whether so many bytes of a disk are worth handing over. */
export function isWorth(node: BlockNode, bytes: number): boolean {
  return bytes > 0 && bytes >= leastOf(node);
}

/** The bytes of a disk that are worth handing over. */
export function leastOf(node: BlockNode): number {
  return Math.min(LEAST_BYTES, node.services.host.files.copyLeastBytes ?? Infinity);
}

/** Whether the host is worth asking: what it leaves is done twice in part. */
export class HostWork {
  #failed = 0;
  #passOver = 0;

  /** Has `parts` done, which answers as HostFile.copyFrom(); undefined: not now, or `begin` can't. */
  run(
    parts: readonly FilePart[],
    begin: () => Promise<readonly number[]> | undefined,
  ): Promise<readonly number[]> | undefined {
    if (this.#passOver > 0) {
      this.#passOver -= 1;
      return undefined;
    }
    return begin()?.then((counts) => this.#judge(counts, parts));
  }

  #judge(counts: readonly number[], parts: readonly FilePart[]): readonly number[] {
    assert(
      parts.every(({ source }, index) => counts[index]! >= 0 && counts[index]! <= source.bytes),
      "parts within their whole",
    );
    const isWhole = parts.every(({ source }, index) => source.bytes === counts[index]);
    this.#failed = isWhole ? 0 : this.#failed + 1;
    if (this.#failed >= PATIENCE) this.#passOver = Math.min(2 ** this.#failed, MOST_PASSED_OVER);
    return counts;
  }
}
