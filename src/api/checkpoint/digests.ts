/**
 * Digests of what a target holds, by regions, so that whoever goes on in another process knows that nobody has changed it. What is not
 * copied yet counts as zeroes.
 *
 * Invariant: a digest depends on the content alone, not on how it is stored: holes are not read, and count as the zeroes they are.
 */
import type { Child } from "../../block/model/node.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import type { Kernels } from "../../kernels/kernels.ts";
import { MiB } from "../../base/limits.ts";

const PIECE = MiB;
/** How far the block status is asked for ahead, bytes. */
const STATUS_REACH = 1024 * MiB;
/** Regions of a disk at most. */
const MOST_REGIONS = 65536;
/** Granules in a region at least: a byte of the table. */
const LEAST_GRANULES = 8;

/** Bytes that one digest is of, for a disk of that length in granules of those bytes: a power of two. */
export function regionBytes(length: number, granularity: number): number {
  const least = Math.max(granularity * LEAST_GRANULES, length / MOST_REGIONS, 1);
  return 2 ** Math.ceil(Math.log2(least));
}

/** What is looked at. */
export interface DigestSource {
  /** With the right to read. */
  readonly edge: Child;
  readonly kernels: Kernels;
  /** Bytes. */
  readonly length: number;
  readonly granularity: number;
  readonly region: number;
}

/** Takes digests of one target. */
export class Digester {
  readonly #from: DigestSource;
  readonly #buffer = new Uint8Array(PIECE);
  readonly #zeroes = new Map<number, bigint>();
  /** An extent of zeroes, or of what is to be read, that is known. */
  #known = { offset: 0, end: 0, zero: false };

  constructor(from: DigestSource) {
    this.#from = from;
  }

  /** Regions of the disk. */
  get regions(): number {
    const { length, region } = this.#from;
    return Math.ceil(length / region);
  }

  /** The bytes of a table of granules that are a region's. */
  bitsOf(table: Uint8Array, at: number): Uint8Array {
    const each = this.#from.region / this.#from.granularity / 8;
    return table.subarray(at * each, (at + 1) * each);
  }

  /** What is known of the block status may be old by now. */
  forget(): void {
    this.#known = { offset: 0, end: 0, zero: false };
  }

  /** The digest of a region, with the granules that `outstanding` names as zeroes; 0: all of it is outstanding. */
  async digest(at: number, outstanding: Uint8Array): Promise<bigint> {
    const { kernels, length, region } = this.#from;
    const begin = at * region;
    const end = Math.min(length, begin + region);
    if (this.#isOutstanding(outstanding, begin, end)) return 0n;
    const parts = new DataView(new ArrayBuffer(Math.ceil((end - begin) / PIECE) * 8));
    for (let from = begin, i = 0; from < end; from += PIECE, i++) {
      const part = await this.#piece(from, Math.min(PIECE, end - from), outstanding);
      parts.setBigUint64(i * 8, part, true);
    }
    return kernels.xxh3(new Uint8Array(parts.buffer)) || 1n;
  }

  async #piece(offset: number, bytes: number, outstanding: Uint8Array): Promise<bigint> {
    if (this.#isOutstanding(outstanding, offset, offset + bytes)) return this.#ofZeroes(bytes);
    if (await this.#isZero(offset, bytes)) return this.#ofZeroes(bytes);
    const { edge, kernels, granularity } = this.#from;
    const piece = this.#buffer.subarray(0, bytes);
    await edge.pread(offset, piece);
    for (let at = offset; at < offset + bytes;) {
      const next = Math.min((Math.floor(at / granularity) + 1) * granularity, offset + bytes);
      if (isSet(outstanding, Math.floor(at / granularity))) piece.fill(0, at - offset, next - offset);
      at = next;
    }
    return kernels.xxh3(piece);
  }

  #isOutstanding(outstanding: Uint8Array, begin: number, end: number): boolean {
    const { granularity } = this.#from;
    const last = Math.ceil(end / granularity);
    for (let bit = Math.floor(begin / granularity); bit < last; bit++)
      if (!isSet(outstanding, bit)) return false;
    return true;
  }

  async #isZero(offset: number, bytes: number): Promise<boolean> {
    const { edge, length } = this.#from;
    if (offset < this.#known.offset || offset >= this.#known.end) {
      const asked = Math.min(STATUS_REACH, length - offset);
      const status = await blockStatusAbove(edge.node, offset, asked);
      this.#known = { offset, end: offset + Math.max(status.bytes, 1), zero: status.zero };
    }
    return this.#known.zero && offset + bytes <= this.#known.end;
  }

  #ofZeroes(bytes: number): bigint {
    let digest = this.#zeroes.get(bytes);
    if (digest === undefined)
      this.#zeroes.set(bytes, (digest = this.#from.kernels.xxh3(new Uint8Array(bytes))));
    return digest;
  }
}

function isSet(table: Uint8Array, bit: number): boolean {
  return ((table[bit >> 3] ?? 0) & (1 << (bit & 7))) !== 0;
}
