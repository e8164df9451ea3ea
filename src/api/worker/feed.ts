/**
 * What happens on one side of a port, told to the other in order: the other side asks for what came after that which it has
 * seen, and is answered when there is something.
 *
 * Invariant: nothing is told twice; who asks late misses only what is older than the latest `KEPT`.
 */
import { Wakeup, abortable } from "../../base/signals.ts";

const KEPT = 64;

/** What came since, and the number of the last of it. */
export interface News<T> {
  seen: number;
  values: T[];
}

/** The telling side. */
export class Feed<T> {
  readonly #kept: T[] = [];
  readonly #changed = new Wakeup();
  #count = 0;

  push(value: T): void {
    this.#kept.push(value);
    if (this.#kept.length > KEPT) this.#kept.shift();
    this.#count += 1;
    this.#changed.wake();
  }

  /** Waits for what comes after number `seen` (0: from the beginning). Rejects when `signal` aborts. */
  async after(seen: number, signal: AbortSignal): Promise<News<T>> {
    await abortable(
      this.#changed.until(() => this.#count > seen),
      signal,
    );
    const fresh = Math.min(this.#count - seen, this.#kept.length);
    return { seen: this.#count, values: this.#kept.slice(this.#kept.length - fresh) };
  }
}

/** The other side: calls `each` with all that is told, until `ask` rejects because the port has gone. */
export async function follow<T>(
  ask: (seen: number) => Promise<News<T>>,
  each: (value: T) => void,
): Promise<void> {
  for (let seen = 0; ;) {
    let news: News<T>;
    try {
      news = await ask(seen);
    } catch {
      return;
    }
    seen = news.seen;
    for (const value of news.values) each(value);
  }
}
