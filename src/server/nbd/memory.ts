/**
 * The memory of one server for the data of requests: buffers out of a pool, of a bounded sum.
 *
 * Invariants: what is lent and what lies in the pool together are at most `nbdServerBytes`, but for one small buffer of each
 * connection, so that a client that reads nothing can't keep the others from going on; whoever waits is served in turn.
 * A buffer has room for a reply's head before its data, so that both leave in one write.
 */
import type { Answer } from "../../base/answer.ts";
import { assert } from "../../base/assert.ts";
import { KiB, limits } from "../../base/limits.ts";
import { deferred } from "../../base/signals.ts";

/** Bytes before the data: the head of a chunk with its offset, and what makes the data begin at a multiple of 8. */
export const HEAD_ROOM = 32;
/** Bytes of data that a connection may always have in memory. */
const OWN_BYTES = 64 * KiB;
/** Smallest buffer. */
const LEAST_BYTES = 4 * KiB;
/** Larger ones are not kept. */
const MOST_KEPT_BYTES = 1024 * KiB;

/** A buffer that is lent. */
export class Loan {
  readonly #whole: Uint8Array;
  readonly #giveBack: () => void;
  #given = false;
  /** Room for data, of the length asked for. */
  readonly data: Uint8Array;

  constructor(whole: Uint8Array, bytes: number, giveBack: () => void) {
    this.#whole = whole;
    this.#giveBack = giveBack;
    this.data = whole.subarray(HEAD_ROOM, HEAD_ROOM + bytes);
  }

  /** The first `bytes` of the data with a head before them, in one piece. */
  headed(head: Uint8Array, bytes: number): Uint8Array {
    const start = HEAD_ROOM - head.byteLength;
    this.#whole.set(head, start);
    return this.#whole.subarray(start, HEAD_ROOM + bytes);
  }

  /** Gives it back, once; nobody may look at it any more. */
  end(): void {
    assert(!this.#given, "a buffer is given back twice");
    this.#given = true;
    this.#giveBack();
  }
}

/** Who borrows: a connection. */
export interface Borrower {
  /** It has its own small buffer out. */
  usesOwn: boolean;
}

interface Waiter {
  readonly size: number;
  grant(): void;
}

/** The buffers of a server. */
export class ServerMemory {
  readonly #total: number;
  readonly #pool = new Map<number, Uint8Array[]>();
  readonly #waiting: Waiter[] = [];
  /** Bytes lent and bytes kept. */
  #lent = 0;
  #kept = 0;

  constructor(total: number = limits.nbdServerBytes) {
    this.#total = total;
  }

  /** Bytes of what is lent and kept, without the connections' own buffers. */
  get bytes(): number {
    return this.#lent + this.#kept;
  }

  /** Lends a buffer for `bytes` of data; it may have to be waited for. One that is larger than all there is waits until all is back. */
  borrow(bytes: number, borrower: Borrower): Answer<Loan> {
    const size = sizeFor(bytes);
    if (this.#waiting.length === 0 && this.#hasRoom(size)) return this.#lend(size, bytes);
    if (bytes <= OWN_BYTES && !borrower.usesOwn) return ownBuffer(bytes, borrower);
    const turn = deferred<Loan>();
    this.#waiting.push({ size, grant: () => turn.resolve(this.#lend(size, bytes)) });
    return turn.promise;
  }

  #hasRoom(size: number): boolean {
    return this.#lent + size <= this.#total || this.#lent === 0;
  }

  #lend(size: number, bytes: number): Loan {
    const whole = this.#fromPool(size) ?? new Uint8Array(HEAD_ROOM + size);
    this.#lent += size;
    this.#shrinkPool();
    return new Loan(whole, bytes, () => this.#takeBack(whole, size));
  }

  #fromPool(size: number): Uint8Array | undefined {
    const kept = this.#pool.get(size)?.pop();
    if (kept) this.#kept -= size;
    return kept;
  }

  #takeBack(whole: Uint8Array, size: number): void {
    this.#lent -= size;
    if (size <= MOST_KEPT_BYTES && this.#lent + this.#kept + size <= this.#total) {
      const shelf = this.#pool.get(size);
      if (shelf) shelf.push(whole);
      else this.#pool.set(size, [whole]);
      this.#kept += size;
    }
    for (let next = this.#waiting[0]; next && this.#hasRoom(next.size); next = this.#waiting[0]) {
      this.#waiting.shift();
      next.grant();
    }
  }

  /** Lets go of what is kept beyond the sum. */
  #shrinkPool(): void {
    for (const [size, shelf] of this.#pool)
      while (this.#lent + this.#kept > this.#total && shelf.pop()) this.#kept -= size;
  }
}

/** The next power of two. */
function sizeFor(bytes: number): number {
  let size = LEAST_BYTES;
  while (size < bytes) size *= 2;
  return size;
}

function ownBuffer(bytes: number, borrower: Borrower): Loan {
  borrower.usesOwn = true;
  return new Loan(new Uint8Array(HEAD_ROOM + bytes), bytes, () => (borrower.usesOwn = false));
}
