/**
 * The I/O arena: slots of page-aligned memory that requests read into and write from, in the kernels' own memory, so
 * that nothing is copied in between.
 *
 * Invariants: the memory has its full size from the start and is never detached. A slot belongs to its holder from
 * acquire to release. Waiters are served strictly in order: a small request never passes a large one that waits, so
 * none starves. Memory is thereby bounded, and waiting for a slot is the backpressure of the data path.
 *
 * Nobody acquires within a request. Who issues one may hold slots already, and waiters are served in order: a request that
 * waited for memory could wait for the one who waits for it. So what a request
 * is made of (block/io, drivers) sees the arena as RequestMemory, and test/tidy holds that none of it calls acquire().
 */
import { dispose } from "../base/lease.ts";
import { assert } from "../base/assert.ts";
import { BlockError } from "../base/errors.ts";
import { KiB } from "../base/limits.ts";
import { onAbort } from "../base/signals.ts";
import type { KernelArea } from "./kernels.ts";
import { Spans } from "./simd.ts";

/** Slots start at multiples of this many bytes (of the memory, so they are fit for O_DIRECT). */
export const ARENA_PAGE = 4 * KiB;

/** Memory out of the arena. */
export interface Slot {
  /** Exactly the bytes asked for; their content is whatever the last holder left. Not to be used after release(). */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Gives the memory back. A second call is a programmer error (AssertionError). */
  release(): void;
  /** As release(), so that a slot can be held by `using`. */
  [dispose](): void;
}

/** The arena as a node's requests see it: they take what is free, and do without (on the heap) where nothing is. */
export interface RequestMemory {
  /** Size of the arena, bytes. */
  readonly size: number;
  /** See Arena.tryAcquire(). */
  tryAcquire(bytes: number): Slot | undefined;
}

interface Waiter {
  readonly bytes: number;
  readonly grant: (slot: Slot) => void;
}

/** Hands out slots of a KernelArea. */
export class Arena implements RequestMemory {
  readonly #area: KernelArea;
  readonly #spans: Spans;
  readonly #waiters = new Set<Waiter>();
  #peak = 0;

  /** `from.area` is the memory; one arena only may be made of it. */
  constructor(from: { readonly area: KernelArea }) {
    this.#area = from.area;
    assert(this.#area.start % ARENA_PAGE === 0, "the arena is not page-aligned");
    this.#spans = new Spans(Math.floor(this.#area.bytes / ARENA_PAGE));
  }

  /** Size of the arena, and so of the largest slot, bytes. */
  get size(): number {
    return this.#spans.total * ARENA_PAGE;
  }

  /** Bytes that slots hold now, in whole pages. */
  get inUse(): number {
    return (this.#spans.total - this.#spans.free) * ARENA_PAGE;
  }

  /** The most that inUse ever was. */
  get peak(): number {
    return this.#peak;
  }

  /** Requests that wait. */
  get waiting(): number {
    return this.#waiters.size;
  }

  /** A slot if one can be had at once and nobody waits for one. BlockError ENOMEM when it could never be had. */
  tryAcquire(bytes: number): Slot | undefined {
    this.#check(bytes);
    return this.#waiters.size > 0 ? undefined : this.#take(bytes);
  }

  /**
   * A slot of `bytes` (0 … size), as soon as all requests before this one have theirs. Rejects with BlockError ENOMEM
   * when it could never be had, and with `signal.reason` when the signal aborts while it waits.
   */
  async acquire(bytes: number, signal?: AbortSignal): Promise<Slot> {
    signal?.throwIfAborted();
    return this.tryAcquire(bytes) ?? (await this.#queue(bytes, signal));
  }

  #check(bytes: number): void {
    assert(Number.isSafeInteger(bytes) && bytes >= 0, "the size of a slot is no length");
    if (Math.max(bytes, 1) <= this.size) return;
    const message = `${bytes} bytes do not fit into the I/O arena of ${this.size}`;
    throw new BlockError({ code: "ENOMEM", op: "arena", message, bytes });
  }

  #queue(bytes: number, signal: AbortSignal | undefined): Promise<Slot> {
    return new Promise((resolve, reject) => {
      const forget = onAbort(signal, () => {
        this.#waiters.delete(waiter);
        reject(signal!.reason as Error);
        // What stood behind it may fit now.
        this.#serve();
      });
      const grant = (slot: Slot): void => {
        forget();
        resolve(slot);
      };
      const waiter: Waiter = { bytes, grant };
      this.#waiters.add(waiter);
    });
  }

  #take(bytes: number): Slot | undefined {
    const units = Math.max(1, Math.ceil(bytes / ARENA_PAGE));
    const unit = this.#spans.take(units);
    if (unit < 0) return undefined;
    this.#peak = Math.max(this.#peak, this.inUse);
    const view = new Uint8Array(this.#area.buffer, this.#area.start + unit * ARENA_PAGE, bytes);
    let held = true;
    const release = (): void => {
      assert(held, "arena slot released twice");
      held = false;
      this.#spans.give(unit, units);
      this.#serve();
    };
    return { bytes: view, release, [dispose]: release };
  }

  /** Serves waiters in order, up to the first that does not fit. */
  #serve(): void {
    for (const waiter of this.#waiters) {
      const slot = this.#take(waiter.bytes);
      if (!slot) return;
      this.#waiters.delete(waiter);
      waiter.grant(slot);
    }
  }
}
