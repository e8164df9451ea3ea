/**
 * Limits on transfers over all workers of a queue: its server counts who holds places. A worker that is killed holds its places until
 * its lease is over; one that the server has forgotten says so again.
 *
 * Invariant: a transfer gets all its places at once or none. Unlike in one process, who waits longer does not come first.
 */
import { randomBytes } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import {
  limitKinds,
  type TransferKeys,
  type TransferLimits,
  type TransferPlaces,
} from "../../fleet/slots.ts";

/** How often a place that is taken is asked for again, ms: from the one to the other, so that many do not ask at once. */
const ASK_MS = [200, 500] as const;

/** What a transfer needs a place of, and how many have one at once. */
export interface Place {
  readonly name: string;
  readonly most: number;
}

/** A server that counts. Who does not say within the lease that he holds a place still holds it no more. */
export interface PlaceCounter {
  /** Takes all these places; false: one of them is not free, and none was taken. */
  take(holder: string, places: readonly Place[], leaseMs: number): Promise<boolean>;
  /** Says that they are held, still or again. */
  keep(holder: string, names: readonly string[], leaseMs: number): Promise<void>;
  give(holder: string, names: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Places of a queue's server. */
export class SharedPlaces implements TransferPlaces {
  readonly #limits: TransferLimits;
  readonly #counter: PlaceCounter;
  readonly #leaseMs: number;
  /** Calls of those who give back. */
  readonly #ending = new Set<Promise<void>>();

  constructor(init: { limits: TransferLimits; counter: PlaceCounter; leaseMs: number }) {
    this.#limits = init.limits;
    this.#counter = init.counter;
    this.#leaseMs = init.leaseMs;
  }

  async take(keys: TransferKeys, signal?: AbortSignal): Promise<() => void> {
    const places = limitKinds.flatMap((kind) => {
      const most = this.#limits[kind];
      return most === undefined ? [] : [{ name: `${kind} ${keys[kind]}`, most }];
    });
    if (places.length === 0) return () => undefined;
    const holder = randomBytes(12).toString("hex");
    await this.#untilTaken(holder, places, signal);
    const give = this.#held(
      holder,
      places.map(({ name }) => name),
    );
    if (!signal?.aborted) return give;
    give();
    throw signal.reason;
  }

  /** Until there are places. A server that does not answer is asked again. */
  async #untilTaken(holder: string, places: readonly Place[], signal?: AbortSignal): Promise<void> {
    const [least, most] = ASK_MS;
    for (;;) {
      signal?.throwIfAborted();
      if (await this.#counter.take(holder, places, this.#leaseMs).catch(() => false)) return;
      await wait(least + Math.random() * (most - least), undefined, signal ? { signal } : {}).catch(
        () => undefined,
      );
    }
  }

  /** Holds places until they are given back, which happens after what was said before: a late word would take them again. */
  #held(holder: string, names: readonly string[]): () => void {
    let said = Promise.resolve();
    const say = (word: () => Promise<void>): void => {
      said = said.then(word).catch(() => undefined);
    };
    const keeping = setInterval(
      () => say(() => this.#counter.keep(holder, names, this.#leaseMs)),
      this.#leaseMs / 4,
    );
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      clearInterval(keeping);
      say(() => this.#counter.give(holder, names));
      const ending = said.finally(() => this.#ending.delete(ending));
      this.#ending.add(ending);
    };
  }

  /** Resolves when the server knows of all that was given back. */
  async close(): Promise<void> {
    await Promise.all(this.#ending);
    await this.#counter.close();
  }
}
