/**
 * Streams of random numbers of a run, each with a name of its own: what one stream draws never moves another, so that a think
 * time more leaves the offsets as they are. The words come from the kernel `noise`; all else is integers, + − × ÷ and the
 * logarithm of log-exp.ts, which every engine computes alike.
 */
import type { Kernels } from "../../kernels/kernels.ts";
import type { NoiseKey } from "../../kernels/twin-noise.ts";
import { ln } from "./log-exp.ts";

/** Words made at once. */
const BATCH = 256;

/** The key of the stream `name` of worker `worker` under `seed` (a whole number below 2^53). */
export function streamKey(seed: number, worker: number, name: string): NoiseKey {
  let low = 0x811c9dc5 ^ (seed >>> 0);
  let high = (Math.floor(seed / 2 ** 32) ^ Math.imul(worker + 1, 0x9e3779b1)) | 0;
  for (let i = 0; i < name.length; i++) {
    low = Math.imul(low ^ name.charCodeAt(i), 0x01000193);
    high = Math.imul(high ^ (low >>> 13), 0x85ebca6b);
  }
  return { low: low >>> 0, high: high >>> 0 };
}

/** One stream. */
export class Draws {
  readonly #kernels: Kernels;
  readonly #key: NoiseKey;
  readonly #bytes = new Uint8Array(BATCH * 4);
  readonly #view = new DataView(this.#bytes.buffer);
  #next = 0;
  #left = 0;

  constructor(kernels: Kernels, key: NoiseKey) {
    this.#kernels = kernels;
    this.#key = key;
  }

  /** 0 … 2^32-1. */
  word(): number {
    if (this.#left === 0) {
      this.#kernels.noise(this.#bytes, this.#key, this.#next);
      this.#next = (this.#next + BATCH) >>> 0;
      this.#left = BATCH;
    }
    const at = BATCH - this.#left;
    this.#left -= 1;
    return this.#view.getUint32(at * 4, true);
  }

  /** 0 <= x < 1, a multiple of 2^-53. */
  fraction(): number {
    const high = this.word() >>> 5;
    return (high * 2 ** 26 + (this.word() >>> 6)) / 2 ** 53;
  }

  /** An integer 0 <= n < limit, limit up to 2^53. */
  below(limit: number): number {
    if (limit <= 1) return 0;
    return Math.min(limit - 1, Math.floor(this.fraction() * limit));
  }

  /** An exponential variate of mean 1. */
  exponential(): number {
    return -ln(1 - this.fraction());
  }

  /** A standard normal variate, by Marsaglia's polar method. */
  normal(): number {
    for (;;) {
      const u = 2 * this.fraction() - 1;
      const v = 2 * this.fraction() - 1;
      const s = u * u + v * v;
      if (s > 0 && s < 1) return u * Math.sqrt((-2 * ln(s)) / s);
    }
  }
}
