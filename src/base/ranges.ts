/**
 * Byte ranges: arithmetic on them and on alignments, and who works on which bytes. All values are safe integers; alignments are powers
 * of two or any integer >= 1.
 *
 * RangeLock holds ranges for a while, and others wait until theirs is free: copies, guest writes into clusters and requests of a port go
 * by it. RequestTracker knows which requests of a node are under way; a serialising one (read-modify-write, copy-on-read, a job that asks
 * for it) overlaps no other.
 *
 * Invariants: a range that is taken conflicts with none that is held (two conflict if they share a byte and one of them is exclusive); it
 * is added in the step in which it is found free, so nobody comes in between; whoever waits looks again. Of two requests that conflict,
 * one waits; one that waits is never waited for: it has done nothing yet, and looks again when it wakes, so nothing waits in a circle.
 * Sets are small (tens of ranges), hence plain scans.
 */
import { blockError } from "./errors.ts";
import { limits } from "./limits.ts";
import type { Answer } from "./answer.ts";
import { assert } from "./assert.ts";
import { type Deferred, deferred } from "./signals.ts";

/** `bytes` bytes from `offset`. */
export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/** Streams in a file that give a range, one after the other, when they are decompressed. */
export interface FileStreams {
  readonly format: "deflate" | "zstd";
  /** What each gives, bytes; all of it counts, but of the last. */
  readonly unit: number;
  /** Pairs: where a stream lies in the file, and the bytes that it is within. */
  readonly places: Float64Array;
}

/** What becomes of zeroes that are copied from file to file. */
export interface FileZeroes {
  /** Parts of so many bytes that hold zeroes only are looked for; 0: none are, zeroes are copied as data. */
  readonly granule: number;
  /**
   * Those are left unwritten, since the target reads as zeroes, but the copy stops where a part of so many bytes of the range has
   * nothing else. 0: it stops at any; Infinity: never. Otherwise the range's last granule is written whatever it holds.
   */
  readonly unit: number;
  /** Where the host can copy without reading, it does, zeroes as they are: they may then be shared, or stay on a server. Default false. */
  readonly offload?: boolean;
}

/** `value` rounded down to a multiple of `unit`. */
export function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

/** `value` rounded up to a multiple of `unit`. */
export function alignUp(value: number, unit: number): number {
  const rest = value % unit;
  return rest === 0 ? value : value + (unit - rest);
}

/** Whether `value` is a multiple of `unit`. */
export function isAligned(value: number, unit: number): boolean {
  return value % unit === 0;
}

/** Whether `value` is 2^k for an integer k >= 0. */
export function isPowerOfTwo(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 1 && Number.isInteger(Math.log2(value));
}

/** Throws EFBIG, by the limit's name, for a disk beyond what is held exactly. */
export function checkDiskLength(bytes: number | bigint, op: string): void {
  if (bytes <= limits.maxImageBytes) return;
  const message = `Image size ${bytes} is above ${limits.maxImageBytes} bytes (limits.maxImageBytes)`;
  throw blockError("EFBIG", op, message);
}

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

/** What kind of request is tracked. */
export type RequestKind = "read" | "write" | "discard" | "truncate";

/** One request under way. */
export class TrackedRequest {
  readonly kind: RequestKind;
  readonly offset: number;
  readonly bytes: number;
  /** The range that overlap checks look at; grows when the request becomes serialising. */
  overlapOffset: number;
  overlapBytes: number;
  serialising = false;
  /** Waits for another request, and so has not begun its work. */
  waiting = false;
  #ended: Deferred<void> | undefined;

  constructor(kind: RequestKind, offset: number, bytes: number) {
    this.kind = kind;
    this.offset = offset;
    this.bytes = bytes;
    this.overlapOffset = offset;
    this.overlapBytes = bytes;
  }

  /** Resolves when the request has ended. */
  ended(): Promise<void> {
    this.#ended ??= deferred();
    return this.#ended.promise;
  }

  /** Wakes whoever waits; called once by the tracker. */
  settle(): void {
    this.#ended?.resolve();
  }
}

/** The requests of one node. */
export class RequestTracker {
  readonly #requests = new Set<TrackedRequest>();
  #serialising = 0;

  /** Whether a request may have to wait for another. */
  get anySerialising(): boolean {
    return this.#serialising > 0;
  }

  /** The requests under way that change data. */
  *changes(): Iterable<ByteRange> {
    for (const request of this.#requests) if (request.kind !== "read") yield request;
  }

  /** Whether a request that is over at once, and so is not tracked, would have to wait. */
  inTheWay(offset: number, bytes: number): boolean {
    if (this.#serialising === 0) return false;
    for (const other of this.#requests)
      if (other.serialising && !other.waiting && !isApart(other, offset, bytes)) return true;
    return false;
  }

  begin(kind: RequestKind, offset: number, bytes: number): TrackedRequest {
    const request = new TrackedRequest(kind, offset, bytes);
    this.#requests.add(request);
    return request;
  }

  end(request: TrackedRequest): void {
    assert(this.#requests.delete(request), "a request has ended twice");
    if (request.serialising) this.#serialising -= 1;
    assert(this.#serialising >= 0, "more serialising requests ended than began");
    request.settle();
  }

  /**
   * Marks `request` as serialising over its range widened to `alignment`. Wait with `waitSerialising` afterwards. A
   * request that has begun its work must not be widened any more.
   */
  makeSerialising(request: TrackedRequest, alignment: number): void {
    const offset = alignDown(request.offset, alignment);
    const end = alignUp(request.offset + request.bytes, alignment);
    if (!request.serialising) {
      this.#serialising += 1;
      request.serialising = true;
    }
    const oldEnd = request.overlapOffset + request.overlapBytes;
    request.overlapOffset = Math.min(request.overlapOffset, offset);
    request.overlapBytes = Math.max(oldEnd, end) - request.overlapOffset;
  }

  /** Waits until no conflicting request that has begun overlaps. With `noWait`, EBUSY instead of waiting. */
  async waitSerialising(request: TrackedRequest, noWait = false): Promise<void> {
    if (this.#serialising === 0) return;
    for (let other = this.#conflict(request); other; other = this.#conflict(request)) {
      if (noWait) throw blockError("EBUSY", "pwrite");
      request.waiting = true;
      await other.ended();
      request.waiting = false;
    }
  }

  #conflict(request: TrackedRequest): TrackedRequest | undefined {
    for (const other of this.#requests) {
      if (other === request || other.waiting || (!request.serialising && !other.serialising)) continue;
      if (!isApart(other, request.overlapOffset, request.overlapBytes)) return other;
    }
    return undefined;
  }
}

function isApart({ overlapOffset, overlapBytes }: TrackedRequest, offset: number, bytes: number): boolean {
  return overlapOffset + overlapBytes <= offset || offset + bytes <= overlapOffset;
}
