/**
 * Who works on which bytes: ranges that are held for a while, and how others wait until theirs is free. Copies, guest writes
 * into clusters and requests of a port all go by it. (Requests of a node have a tracker of their own, since there a request
 * that waits is not waited for: block/model/request.ts.)
 *
 * Invariants: a range that is taken conflicts with none that is held (two conflict if they share a byte and one of them is
 * exclusive); it is added in the step in which it is found free, so nobody comes in between; whoever waits looks again.
 * Sets are small (tens of ranges), hence plain scans.
 */
import type { Answer } from "./answer.ts";
import { assert } from "./assert.ts";
import type { ByteRange } from "./ranges.ts";
import { type Deferred, deferred } from "./signals.ts";

/** A range that somebody holds. */
export class HeldRange implements ByteRange {
  readonly offset: number;
  /** Infinity: all from the offset on. */
  readonly bytes: number;
  readonly exclusive: boolean;
  #ended: Deferred<void> | undefined;

  constructor(offset: number, bytes: number, exclusive: boolean) {
    this.offset = offset;
    this.bytes = bytes;
    this.exclusive = exclusive;
  }

  /** Resolves when it is given back. */
  ended(): Promise<void> {
    this.#ended ??= deferred();
    return this.#ended.promise;
  }

  /** Wakes whoever waits; called once by the lock. */
  settle(): void {
    this.#ended?.resolve();
  }
}

/** The ranges held of one thing. */
export class RangeLock {
  readonly #held = new Set<HeldRange>();

  /** Ranges held. */
  get size(): number {
    return this.#held.size;
  }

  /** The ranges held, in the order in which they were added. */
  get ranges(): ByteRange[] {
    return [...this.#held].map(({ offset, bytes }) => ({ offset, bytes }));
  }

  /** Bytes held, those that are held twice counted twice. */
  get bytes(): number {
    let sum = 0;
    for (const { bytes } of this.#held) sum += bytes;
    return sum;
  }

  /** Holds a range whoever else does: its user knows that nobody minds. Give the result to end(). */
  add({ offset, bytes }: ByteRange): HeldRange {
    return this.#hold(offset, bytes, true);
  }

  /** Holds a range together with others that share it; undefined, at once, where one that is exclusive is in the way. */
  tryShared(offset: number, bytes: number): HeldRange | undefined {
    return this.#conflict(offset, bytes, false) ? undefined : this.#hold(offset, bytes, false);
  }

  /** Holds a range alone; at once, if nobody is in the way. */
  exclusive(offset: number, bytes: number): Answer<HeldRange> {
    const other = this.#conflict(offset, bytes, true);
    if (!other) return this.#hold(offset, bytes, true);
    return other.ended().then(() => this.exclusive(offset, bytes));
  }

  /**
   * Holds a range when all that came before and conflict have ended, those that still wait among them: the order of the calls
   * is the order of effects. The lock must not be used by exclusive() or tryShared() beside it.
   */
  async inTurn({ offset, bytes, exclusive }: ByteRange & { exclusive: boolean }): Promise<HeldRange> {
    const before: Promise<void>[] = [];
    for (const other of this.#held) if (conflict(other, offset, bytes, exclusive)) before.push(other.ended());
    const held = this.#hold(offset, bytes, exclusive);
    for (const ended of before) await ended;
    return held;
  }

  /** Gives a range back, once, and wakes those who wait for it. */
  end(held: HeldRange): void {
    assert(this.#held.delete(held), "a range was given back twice");
    held.settle();
  }

  /** Whether a range that is held shares a byte with this one. */
  overlaps({ offset, bytes }: ByteRange): boolean {
    return this.#conflict(offset, bytes, true) !== undefined;
  }

  /** Waits for one overlapping range to end; false, at once, where none overlaps. */
  async waitOne({ offset, bytes }: ByteRange): Promise<boolean> {
    const other = this.#conflict(offset, bytes, true);
    if (!other) return false;
    await other.ended();
    return true;
  }

  /** Waits until no range overlaps. When the caller goes on, others may have taken one: see exclusive(). */
  async waitOverlap(range: ByteRange): Promise<void> {
    while (await this.waitOne(range));
  }

  #hold(offset: number, bytes: number, exclusive: boolean): HeldRange {
    const held = new HeldRange(offset, bytes, exclusive);
    this.#held.add(held);
    return held;
  }

  #conflict(offset: number, bytes: number, exclusive: boolean): HeldRange | undefined {
    for (const other of this.#held) if (conflict(other, offset, bytes, exclusive)) return other;
    return undefined;
  }
}

function conflict(other: HeldRange, offset: number, bytes: number, exclusive: boolean): boolean {
  return (
    (exclusive || other.exclusive) && other.offset < offset + bytes && offset < other.offset + other.bytes
  );
}
