/** What every implementation of the kernels asserts about its arguments. */
import { assert } from "../base/assert.ts";
import { isPowerOfTwo } from "../base/ranges.ts";
import { MAX_GRANULE } from "./kernels.ts";

/** A granule is a power of two, 512 … MAX_GRANULE. */
export function checkGranule(granule: number): void {
  assert(isPowerOfTwo(granule) && granule >= 512 && granule <= MAX_GRANULE, "not a granule");
}

/** Two views that are worked on together have one length. */
export function checkLengths(a: Uint8Array, b: Uint8Array): void {
  assert(a.length === b.length, "the two buffers differ in length");
}
