/**
 * The clusters of a remote disk: a small cache, and a queue from which neighbours are joined into one request. What a
 * guest waits for goes before what a job reads, and one connection is kept free of jobs.
 *
 * Invariants: a cluster is under way at most once; only verified clusters reach the cache or a reader; the cache holds
 * at most `cacheBytes`. Whole clusters that a job reads are not cached, unless its read fails in part: it reads each one once. What
 * came before a connection was lost is kept, and only the rest is asked for again. How much is asked for at once follows the link's pace (pace.ts).
 */
import { assert } from "../../../base/assert.ts";
import type { BlockError } from "../../../base/errors.ts";
import { type Deferred, deferred, settleAll } from "../../../base/signals.ts";
import type { Attempt, Attempts } from "./attempts.ts";
import type { Pace } from "./pace.ts";
import type { Source } from "./range-source.ts";

interface Pending {
  readonly cluster: number;
  readonly arrival: Deferred<Uint8Array>;
  background: boolean;
  /** Put into the cache when it is there. */
  keep: boolean;
  started: boolean;
}

/** What the clusters come from and go through. */
export interface ClustersInit {
  source: Source;
  attempts: Attempts;
  clusterBytes: number;
  cacheBytes: number;
  readaheadBytes: number;
  connections: number;
  pace: Pace;
  /** Why a cluster's content is not what it must be; undefined if it is. */
  verify: (cluster: number, bytes: Uint8Array) => BlockError | undefined;
}

/** See the file's head. */
export class Clusters {
  readonly #init: ClustersInit;
  /** In order of use, the latest last. */
  readonly #cache = new Map<number, Uint8Array>();
  readonly #pending = new Map<number, Pending>();
  #active = 0;
  #activeBackground = 0;
  #dispatching = false;
  /** Where the last foreground read ended. */
  #lastEnd = -1;

  constructor(init: ClustersInit) {
    this.#init = init;
  }

  /** Puts a cluster that is known to be right into the cache. */
  store(cluster: number, bytes: Uint8Array): void {
    const { cacheBytes, clusterBytes } = this.#init;
    this.#cache.delete(cluster);
    this.#cache.set(cluster, bytes);
    const most = Math.floor(cacheBytes / clusterBytes);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= most) break;
      this.#cache.delete(oldest);
    }
  }

  /** Fills `buffer` from `offset`; the range lies within the disk. Undefined: it was all in the cache. */
  read(offset: number, buffer: Uint8Array, background: boolean): Promise<void> | undefined {
    const { clusterBytes } = this.#init;
    const end = offset + buffer.byteLength;
    const waits: Promise<void>[] = [];
    const came = new Map<number, Uint8Array>();
    for (let at = offset; at < end;) {
      const cluster = Math.floor(at / clusterBytes);
      const start = at - cluster * clusterBytes;
      const stop = Math.min(end, (cluster + 1) * clusterBytes);
      const into = buffer.subarray(at - offset, stop - offset);
      const cached = this.#cache.get(cluster);
      if (cached) {
        into.set(cached.subarray(start, start + into.byteLength));
        if (!background) this.store(cluster, cached);
      } else {
        const whole = into.byteLength === this.#length(cluster);
        const { arrival } = this.#want(cluster, { background, keep: !background || !whole });
        waits.push(
          arrival.promise.then((bytes) => {
            into.set(bytes.subarray(start, start + into.byteLength));
            came.set(cluster, bytes);
          }),
        );
      }
      at = stop;
    }
    if (!background) this.#readAhead(offset, end);
    return waits.length === 0 ? undefined : this.#arrived(waits, came);
  }

  /** Who reads again what has failed in part is sent the rest only. */
  async #arrived(waits: readonly Promise<void>[], came: ReadonlyMap<number, Uint8Array>): Promise<void> {
    try {
      await settleAll(waits);
    } catch (error) {
      for (const [cluster, bytes] of came) this.store(cluster, bytes);
      throw error;
    }
  }

  /** Bytes of a cluster: the last one may be short. */
  #length(cluster: number): number {
    const { clusterBytes, source } = this.#init;
    return Math.min(clusterBytes, source.size - cluster * clusterBytes);
  }

  #want(cluster: number, { background, keep }: { background: boolean; keep: boolean }): Pending {
    let pending = this.#pending.get(cluster);
    if (pending) {
      pending.background &&= background;
      pending.keep ||= keep;
    } else {
      pending = { cluster, arrival: deferred<Uint8Array>(), background, keep, started: false };
      // Read ahead, nobody may be waiting.
      pending.arrival.promise.catch(() => undefined);
      this.#pending.set(cluster, pending);
    }
    this.#dispatchSoon();
    return pending;
  }

  /** After a read that goes on where the last one ended, the next clusters are asked for. */
  #readAhead(offset: number, end: number): void {
    const { clusterBytes, readaheadBytes, source, cacheBytes } = this.#init;
    const sequential = offset === this.#lastEnd;
    this.#lastEnd = end;
    const ahead = Math.min(readaheadBytes, cacheBytes - clusterBytes);
    if (!sequential || ahead < clusterBytes) return;
    const stop = Math.min(source.size, end + ahead);
    for (let cluster = Math.ceil(end / clusterBytes); cluster * clusterBytes < stop; cluster++)
      if (!this.#cache.has(cluster)) this.#want(cluster, { background: true, keep: true });
  }

  /** Requests leave after the call that asks for clusters, so that its neighbours are joined. */
  #dispatchSoon(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    void Promise.resolve().then(() => {
      this.#dispatching = false;
      this.#dispatch();
    });
  }

  #dispatch(): void {
    const { connections, pace } = this.#init;
    while (this.#active < connections) {
      const most = pace.backgroundConnections(Math.max(1, connections - 1));
      const mayBackground = this.#activeBackground < most;
      const first = this.#next(false) ?? (mayBackground ? this.#next(true) : undefined);
      if (!first) return;
      void this.#send(this.#joined(first));
    }
  }

  /** The one that has waited longest. */
  #next(background: boolean): Pending | undefined {
    for (const pending of this.#pending.values())
      if (!pending.started && pending.background === background) return pending;
    return undefined;
  }

  /** It and its neighbours of the same kind, in the disk's order, as far as one request may reach. */
  #joined(first: Pending): Pending[] {
    const { source, clusterBytes, pace } = this.#init;
    const mostBytes = pace.pieceBytes(source.maxRequestBytes, first.background);
    const most = Math.max(1, Math.floor(mostBytes / clusterBytes));
    const run = [first];
    const neighbour = (cluster: number): Pending | undefined => {
      const pending = this.#pending.get(cluster);
      return pending && !pending.started && pending.background === first.background ? pending : undefined;
    };
    for (let at = neighbour(first.cluster + 1); at && run.length < most; at = neighbour(at.cluster + 1))
      run.push(at);
    for (let at = neighbour(first.cluster - 1); at && run.length < most; at = neighbour(at.cluster - 1))
      run.unshift(at);
    return run;
  }

  async #send(run: readonly Pending[]): Promise<void> {
    const { background } = run[0]!;
    for (const pending of run) {
      assert(!pending.started, "a cluster is asked for once");
      pending.started = true;
    }
    this.#active += 1;
    if (background) this.#activeBackground += 1;
    this.#init.pace.begin();
    try {
      await this.#fetch(run);
    } catch (error) {
      for (const pending of run) this.#settle(pending, error);
    } finally {
      this.#init.pace.end();
      this.#active -= 1;
      if (background) this.#activeBackground -= 1;
      this.#dispatchSoon();
    }
  }

  /** Fetches a run, and again what is not here yet, or not what it must be; what is right arrives in any case. */
  async #fetch(run: readonly Pending[]): Promise<void> {
    const { source, attempts, clusterBytes } = this.#init;
    await attempts.run(source.describe(run[0]!.cluster * clusterBytes), async (attempt) => {
      const isMissing = (pending: Pending): boolean => this.#pending.get(pending.cluster) === pending;
      const missing = run.slice(run.findIndex(isMissing), run.findLastIndex(isMissing) + 1);
      await this.#fetchOnce(missing, attempt);
    });
  }

  async #fetchOnce(run: readonly Pending[], attempt: Attempt): Promise<void> {
    const { source, clusterBytes, pace } = this.#init;
    const pieces = run.map(({ cluster }) => new Uint8Array(this.#length(cluster)));
    const arrived = (bytes: number): void => pace.arrived(bytes);
    const lost = (bytes: number): void => {
      const whole = Math.floor(bytes / clusterBytes);
      if (whole > 0) attempt.kept();
      this.#accept(run.slice(0, whole), pieces);
    };
    await source.fetch(attempt, run[0]!.cluster * clusterBytes, { pieces, arrived, lost });
    const wrong = this.#accept(run, pieces);
    if (wrong) throw wrong;
  }

  /** Hands out what is right; returns why the first other one is not. */
  #accept(run: readonly Pending[], pieces: readonly Uint8Array[]): BlockError | undefined {
    let wrong: BlockError | undefined;
    run.forEach((pending, i) => {
      const fault = this.#init.verify(pending.cluster, pieces[i]!);
      if (fault) wrong ??= fault;
      else this.#settle(pending, undefined, pieces[i]);
    });
    return wrong;
  }

  #settle(pending: Pending, error: unknown, bytes?: Uint8Array): void {
    if (this.#pending.get(pending.cluster) !== pending) return;
    this.#pending.delete(pending.cluster);
    if (!bytes) return pending.arrival.reject(error);
    if (pending.keep) this.store(pending.cluster, bytes);
    pending.arrival.resolve(bytes);
  }
}
