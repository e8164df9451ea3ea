/**
 * Digests of a run: 64 bits of XXH3, as 16 hexadecimal digits. They say that two runs did the same: the requests of all workers in
 * the order of their numbers (not of time), the data that was written likewise, and the disk as it is at the end.
 */
import type { BlockNode } from "../../block/model/node.ts";
import type { BlockBackend } from "../../block/graph/backend.ts";
import { blockStatusAbove } from "../../block/io/status.ts";
import type { Kernels } from "../../kernels/kernels.ts";

/** A digest of what comes in pieces: of each full buffer and the digest before it. */
export class Digest {
  readonly #kernels: Kernels;
  readonly #bytes = new Uint8Array(64 * 1024);
  readonly #view = new DataView(this.#bytes.buffer);
  #used = 8;

  constructor(kernels: Kernels) {
    this.#kernels = kernels;
  }

  /** Adds a whole number, 0 … 2^53-1. */
  number(value: number): void {
    if (this.#used + 8 > this.#bytes.length) this.#fold();
    this.#view.setUint32(this.#used, value >>> 0, true);
    this.#view.setUint32(this.#used + 4, Math.floor(value / 2 ** 32), true);
    this.#used += 8;
  }

  /** Adds 64 bits. */
  word(value: bigint): void {
    if (this.#used + 8 > this.#bytes.length) this.#fold();
    this.#view.setBigUint64(this.#used, value, true);
    this.#used += 8;
  }

  /** The digest so far. */
  get value(): bigint {
    return this.#kernels.xxh3(this.#bytes.subarray(0, this.#used));
  }

  #fold(): void {
    const value = this.#kernels.xxh3(this.#bytes.subarray(0, this.#used));
    this.#view.setBigUint64(0, value, true);
    this.#used = 8;
  }
}

/** A digest in text. */
export function hex(value: bigint): string {
  return value.toString(16).padStart(16, "0");
}

/** Bytes that are hashed at once; those that are all zero are left out, allocated or not. */
export const GRANULE = 64 * 1024;

/** The granules of a disk that may hold data, in order. */
export async function* dataGranules(node: BlockNode, length: number): AsyncGenerator<number> {
  for (let at = 0; at < length;) {
    const found = await blockStatusAbove(node, at, length - at);
    const end = at + found.bytes;
    if (found.zero) at = end;
    // The granule in which the run begins may have been told already; every granule that it touches is looked at.
    else for (; at < end; at = (Math.floor(at / GRANULE) + 1) * GRANULE) yield Math.floor(at / GRANULE);
  }
}

/** The digest of all that a disk holds, the same for each way to store it. */
export async function diskDigest(
  backend: BlockBackend,
  kernels: Kernels,
  signal?: AbortSignal,
): Promise<bigint> {
  const { length, node } = backend;
  const digest = new Digest(kernels);
  const buffer = new Uint8Array(GRANULE);
  digest.number(length);
  let last = -1;
  for await (const granule of dataGranules(node!, length)) {
    if (granule <= last) continue;
    last = granule;
    signal?.throwIfAborted();
    const bytes = buffer.subarray(0, Math.min(GRANULE, length - granule * GRANULE));
    await backend.pread(granule * GRANULE, bytes);
    if (kernels.isZero(bytes)) continue;
    digest.number(granule);
    digest.word(kernels.xxh3(bytes));
  }
  return digest.value;
}
