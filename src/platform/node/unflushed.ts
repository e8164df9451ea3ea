/**
 * Where a file was written to since the last flush that succeeded, so that it can be written again after one that failed.
 *
 * Invariants: whatever was written is within the ranges, which may hold more; memory is bounded, the unit grows instead.
 */
import type { ByteRange } from "../../base/ranges.ts";

const FIRST_UNIT = 65_536;
/** Units that are kept apart; more make the unit larger. */
const MOST_UNITS = 65_536;

/** Parts of a file, in units of a power of two of bytes. */
export class UnflushedRanges {
  #unit = FIRST_UNIT;
  #units = new Set<number>();
  /** The unit that was noted last: most writes follow the one before. */
  #last = -1;

  /** Notes a write, once it has ended. */
  add(offset: number, bytes: number): void {
    const first = Math.floor(offset / this.#unit);
    const last = Math.floor((offset + Math.max(bytes, 1) - 1) / this.#unit);
    if (first === this.#last && last === first) return;
    for (let unit = first; unit <= last; unit++) this.#units.add(unit);
    this.#last = last;
    while (this.#units.size > MOST_UNITS) this.#coarsen();
  }

  /** Hands over what was noted so far: a flush begins, which says nothing of later writes. */
  take(): UnflushedRanges {
    const taken = new UnflushedRanges();
    taken.#unit = this.#unit;
    taken.#units = this.#units;
    this.#units = new Set();
    this.#last = -1;
    return taken;
  }

  /** Takes back what a flush did not make durable. */
  merge(taken: UnflushedRanges): void {
    for (const { offset, bytes } of taken.ranges()) this.add(offset, bytes);
  }

  /** Ascending, apart from each other. */
  *ranges(): Generator<ByteRange> {
    const units = [...this.#units].toSorted((a, b) => a - b);
    for (let i = 0; i < units.length;) {
      let next = i + 1;
      while (next < units.length && units[next] === units[next - 1]! + 1) next += 1;
      yield { offset: units[i]! * this.#unit, bytes: (next - i) * this.#unit };
      i = next;
    }
  }

  #coarsen(): void {
    this.#unit *= 2;
    this.#units = new Set([...this.#units].map((unit) => Math.floor(unit / 2)));
    this.#last = -1;
  }
}
