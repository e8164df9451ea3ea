/** Node's own comparison of bytes: memcmp(3), faster than 128-bit SIMD. */

/** Whether two views of one length hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
