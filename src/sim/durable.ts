/**
 * What a guest's disk may show after a power cut: what its last flush covered, or anything that was asked for since, sector by
 * sector.
 */
import { Model } from "./model.ts";

const SECTOR = 512;

/** A change that the guest has asked for, until a flush covers it. */
export interface Change {
  readonly offset: number;
  readonly bytes: number;
  /** What it writes; undefined: nobody knows (it failed, or was a discard of an image that shows its backing file again). */
  data: Uint8Array | undefined;
  done: boolean;
}

/** The expectation of one disk. */
export class Durable {
  readonly #base: Model;
  #pending: Change[] = [];

  /** `base`: what the disk shows now, all of it durable. */
  constructor(base: Model) {
    this.#base = base.copy();
  }

  /** A change begins; the caller sets `done` when it has ended. */
  begin(change: Omit<Change, "done">): Change {
    const added = { ...change, done: false };
    this.#pending.push(added);
    return added;
  }

  /** What a flush that begins now covers. */
  mark(): ReadonlySet<Change> {
    return new Set(this.#pending.filter(({ done }) => done));
  }

  /** The flush with this mark has ended. */
  flushed(mark: ReadonlySet<Change>): void {
    for (const change of this.#pending) {
      if (!mark.has(change)) continue;
      if (change.data) this.#base.write(change.offset, change.data);
      else this.#base.forget(change.offset, change.bytes);
    }
    this.#pending = this.#pending.filter((change) => !mark.has(change));
  }

  /** The first offset at which `content` is neither as it was flushed nor as it was written since; -1: there is none. */
  difference(content: Uint8Array): number {
    for (let at = 0; at < content.byteLength; at += SECTOR) {
      const shown = content.subarray(at, at + SECTOR);
      if (this.#base.difference(at, shown) >= 0 && !this.#isPending(at, shown)) return at;
    }
    return -1;
  }

  #isPending(at: number, shown: Uint8Array): boolean {
    return this.#pending.some(({ offset, bytes, data }) => {
      if (offset + bytes <= at || at + shown.byteLength <= offset) return false;
      const whole = offset <= at && at + shown.byteLength <= offset + bytes;
      if (!data || !whole) return true;
      return new Model(data.subarray(at - offset, at - offset + shown.byteLength)).difference(0, shown) < 0;
    });
  }
}
