/**
 * Request tracking: which requests of a node are under way, and the rule that a serialising request (read-modify-write,
 * copy-on-read, a job that asks for it) overlaps no other request.
 *
 * Invariant: of two requests that conflict, one waits. A request that waits is never waited for: it has done nothing
 * yet, and looks for conflicts again when it wakes; so nothing waits in a circle.
 */
import { assert } from "../../base/assert.ts";
import { blockError } from "../../base/errors.ts";
import { alignDown, alignUp } from "../../base/ranges.ts";
import { type Deferred, deferred } from "../../base/signals.ts";

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
