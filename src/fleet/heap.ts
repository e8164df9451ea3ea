/** A heap: the least of many in logarithmic time. */

/** The heap, by an order of its elements (negative: the first comes before the second). */
export class Heap<T> {
  readonly #before: (a: T, b: T) => number;
  readonly #items: T[] = [];

  constructor(before: (a: T, b: T) => number) {
    this.#before = before;
  }

  /** How many it holds. */
  get size(): number {
    return this.#items.length;
  }

  /** Adds one. */
  push(item: T): void {
    let at = this.#items.push(item) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (this.#before(this.#items[above]!, item) <= 0) break;
      this.#items[at] = this.#items[above]!;
      at = above;
    }
    this.#items[at] = item;
  }

  /** Takes the least out; undefined: there is none. */
  pop(): T | undefined {
    const least = this.#items[0];
    const last = this.#items.pop();
    if (last === undefined || this.#items.length === 0) return least;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= this.#items.length) break;
      const right = below + 1;
      if (right < this.#items.length && this.#before(this.#items[right]!, this.#items[below]!) < 0)
        below = right;
      if (this.#before(last, this.#items[below]!) <= 0) break;
      this.#items[at] = this.#items[below]!;
      at = below;
    }
    this.#items[at] = last;
    return least;
  }
}
