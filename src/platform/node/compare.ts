/** Node's own comparison of bytes: memcmp(3), faster than 128-bit SIMD. */
// Imported, since the global of that name is looked up by a getter, which takes as long as comparing 500 bytes.
import { Buffer } from "node:buffer";

/** Whether two views of one length hold the same bytes. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
