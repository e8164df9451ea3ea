/**
 * Which reads of an image are under way, so that what a read may still look at is not handed out again. Invariant: waiting for
 * the reads that have begun never waits for newcomers.
 */
import { assert } from "../../../../base/assert.ts";
import { Wakeup } from "../../../../base/signals.ts";

/**
 * Reads under way, so that a freed cluster is handed out again only after the reads that may still look at it. Reads come
 * in two generations: waiting for the older one never waits for newcomers.
 */
export class Readers {
  #generation = 0;
  readonly #counts = [0, 0];
  readonly #drained = new Wakeup();

  /** Notes a read; give the result to `end`. */
  begin(): number {
    const generation = this.#generation;
    this.#counts[generation] = (this.#counts[generation] ?? 0) + 1;
    return generation;
  }

  end(generation: number): void {
    const left = (this.#counts[generation] ?? 0) - 1;
    assert(left >= 0, "more reads ended than began");
    this.#counts[generation] = left;
    if (left === 0) this.#drained.wake();
  }

  /** Resolves when every read that had begun before is over. One caller at a time (it holds the metadata lock). */
  async settle(): Promise<void> {
    const old = this.#generation;
    await this.#drained.until(() => this.#counts[1 - old] === 0);
    this.#generation = 1 - old;
    await this.#drained.until(() => this.#counts[old] === 0);
  }
}
