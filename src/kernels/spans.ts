/**
 * A first-fit allocator of spans in a range of units, lowest address first, with free neighbours joined. It keeps only
 * numbers: what lies in the spans is the caller's. Used for the arena's slots and for bitmaps.
 */
import { assert } from "../base/assert.ts";

/** The free spans of `total` units; units are whatever the caller counts in. */
export class Spans {
  /** Starts of the free spans, ascending, and their lengths. */
  readonly #starts: number[] = [];
  readonly #lengths: number[] = [];
  #total: number;
  #free: number;

  constructor(total: number) {
    this.#total = total;
    this.#free = total;
    if (total > 0) {
      this.#starts.push(0);
      this.#lengths.push(total);
    }
  }

  /** Units in all. */
  get total(): number {
    return this.#total;
  }

  /** Units that are free. */
  get free(): number {
    return this.#free;
  }

  /** Takes `units` (> 0) and returns their start, or -1 when no free span is long enough. */
  take(units: number): number {
    for (let i = 0; i < this.#lengths.length; i++) {
      const length = this.#lengths[i]!;
      if (length < units) continue;
      const start = this.#starts[i]!;
      if (length === units) {
        this.#starts.splice(i, 1);
        this.#lengths.splice(i, 1);
      } else {
        this.#starts[i] = start + units;
        this.#lengths[i] = length - units;
      }
      this.#free -= units;
      return start;
    }
    return -1;
  }

  /** Gives back what take() returned. */
  give(start: number, units: number): void {
    const end = start + units;
    let i = this.#starts.findIndex((other) => other >= start);
    if (i < 0) i = this.#starts.length;
    const before = i > 0 ? this.#starts[i - 1]! + this.#lengths[i - 1]! : 0;
    assert(units > 0 && end <= this.#total && before <= start, "span given back twice");
    assert(i === this.#starts.length || end <= this.#starts[i]!, "span given back twice");
    this.#free += units;
    const joinsNext = i < this.#starts.length && this.#starts[i] === end;
    if (i > 0 && before === start) {
      this.#lengths[i - 1]! += units + (joinsNext ? this.#lengths[i]! : 0);
      if (joinsNext) this.#remove(i);
    } else if (joinsNext) {
      this.#starts[i] = start;
      this.#lengths[i]! += units;
    } else {
      this.#starts.splice(i, 0, start);
      this.#lengths.splice(i, 0, units);
    }
  }

  /** Adds `units` free units at the end. */
  extend(units: number): void {
    const start = this.#total;
    this.#total += units;
    this.give(start, units);
  }

  #remove(i: number): void {
    this.#starts.splice(i, 1);
    this.#lengths.splice(i, 1);
  }
}
