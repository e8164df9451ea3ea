/**
 * Copies what lies in files of the host from one disk to another by the host itself: pieces of any size are gathered in lists, each of
 * which is handed over at once.
 *
 * Invariants: what is told as done is; all else is for reads and writes to do, which so find out what is wrong with it. A list's ranges
 * do not touch each other but at their ends, and lie within what was added to it.
 */
import { type Answer, andThen, repeat, rescue } from "../../base/answer.ts";
import type { FilePart, FileRange } from "../../base/host.ts";
import { GiB } from "../../base/limits.ts";
import { type ByteRange, alignDown, alignUp, type FileZeroes } from "../../base/ranges.ts";
import { filterOrCow } from "../model/chain.ts";
import type { BlockNode, Child } from "../model/node.ts";
import { type ChainStatus, blockStatusAbove } from "../io/status.ts";
import { HostWork, isStill, isWorth, leastOf, rangeInFile } from "./still-files.ts";

/** The streams of a range of which a layer of a still disk holds the beginning; undefined: they can't be had. */
function streamsOf(
  top: BlockNode,
  { offset, bytes: most }: ByteRange,
  { status, unit }: { status: ChainStatus; unit: number },
): FileRange | undefined {
  if (!status.compressed) return undefined;
  let layer: BlockNode | undefined = top;
  for (let { depth } = status; layer && depth > 1; depth--) layer = filterOrCow(layer);
  const range = layer?.driver.streamRange?.(offset, Math.min(status.bytes, most));
  const bytes = range ? alignDown(range.bytes, unit) : 0;
  return range && isWorth(top, bytes) ? { ...range, bytes } : undefined;
}

/** A list is not longer, nor are its ends further apart: what is made for it until it is done stays little. */
const MOST_PARTS = 128;
const MOST_APART = 8 * GiB;

/** Data that is to be copied, the lowest first. */
export class FileList {
  /** What lies in files. */
  readonly parts: FilePart[] = [];
  /** What does not, or in parts of units only. */
  readonly rest: ByteRange[] = [];
  /** Bytes of the parts. */
  bytes = 0;

  /** Whether what ends at `end` is to be in another one. */
  isFull(end: number): boolean {
    const first = Math.min(this.parts[0]?.offset ?? Infinity, this.rest[0]?.offset ?? Infinity);
    return this.parts.length >= MOST_PARTS || this.rest.length >= MOST_PARTS || end - first > MOST_APART;
  }

  /** Adds what lies in a file; to the part before, if it follows that in both. */
  add(part: FilePart): void {
    const { offset, source } = part;
    const last = this.parts.at(-1);
    const at = last && offset === last.offset + last.source.bytes ? last.source : undefined;
    this.bytes += source.bytes;
    if (at && at.file === source.file && at.offset + at.bytes === source.offset)
      this.parts[this.parts.length - 1] = {
        offset: last!.offset,
        source: { ...at, bytes: at.bytes + source.bytes },
      };
    else this.parts.push(part);
  }

  /** Adds what does not. */
  leave({ offset, bytes }: ByteRange): void {
    const last = this.rest.at(-1);
    if (last && last.offset + last.bytes === offset)
      this.rest[this.rest.length - 1] = { offset: last.offset, bytes: last.bytes + bytes };
    else if (bytes > 0) this.rest.push({ offset, bytes });
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
    return target.node.driver.copyRanges && isStill(source.node) ? new FileCopier(options) : undefined;
  }

  /** Adds a range to a list, of which `status` tells from `passed` bytes before it on; absent: nothing does. */
  add(
    list: FileList,
    range: ByteRange,
    { status, passed }: { status: ChainStatus | undefined; passed: number },
  ): void {
    const { unit } = this.#options;
    const end = range.offset + range.bytes;
    const first = Math.min(alignUp(range.offset, unit), end);
    const lead = first - range.offset;
    const source = status && rangeInFile(status, { passed: passed + lead, most: end - first, unit });
    if (!source) return list.leave(range);
    list.leave({ offset: range.offset, bytes: lead });
    list.add({ offset: first, source });
    const behind = first + source.bytes;
    list.leave({ offset: behind, bytes: end - behind });
  }

  /** Copies what is in a list; `here` copies what the host does not. */
  copy(list: FileList, here: (range: ByteRange) => Answer<void>): Answer<void> {
    const { parts, rest, bytes } = list;
    const { source, zeroes } = this.#options;
    const isAsked = parts.length > 0 && (zeroes.offload || isWorth(source.node, bytes));
    const copying = isAsked ? this.#copied(parts) : undefined;
    if (!copying) return this.#rest(adjoined([...rest, ...partsLeft(parts)]), here);
    return copying.then((counts) => this.#rest(adjoined([...rest, ...partsLeft(parts, counts)]), here));
  }

  /** Copies what is left of a list: streams, if they are any, elsewhere still. */
  #rest(ranges: readonly ByteRange[], here: (range: ByteRange) => Answer<void>): Answer<void> {
    let index = 0;
    return repeat(() => {
      const range = ranges[index++];
      if (!range) return false;
      const isLarge = isWorth(this.#options.source.node, range.bytes);
      return andThen(isLarge ? this.#large(range, here) : here(range), () => true);
    });
  }

  /** Copies a range part by part: one begins where what is known of the one before ends. */
  #large({ offset, bytes }: ByteRange, here: (range: ByteRange) => Answer<void>): Answer<void> {
    const { unit } = this.#options;
    const end = offset + bytes;
    let at = offset;
    let lead = Math.min(alignUp(offset, unit) - offset, bytes);
    return repeat(() => {
      const range = { offset: at, bytes: lead > 0 ? lead : end - at };
      const copied = lead > 0 ? andThen(here(range), () => lead) : this.#next(range, here);
      return andThen(copied, (count) => {
        lead = 0;
        return (at += count) < end;
      });
    });
  }

  /** Copies a beginning of a range; answers with its bytes. Why no status can be had a read says. */
  #next(range: ByteRange, here: (range: ByteRange) => Answer<void>): Answer<number> {
    const { source, unit } = this.#options;
    const { offset, bytes } = range;
    const status = rescue<ChainStatus | undefined>(
      () => blockStatusAbove(source.node, offset, bytes),
      () => undefined,
    );
    return andThen(status, (told) => {
      const streams = told && streamsOf(source.node, range, { status: told, unit });
      const parts = streams ? [{ offset, source: streams }] : [];
      const copying = streams && this.#copied(parts);
      const least = told ? Math.max(told.bytes, leastOf(source.node)) : bytes;
      const whole = streams?.bytes ?? Math.min(bytes, alignUp(Math.max(least, 1), unit));
      return andThen(copying, (counts) => {
        const done = counts?.[0] ?? 0;
        const left = done < whole ? here({ offset: offset + done, bytes: whole - done }) : undefined;
        return andThen(left, () => whole);
      });
    });
  }

  /** Has parts copied: answers with the bytes of each, in whole units. */
  #copied(parts: readonly FilePart[]): Promise<readonly number[]> | undefined {
    const { source, target, zeroes, unit } = this.#options;
    const copying = this.#work.run(parts, () => target.copyRanges(parts, zeroes));
    return copying?.then((counts) => {
      source.node.account.done("read", sumOf(counts));
      return counts.map((count) => alignDown(count, unit));
    });
  }
}

function sumOf(counts: readonly number[]): number {
  return counts.reduce((sum, count) => sum + count, 0);
}

/** What of parts was not done; all, where nothing is told. */
function partsLeft(parts: readonly FilePart[], counts?: readonly number[]): ByteRange[] {
  return parts.flatMap(({ offset, source: { bytes } }, index) => {
    const done = counts?.[index] ?? 0;
    return done < bytes ? [{ offset: offset + done, bytes: bytes - done }] : [];
  });
}

/** Ranges in ascending order, those that adjoin as one. */
function adjoined(ranges: ByteRange[]): ByteRange[] {
  const joined: ByteRange[] = [];
  for (const range of ranges.sort((a, b) => a.offset - b.offset)) {
    const last = joined.at(-1);
    const follows = last && last.offset + last.bytes === range.offset;
    if (follows) joined[joined.length - 1] = { offset: last.offset, bytes: last.bytes + range.bytes };
    else joined.push(range);
  }
  return joined;
}
