/**
 * Which guest clusters have writes under way. Writes into clusters that exist share them; whatever changes a cluster's
 * mapping (allocation, zeroing, discard, resize) has it to itself, so that no cluster is allocated twice, and none is
 * freed while a write into it is still under way.
 *
 * Invariant: ranges are registered before the metadata lock is taken, never while it is held; so nobody waits in a circle.
 */
import { type Answer } from "../../../../base/answer.ts";
import { type Deferred, deferred, Wakeup } from "../../../../base/signals.ts";

/** A registered range, [from, to) in guest bytes. */
export interface Claim {
  readonly from: number;
  readonly to: number;
  readonly exclusive: boolean;
  ended: Deferred<void> | undefined;
}

/** The claims of one image. */
export class Claims {
  readonly #claims = new Set<Claim>();

  /** Registers a shared claim at once, or says that it would have to wait. */
  tryShared(from: number, to: number): Claim | undefined {
    if (this.#conflict(from, to, false)) return undefined;
    return this.#add(from, to, false);
  }

  /** Claims the range when nobody else is in it; at once, if so. */
  exclusive(from: number, to: number): Answer<Claim> {
    const other = this.#conflict(from, to, true);
    if (!other) return this.#add(from, to, true);
    other.ended ??= deferred();
    return other.ended.promise.then(() => this.exclusive(from, to));
  }

  /** Ends a claim and wakes those who wait for it. */
  end(claim: Claim): void {
    this.#claims.delete(claim);
    claim.ended?.resolve();
  }

  #add(from: number, to: number, exclusive: boolean): Claim {
    const claim: Claim = { from, to, exclusive, ended: undefined };
    this.#claims.add(claim);
    return claim;
  }

  #conflict(from: number, to: number, exclusive: boolean): Claim | undefined {
    for (const claim of this.#claims) {
      if (claim.from < to && from < claim.to && (exclusive || claim.exclusive)) return claim;
    }
    return undefined;
  }
}

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
