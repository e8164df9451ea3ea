/**
 * Kernels that are made at their first use: compiling WebAssembly takes some milliseconds, which a program that looks at a
 * header has no use for. The arena's memory is there from the beginning.
 */
import type { Bits, KernelArea, Kernels } from "./kernels.ts";
import type { NoiseKey } from "./twin-noise.ts";

/** See Kernels. */
export class LazyKernels implements Kernels {
  readonly area: KernelArea;
  readonly #make: () => Kernels;
  #kernels: Kernels | undefined;

  /** What `make` makes works on `area` in place. */
  constructor(area: KernelArea, make: () => Kernels) {
    this.area = area;
    this.#make = make;
  }

  get #made(): Kernels {
    return (this.#kernels ??= this.#make());
  }

  get kind(): Kernels["kind"] {
    return this.#made.kind;
  }

  isZero(bytes: Uint8Array): boolean {
    return this.#made.isZero(bytes);
  }

  zeroRuns(bytes: Uint8Array, granule: number, out: Uint32Array): number {
    return this.#made.zeroRuns(bytes, granule, out);
  }

  firstDifference(a: Uint8Array, b: Uint8Array): number {
    return this.#made.firstDifference(a, b);
  }

  differenceRuns(a: Uint8Array, b: Uint8Array, granule: number, out: Uint32Array): number {
    return this.#made.differenceRuns(a, b, granule, out);
  }

  copy(target: Uint8Array, source: Uint8Array): void {
    this.#made.copy(target, source);
  }

  copyAndTestZero(target: Uint8Array, source: Uint8Array): boolean {
    return this.#made.copyAndTestZero(target, source);
  }

  crc32c(bytes: Uint8Array, crc?: number): number {
    return this.#made.crc32c(bytes, crc);
  }

  xxh3(bytes: Uint8Array): bigint {
    return this.#made.xxh3(bytes);
  }

  noise(bytes: Uint8Array, key: NoiseKey, at: number): void {
    this.#made.noise(bytes, key, at);
  }

  createBits(bits: number): Bits {
    return this.#made.createBits(bits);
  }
}
