/** Comparing bytes, a few at a time. */

/** Whether two arrays are as long as each other and hold the same bytes. */
export function sameBytes(one: Uint8Array, other: Uint8Array): boolean {
  return one.byteLength === other.byteLength && one.every((byte, at) => byte === other[at]);
}
