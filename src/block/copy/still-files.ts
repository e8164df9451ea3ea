/**
 * Copies and compares what lies in files of the host without reading it here: the host does it, on more than one thread
 * (HostFile.copyFrom, sameAs). For whole disks that nobody writes to, of which only what is data is asked for.
 *
 * Invariants: what is told as done is; all else is for reads and writes to do, which so find out what is wrong with it.
 */
import { type Answer, isPromise } from "../../base/answer.ts";
import type { FileRange } from "../../base/host.ts";
import { type ByteRange, alignDown, alignUp, type FileZeroes } from "../../base/ranges.ts";
import { type BlockNode, type Child, nodeOf } from "../model/node.ts";
import type { BlockStatus } from "../model/contract.ts";
import { blockStatusAbove } from "../io/status.ts";

/** A range of fewer bytes than this is done sooner than it is handed over, unless disks of fewer are. */
const LEAST_BYTES = 2 ** 19;
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
  if (!map || !data || zero || length === 0) return undefined;
  const node = nodeOf(map.node);
  const { copyLeastBytes = LEAST_BYTES } = node.services.host.files;
  return length < Math.min(LEAST_BYTES, copyLeastBytes)
    ? undefined
    : node.driver.fileRange?.(map.offset, length);
}

/** What was done of a range, from its start, bytes. */
export interface Part {
  readonly bytes: number;
  readonly done: Promise<number>;
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
    return part && { bytes: part.bytes, done: part.done.then((count) => this.#judge(count, part)) };
  }

  #judge(count: number, { bytes }: Part): number {
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
    const { unit } = this.#options;
    const lead = alignUp(range.offset, unit) - range.offset;
    const first = lead === 0 ? this.#begin(range) : undefined;
    return first || (lead > 0 && lead < range.bytes) ? this.#all(range, here, { lead, first }) : here(range);
  }

  async #all(
    { offset, bytes }: ByteRange,
    here: (range: ByteRange) => Answer<void>,
    { lead, first }: { lead: number; first: Part | undefined },
  ): Promise<void> {
    if (lead > 0) await here({ offset, bytes: lead });
    const end = offset + bytes;
    let next = first;
    for (let at = offset + lead; at < end;) {
      next ??= this.#begin({ offset: at, bytes: end - at });
      const part = next ?? { bytes: end - at, done: 0 };
      next = undefined;
      const done = await part.done;
      if (done < part.bytes) await here({ offset: at + done, bytes: part.bytes - done });
      at += part.bytes;
    }
  }

  #begin({ offset, bytes }: ByteRange): Part | undefined {
    const { source, target, zeroes, unit } = this.#options;
    return this.#work.run(() => {
      const range = this.#source(offset, bytes);
      const copying = range && target.copyRange(offset, range, zeroes);
      const { account } = source.node;
      const counted = (count: number): number => {
        account.done("read", count);
        return alignDown(count, unit);
      };
      return copying && { bytes: range.bytes, done: copying.then(counted) };
    });
  }

  #source(offset: number, bytes: number): FileRange | undefined {
    const { source, unit } = this.#options;
    try {
      const status = blockStatusAbove(source.node, offset, bytes);
      if (!isPromise(status)) return rangeInFile(status, bytes, unit);
      // Where it has to be waited for there is nothing to be gained.
      void status.catch(() => undefined);
    } catch {
      // A read says what is wrong.
    }
    return undefined;
  }
}
