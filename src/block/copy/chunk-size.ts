/**
 * How large the chunks are that a job copies at once: small at first, so that a slow disk holds up neither a pause nor a guest's
 * request for long, and larger while they take little time: what is done for each then costs more than its bytes.
 */
import { assert } from "../../base/assert.ts";
import { MiB } from "../../base/limits.ts";

/** Most bytes of any chunk. */
export const maxChunkBytes = 4 * MiB;

/** A chunk that took less time is followed by larger ones, one that took more by smaller ones, ms. */
const SHORT_MS = 25;
const LONG_MS = 100;
/** One that took longer comes over a slow link: what a guest waits for may lie in it. */
const SLOW_MS = 1000;

/** The size of the next chunk. */
export class ChunkSize {
  /** Bytes of the smallest, slow links apart. */
  readonly least: number;
  readonly #floor: number;
  readonly #most: number;
  /** Bytes; took() changes it. */
  bytes: number;
  /** Whether several may be under way: not before took() knows how long one takes, nor over a slow link. */
  allowsSeveral = false;

  /** Chunks have `least` bytes at first, over slow links down to `floor`, and at most `most`, which is `least` doubled a few times. */
  constructor(least: number, floor = least, most = Math.max(least, maxChunkBytes)) {
    this.least = least;
    this.#floor = floor;
    this.#most = most;
    this.bytes = least;
  }

  /** A chunk of so many bytes was copied within `ms`. */
  took(bytes: number, ms: number): void {
    assert(bytes > 0 && bytes <= this.#most && ms >= 0, "a chunk that is none was timed");
    if (ms > SLOW_MS) this.bytes = Math.max(this.bytes / 4, this.#floor);
    else if (this.bytes < this.least) this.bytes *= ms < SLOW_MS / 2 ? 2 : 1;
    else if (bytes >= this.bytes && ms < SHORT_MS) this.bytes = Math.min(2 * this.bytes, this.#most);
    else if (ms > LONG_MS) this.bytes = Math.max(this.bytes / 2, this.least);
    this.allowsSeveral = this.bytes >= this.least;
  }
}
