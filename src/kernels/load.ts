/**
 * Loads the kernels: the WebAssembly binary that is inlined in the bundle where the platform has SIMD, else the twin.
 * Synchronous, so that constructors and workers can use it. (Before 2023 Chrome refused to compile more than 4 KiB
 * synchronously outside a worker; there, or where a page's CSP forbids WebAssembly, the twin serves.)
 *
 * They are made at their first use: compiling WebAssembly takes some milliseconds, which a program that looks at a
 * header has no use for. The arena's memory is there from the beginning.
 */
import { kernelsBinary } from "#kernels-binary";
import { assert } from "../base/assert.ts";
import { BlockError, blockError } from "../base/errors.ts";
import { KiB, limits } from "../base/limits.ts";
import { alignUp } from "../base/ranges.ts";
import type { KernelExports } from "./abi.ts";
import type { KernelArea, Kernels, Bits } from "./kernels.ts";
import { reservedBytes, SimdKernels } from "./simd.ts";
import { TwinKernels } from "./twin.ts";
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

const WASM_PAGE = 64 * KiB;
/** Addresses and lengths stay below 2^31. */
const MAX_ARENA = 2 ** 30;
/** Upper bound of what the binary keeps for itself; checked when it is instantiated. */
const MAX_OWN_DATA = 64 * KiB;

/** What loadKernels() takes. */
export interface KernelOptions {
  /** Size of the arena's area, bytes, up to 1 GiB; rounded up to 64 KiB. Default: limits.arenaBytes. */
  readonly arenaBytes?: number;
  /** The platform's own comparison of views of one length (Node's is memcmp). Default: none. */
  readonly equals?: (a: Uint8Array, b: Uint8Array) => boolean;
}

/** The compiled binary; null where it cannot be compiled. */
let compiled: WebAssembly.Module | null | undefined;

function compile(): WebAssembly.Module | null {
  try {
    if (typeof WebAssembly !== "object") return null;
    const binary = kernelsBinary();
    return WebAssembly.validate(binary) ? new WebAssembly.Module(binary) : null;
  } catch {
    return null;
  }
}

/** A memory of fixed size. Throws BlockError ENOMEM. */
function fixedMemory(bytes: number): WebAssembly.Memory {
  const pages = Math.ceil(bytes / WASM_PAGE);
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages });
  } catch (cause) {
    const message = `Cannot allocate ${bytes} bytes for the I/O arena`;
    throw new BlockError({ code: "ENOMEM", op: "arena", message, cause });
  }
}

function arenaSize(options: KernelOptions): number {
  const bytes = options.arenaBytes ?? limits.arenaBytes;
  if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes > MAX_ARENA) {
    const message = `arenaBytes must be whole, 1 … ${MAX_ARENA}, and is ${bytes}`;
    throw blockError("EINVAL", "arena", message);
  }
  return alignUp(bytes, WASM_PAGE);
}

/** Memory for the WebAssembly kernels, and the arena's part of it. Throws BlockError ENOMEM. */
function memoryFor(options: KernelOptions): { memory: WebAssembly.Memory; area: KernelArea } {
  const [start, bytes] = [reservedBytes(MAX_OWN_DATA), arenaSize(options)];
  const memory = fixedMemory(start + bytes);
  return { memory, area: { buffer: memory.buffer, start, bytes } };
}

/** The WebAssembly kernels over a memory; undefined where the platform cannot run them. */
function simdOver(
  { memory, area }: ReturnType<typeof memoryFor>,
  { equals }: KernelOptions,
): Kernels | undefined {
  compiled ??= compile();
  const module = compiled;
  if (!module) return undefined;
  const instantiate = (over: WebAssembly.Memory): KernelExports => {
    const { exports } = new WebAssembly.Instance(module, { env: { memory: over } });
    const wasm = exports as unknown as KernelExports;
    assert(wasm.dataStart() <= MAX_OWN_DATA, "the kernels' own data outgrew their place");
    return wasm;
  };
  return new SimdKernels(memory, area, { instantiate, equals });
}

/**
 * The fastest kernels that the platform can run, with their own memory; which these are is found out when they are first
 * used. Throws BlockError ENOMEM.
 */
export function loadKernels(options: KernelOptions = {}): Kernels {
  if (typeof WebAssembly !== "object") return loadTwinKernels(options);
  const place = memoryFor(options);
  return new LazyKernels(place.area, () => simdOver(place, options) ?? new TwinKernels(place.area));
}

/** The WebAssembly kernels, at once; undefined where the platform cannot run them. Throws BlockError ENOMEM. */
export function loadSimdKernels(options: KernelOptions = {}): Kernels | undefined {
  compiled ??= compile();
  return compiled ? simdOver(memoryFor(options), options) : undefined;
}

/** The plain-TypeScript kernels: the test oracle, and the choice of those who want no WebAssembly. */
export function loadTwinKernels(options: KernelOptions = {}): Kernels {
  const bytes = arenaSize(options);
  // WebAssembly's memory is page-aligned, as O_DIRECT wants it.
  const buffer = typeof WebAssembly === "object" ? fixedMemory(bytes).buffer : new ArrayBuffer(bytes);
  return new TwinKernels({ buffer, start: 0, bytes });
}
