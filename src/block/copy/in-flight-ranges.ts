/**
 * The ranges that copies are working on, so that whoever would touch the same bytes can wait. Sets are small (tens of
 * entries), hence a plain scan.
 */
import { assert } from "../../base/assert.ts";
import { type ByteRange, overlaps } from "../../base/ranges.ts";
import { type Deferred, deferred } from "../../base/signals.ts";

interface Entry extends ByteRange {
  ended: Deferred<void> | undefined;
}

/** A set of byte ranges with overlap waiting. Ranges in it may overlap each other; most users see to it that they don't. */
export class InFlightRanges {
  readonly #entries = new Set<Entry>();
  #bytes = 0;

  /** Ranges held. */
  get size(): number {
    return this.#entries.size;
  }

  /** The ranges held, in the order in which they were added. */
  get ranges(): ByteRange[] {
    return [...this.#entries].map(({ offset, bytes }) => ({ offset, bytes }));
  }

  /** Bytes held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds a range; the returned function takes it out again and wakes those who wait. It may be called once. */
  add(range: ByteRange): () => void {
    const entry: Entry = { offset: range.offset, bytes: range.bytes, ended: undefined };
    this.#entries.add(entry);
    this.#bytes += entry.bytes;
    return () => {
      assert(this.#entries.delete(entry), "a range was released twice");
      this.#bytes -= entry.bytes;
      entry.ended?.resolve();
    };
  }

  /** Whether a range in the set shares a byte with this one. */
  overlaps(range: ByteRange): boolean {
    return this.#find(range) !== undefined;
  }

  /** Waits for one overlapping range to end; false, at once, where none overlaps. */
  async waitOne(range: ByteRange): Promise<boolean> {
    const entry = this.#find(range);
    if (!entry) return false;
    entry.ended ??= deferred();
    await entry.ended.promise;
    return true;
  }

  /** Waits until no range overlaps, and adds this one in the same step, so that nobody comes in between. */
  async take(range: ByteRange): Promise<() => void> {
    for (let entry = this.#find(range); entry; entry = this.#find(range)) {
      entry.ended ??= deferred();
      await entry.ended.promise;
    }
    return this.add(range);
  }

  /** Waits until no range overlaps. When the caller goes on, others may have added one: see take(). */
  async waitOverlap(range: ByteRange): Promise<void> {
    while (await this.waitOne(range));
  }

  #find(range: ByteRange): Entry | undefined {
    for (const entry of this.#entries) if (overlaps(entry, range)) return entry;
    return undefined;
  }
}
