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

/** The size of the next chunk. */
export class ChunkSize {
  /** Bytes of the smallest. */
  readonly least: number;
  readonly #most: number;
  #bytes: number;

  /** Chunks have `least` bytes at first, and at most `most`, which is that doubled a few times. */
  constructor(least: number, most = Math.max(least, maxChunkBytes)) {
    this.least = least;
    this.#most = most;
    this.#bytes = least;
  }

  /** Bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A chunk of so many bytes was copied within `ms`. */
  took(bytes: number, ms: number): void {
    assert(bytes > 0 && bytes <= this.#most && ms >= 0, "a chunk that is none was timed");
    if (bytes >= this.#bytes && ms < SHORT_MS) this.#bytes = Math.min(2 * this.#bytes, this.#most);
    else if (ms > LONG_MS) this.#bytes = Math.max(this.#bytes / 2, this.least);
  }
}
