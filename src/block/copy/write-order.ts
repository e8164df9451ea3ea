/**
 * Lets pieces that are read at once be written in the order in which they began, so that they come to lie one behind the other
 * in a target that takes new room for each. A piece's turn comes when the one before has been written.
 */
import type { Answer } from "../../base/answer.ts";
import { assert } from "../../base/assert.ts";

/** The pieces under way, by their offsets. */
export class WriteOrder {
  /** Those that are not written yet, in order. */
  readonly #pieces: number[] = [];
  readonly #waiting = new Map<number, () => void>();

  /** The piece at `offset` is begun: its writes come after those of all that were begun before. */
  begin(offset: number): void {
    assert(!this.#pieces.includes(offset), "a piece begins once");
    this.#pieces.push(offset);
  }

  /** Waits until the piece at `offset` may be written. One that was not begun need not wait. */
  turn(offset: number): Answer<void> {
    const place = this.#pieces.indexOf(offset);
    if (place <= 0) return undefined;
    assert(!this.#waiting.has(offset), "a piece has one turn");
    return new Promise((resolve) => this.#waiting.set(offset, resolve));
  }

  /** The piece at `offset` is written, or will not be. */
  end(offset: number): void {
    const place = this.#pieces.indexOf(offset);
    assert(place >= 0, "a piece that ends was begun");
    this.#pieces.splice(place, 1);
    this.#waiting.delete(offset);
    const [first] = this.#pieces;
    if (place > 0 || first === undefined) return;
    this.#waiting.get(first)?.();
    this.#waiting.delete(first);
  }
}
