/**
 * Which bytes of a read have come, in chunks of any order. Invariants: ranges are ascending, apart from each other, and their
 * number is bounded, so that a server that sends every second byte is refused before that costs memory.
 */
import { limits } from "../../../base/limits.ts";
import { protocolError } from "../errors.ts";

/** The bytes that have come. */
export class Coverage {
  /** Start and end by turns. */
  #bounds: number[] = [];
  /** How many there are. */
  bytes = 0;

  /** Adds a range; false: a part of it was there. Throws for too many ranges that lie apart. */
  add(start: number, bytes: number): boolean {
    const bounds = this.#bounds;
    const end = start + bytes;
    const last = bounds.at(-1);
    // Mostly they come in their order.
    if (last === undefined || start > last) bounds.push(start, end);
    else if (start === last) bounds[bounds.length - 1] = end;
    else if (!this.#insert(start, end)) return false;
    if (bounds.length > 2 * limits.nbdMaxStatusExtents)
      throw protocolError("A reply comes in too many pieces");
    this.bytes += bytes;
    return true;
  }

  /** A range that begins before the last one ends. */
  #insert(start: number, end: number): boolean {
    const bounds = this.#bounds;
    let at = 0;
    while (bounds[at + 1]! < start) at += 2;
    // The range there ends at `start` or later; if it begins before `end`, they overlap unless they only touch.
    const joinsBelow = bounds[at + 1] === start;
    const next = joinsBelow ? at + 2 : at;
    if (next < bounds.length && bounds[next]! < end) return false;
    const joinsAbove = bounds[next] === end;
    if (joinsBelow && joinsAbove) bounds.splice(at + 1, 2);
    else if (joinsBelow) bounds[at + 1] = end;
    else if (joinsAbove) bounds[next] = start;
    else bounds.splice(at, 0, start, end);
    return true;
  }
}
