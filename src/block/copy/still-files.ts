/**
 * Copies and compares what lies in files of the host without reading it here: the host does it, on more than one thread
 * (HostFile.copyFrom, sameAs). For whole disks that nobody writes to, of which only what is data is asked for.
 *
 * Invariants: what is told as done is; all else is for reads and writes to do, which so find out what is wrong with it.
 */
import { assert } from "../../base/assert.ts";
import { type Answer, andThen, isPromise, rescue } from "../../base/answer.ts";
import type { FileRange } from "../../base/host.ts";
import { type ByteRange, alignDown, alignUp, type FileZeroes } from "../../base/ranges.ts";
import { filterOrCow } from "../model/chain.ts";
import { type BlockNode, type Child, nodeOf } from "../model/node.ts";
import type { BlockStatus } from "../model/contract.ts";
import { type ChainStatus, blockStatusAbove } from "../io/status.ts";

/**
 * A range of fewer bytes than this is done sooner than it is handed over, unless disks of fewer are. Of data in smaller pieces so much
 * is left to reads and writes before the next range is tried.
 */
const LEAST_BYTES = 2 ** 21;
/** Ranges that were not done whole, one after the other, before as many as this are not tried; then twice as many. */
const PATIENCE = 4;
const MOST_PASSED_OVER = 1024;

/** Whether what a disk's status says of files is all there is to know: nobody writes to a layer, or looks at what is read. */
export function isStill(node: BlockNode): boolean {
  if (!node.readOnly || node.isFilter || node.watchers?.hasSubscribers) return false;
  return node.children.every((child) => isStill(child.node));
}

/** Where a beginning of a range of a still disk lies in a file, at most `bytes` and in whole units; undefined: nowhere. */
export function rangeInFile(
  { map, data, zero, bytes }: BlockStatus,
  most: number,
  unit: number,
): FileRange | undefined {
  const length = alignDown(Math.min(bytes, most), unit);
  if (!map || !data || zero) return undefined;
  const node = nodeOf(map.node);
  return isWorth(node, length) ? node.driver.fileRange?.(map.offset, length) : undefined;
}

function isWorth(node: BlockNode, bytes: number): boolean {
  return bytes > 0 && bytes >= leastOf(node);
}

function leastOf(node: BlockNode): number {
  return Math.min(LEAST_BYTES, node.services.host.files.copyLeastBytes ?? Infinity);
}

/** The streams of a range of which a layer of a still disk holds the beginning; undefined: they can't be had. */
function streamsOf(
  top: BlockNode,
  { offset, bytes: most }: ByteRange,
  { status, unit }: { status: ChainStatus; unit: number },
): FileRange | undefined {
  let layer: BlockNode | undefined = top;
  for (let { depth } = status; layer && depth > 1; depth--) layer = filterOrCow(layer);
  const range = layer?.driver.streamRange?.(offset, Math.min(status.bytes, most));
  const bytes = range ? alignDown(range.bytes, unit) : 0;
  return range && isWorth(top, bytes) ? { ...range, bytes } : undefined;
}

/** What was done of a range, from its start, bytes. */
export interface Part {
  readonly bytes: number;
  readonly done: Answer<number>;
}

/** Whether the host is worth asking: what it leaves is done twice in part. */
export class HostWork {
  #failed = 0;
  #passOver = 0;

  /** Has a range done; undefined: not now, or `begin` has none. */
  run(begin: () => Part | undefined): Part | undefined {
    if (this.#passOver > 0) {
      this.#passOver -= 1;
      return undefined;
    }
    const part = begin();
    return part && { bytes: part.bytes, done: andThen(part.done, (count) => this.#judge(count, part)) };
  }

  #judge(count: number, { bytes }: Part): number {
    assert(count >= 0 && count <= bytes, "parts within their whole");
    this.#failed = count === bytes ? 0 : this.#failed + 1;
    if (this.#failed >= PATIENCE) this.#passOver = Math.min(2 ** this.#failed, MOST_PASSED_OVER);
    return count;
  }
}

/** How a FileCopier works. */
export interface FileCopierOptions {
  readonly source: Child;
  readonly target: Child;
  readonly zeroes: FileZeroes;
  /** Ranges begin and end at multiples of this. */
  readonly unit: number;
}

/** Copies from one disk to another. */
export class FileCopier {
  readonly #options: FileCopierOptions;
  readonly #work = new HostWork();

  constructor(options: FileCopierOptions) {
    this.#options = options;
  }

  /** One for the two nodes; undefined where their data can't go this way. */
  static for(options: FileCopierOptions): FileCopier | undefined {
    const { source, target } = options;
    return target.node.driver.copyRange && isStill(source.node) ? new FileCopier(options) : undefined;
  }

  /** Copies a range that holds data; `here` copies what the host does not. */
  copy(range: ByteRange, here: (range: ByteRange) => Answer<void>): Answer<void> {
    const lead = alignUp(range.offset, this.#options.unit) - range.offset;
    if (lead > 0) return lead < range.bytes ? this.#all(range, here, { lead }) : here(range);
    const first = this.#begin(range);
    const isLeft = !isPromise(first) && first?.done === 0 && first.bytes === range.bytes;
    return first && !isLeft ? this.#all(range, here, { lead, first }) : here(range);
  }

  async #all(
    { offset, bytes }: ByteRange,
    here: (range: ByteRange) => Answer<void>,
    { lead, first }: { lead: number; first?: Answer<Part | undefined> },
  ): Promise<void> {
    if (lead > 0) await here({ offset, bytes: lead });
    const end = offset + bytes;
    let next = first;
    for (let at = offset + lead; at < end;) {
      const part = (await (next ?? this.#begin({ offset: at, bytes: end - at }))) ?? {
        bytes: end - at,
        done: 0,
      };
      next = undefined;
      const done = await part.done;
      if (done < part.bytes) await here({ offset: at + done, bytes: part.bytes - done });
      at += part.bytes;
    }
  }

  /** Begins with what lies in one place; what does not is not done. Undefined: none of the range is. Why no status can be had a read says. */
  #begin({ offset, bytes }: ByteRange): Answer<Part | undefined> {
    const { source, unit } = this.#options;
    const part = (status: ChainStatus): Part => {
      const range = status.compressed
        ? streamsOf(source.node, { offset, bytes }, { status, unit })
        : rangeInFile(status, bytes, unit);
      const other = Math.max(status.bytes, leastOf(source.node));
      const left = { bytes: Math.min(bytes, alignUp(other, unit)), done: 0 };
      return (range && this.#copied(offset, range)) ?? left;
    };
    return rescue(
      () => andThen(blockStatusAbove(source.node, offset, bytes), part),
      () => undefined,
    );
  }

  #copied(offset: number, range: FileRange): Part | undefined {
    const { source, target, zeroes, unit } = this.#options;
    return this.#work.run(() => {
      const { account } = source.node;
      const counted = (count: number): number => {
        account.done("read", count);
        return alignDown(count, unit);
      };
      const copying = target.copyRange(offset, range, zeroes);
      return copying && { bytes: range.bytes, done: copying.then(counted) };
    });
  }
}
