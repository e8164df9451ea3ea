/**
 * Limits on how many disks transfer at once: per host, per store that is written to, per source that is read. Only disks that
 * transfer hold a place; a job that waits for its next attempt, opens, or publishes holds none.
 *
 * Invariants: a transfer gets all its places at once or none, so that none waits for another in a circle; among those that wait for
 * the same place the earlier one comes first.
 */

/** How many at once; absent: no limit. */
export interface TransferLimits {
  readonly host?: number;
  readonly store?: number;
  readonly source?: number;
}

/** What a transfer needs a place of. */
export interface TransferKeys {
  readonly host: string;
  readonly store: string;
  readonly source: string;
}

/** Where transfers get their places. */
export interface TransferPlaces {
  /** Resolves with what gives the places back when there are places; rejects with the signal's reason. */
  take(keys: TransferKeys, signal?: AbortSignal): Promise<() => void>;
}

interface Waiting {
  readonly keys: TransferKeys;
  readonly begin: () => void;
}

/** What is limited. */
export const limitKinds = ["host", "store", "source"] as const;

/** The places of one process. */
export class TransferSlots implements TransferPlaces {
  readonly #limits: TransferLimits;
  readonly #held = new Map<string, number>();
  #waiting: Waiting[] = [];

  constructor(limits: TransferLimits) {
    this.#limits = limits;
  }

  async take(keys: TransferKeys, signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (!this.#hasRoom(keys, new Set())) await this.#wait(keys, signal);
    else this.#count(keys, 1);
    let isHeld = true;
    return () => {
      if (!isHeld) return;
      isHeld = false;
      this.#count(keys, -1);
      this.#wake();
    };
  }

  #wait(keys: TransferKeys, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        keys,
        begin: () => {
          signal?.removeEventListener("abort", give);
          resolve();
        },
      };
      const give = (): void => {
        this.#waiting = this.#waiting.filter((one) => one !== waiting);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", give, { once: true });
      this.#waiting.push(waiting);
    });
  }

  /** Whether there is room, and nobody who came before waits for one of the same places. */
  #hasRoom(keys: TransferKeys, wanted: ReadonlySet<string>): boolean {
    return limitKinds.every((kind) => {
      const most = this.#limits[kind];
      const key = `${kind} ${keys[kind]}`;
      return most === undefined || ((this.#held.get(key) ?? 0) < most && !wanted.has(key));
    });
  }

  #count(keys: TransferKeys, by: 1 | -1): void {
    for (const kind of limitKinds) {
      const key = `${kind} ${keys[kind]}`;
      const count = (this.#held.get(key) ?? 0) + by;
      if (count === 0) this.#held.delete(key);
      else this.#held.set(key, count);
    }
  }

  #wake(): void {
    const wanted = new Set<string>();
    const stay: Waiting[] = [];
    for (const waiting of this.#waiting) {
      if (this.#hasRoom(waiting.keys, wanted)) {
        this.#count(waiting.keys, 1);
        waiting.begin();
        continue;
      }
      for (const kind of limitKinds) {
        const key = `${kind} ${waiting.keys[kind]}`;
        // One that is held up elsewhere does not keep others from places that are free.
        if ((this.#held.get(key) ?? 0) >= (this.#limits[kind] ?? Infinity)) wanted.add(key);
      }
      stay.push(waiting);
    }
    this.#waiting = stay;
  }
}
