/**
 * Walks the dirty extents of a copy's bitmap, many fetched by one kernel call. Others change the bitmap meanwhile: the
 * batch is dropped when they did, so that no extent is ever handed out that someone else has taken.
 */
import { assert } from "../../base/assert.ts";
import type { ByteRange } from "../../base/ranges.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";

const BATCH = 64;

/** What a cursor needs of a BlockCopy. */
interface DirtySource {
  readonly bitmap: Bitmap;
  readonly generation: number;
  markClean(range: ByteRange): void;
}

/** A position in the dirty extents of a range, lowest first. */
export class DirtyCursor {
  readonly #source: DirtySource;
  readonly #end: number;
  readonly #start: number;
  readonly #pairs = new Float64Array(2 * BATCH);
  #count = 0;
  #index = 0;
  #at: number;
  #generation = -1;

  constructor(source: DirtySource, range: ByteRange) {
    this.#source = source;
    this.#start = range.offset;
    this.#end = range.offset + range.bytes;
    this.#at = this.#start;
  }

  /** Begins again at the range's start. */
  rewind(): void {
    this.#at = this.#start;
    this.#generation = -1;
  }

  /** The next dirty extent; undefined at the end. */
  peek(): ByteRange | undefined {
    if (this.#generation !== this.#source.generation || this.#index >= this.#count) this.#fetch();
    if (this.#index >= this.#count) return undefined;
    return { offset: this.#pairs[2 * this.#index]!, bytes: this.#pairs[2 * this.#index + 1]! };
  }

  /** Takes a beginning of what peek() just returned: its bits are cleared and the cursor goes behind it. */
  take(range: ByteRange): void {
    const [at, bytes] = [this.#pairs[2 * this.#index]!, this.#pairs[2 * this.#index + 1]!];
    assert(range.offset === at && range.bytes > 0 && range.bytes <= bytes, "what is taken was not shown");
    const fresh = this.#generation === this.#source.generation;
    this.#source.markClean(range);
    if (fresh) this.#generation = this.#source.generation;
    this.#at = range.offset + range.bytes;
    const left = bytes - range.bytes;
    if (left > 0) {
      this.#pairs[2 * this.#index] = this.#at;
      this.#pairs[2 * this.#index + 1] = left;
    } else {
      this.#index += 1;
    }
  }

  #fetch(): void {
    this.#count =
      this.#at < this.#end ? this.#source.bitmap.writeExtents(this.#at, this.#end, this.#pairs) : 0;
    assert(this.#count * 2 <= this.#pairs.length, "extents fit their list");
    this.#index = 0;
    this.#generation = this.#source.generation;
  }
}
