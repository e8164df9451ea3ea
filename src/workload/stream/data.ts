/**
 * What is written: blocks that are noise, noise with a part that compresses away, a repeat of one of a few others, or zero. Which
 * they are follows from the seed, the worker and the number of the block that it writes.
 */
import type { Kernels } from "../../kernels/kernels.ts";
import type { NoiseKey } from "../../kernels/twin-noise.ts";
import type { DataShape } from "../model/plan.ts";
import { Draws, streamKey } from "../random/noise.ts";

/** Fills the buffers of one worker's writes, in their order. */
export class DataSource {
  readonly #kernels: Kernels;
  readonly #shape: DataShape;
  readonly #choices: Draws;
  readonly #key: NoiseKey;
  readonly #poolKey: NoiseKey;
  /** Words given out so far. */
  #next = 0;

  constructor(
    shape: DataShape,
    { seed, worker, kernels }: { seed: number; worker: number; kernels: Kernels },
  ) {
    this.#kernels = kernels;
    this.#shape = shape;
    this.#choices = new Draws(kernels, streamKey(seed, worker, "blocks"));
    this.#key = streamKey(seed, worker, "data");
    // Repeated blocks are the same for all workers.
    this.#poolKey = streamKey(seed, 0, "pool");
  }

  /** Fills a buffer with what is written next. */
  fill(buffer: Uint8Array): void {
    const { compressPercent, duplicatePercent, zeroPercent, blockBytes } = this.#shape;
    if (compressPercent === 0 && duplicatePercent === 0 && zeroPercent === 0) return this.#noise(buffer);
    for (let at = 0; at < buffer.length; at += blockBytes)
      this.#fillBlock(buffer.subarray(at, at + blockBytes));
  }

  #fillBlock(block: Uint8Array): void {
    const { duplicatePercent, zeroPercent, pool, blockBytes } = this.#shape;
    const drawn = this.#choices.fraction() * 100;
    if (drawn < zeroPercent) return void block.fill(0);
    if (drawn >= zeroPercent + duplicatePercent)
      return this.#compressible(block, (part) => this.#noise(part));
    const first = this.#choices.below(pool) * Math.ceil(blockBytes / 4);
    this.#compressible(block, (part) => this.#kernels.noise(part, this.#poolKey, first));
  }

  /** The end of a block is what compresses away; at least a sector's number of bytes tells blocks apart. */
  #compressible(block: Uint8Array, make: (part: Uint8Array) => void): void {
    const share = Math.ceil((block.length * (100 - this.#shape.compressPercent)) / 100);
    const kept = Math.min(block.length, Math.max(16, Math.ceil(share / 4) * 4));
    make(block.subarray(0, kept));
    block.fill(0, kept);
  }

  #noise(part: Uint8Array): void {
    this.#kernels.noise(part, this.#key, this.#next);
    this.#next = (this.#next + Math.ceil(part.length / 4)) >>> 0;
  }
}
