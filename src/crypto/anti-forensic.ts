/**
 * The anti-forensic splitter of LUKS1: a key is spread over many stripes, so that losing any part of them loses the key.
 * Source: LUKS1 on-disk format specification 1.2.3, section 2.4.
 */
import type { HashName, HostCrypto } from "../base/host.ts";

/** Mixes a stripe: each piece of the hash's length becomes the hash of its index and itself. */
function diffuse(crypto: HostCrypto, hash: HashName, stripe: Uint8Array): void {
  const digestBytes = crypto.hash(hash, new Uint8Array(0)).byteLength;
  for (let index = 0, at = 0; at < stripe.byteLength; index++, at += digestBytes) {
    const piece = stripe.subarray(at, at + digestBytes);
    const input = new Uint8Array(4 + piece.byteLength);
    new DataView(input.buffer).setUint32(0, index);
    input.set(piece, 4);
    piece.set(crypto.hash(hash, input).subarray(0, piece.byteLength));
  }
}

function xor(target: Uint8Array, other: Uint8Array): void {
  for (let at = 0; at < target.byteLength; at++) target[at] = (target[at] as number) ^ (other[at] as number);
}

/** How a key is spread. */
export interface Splitting {
  readonly hash: HashName;
  readonly stripes: number;
}

/** Spreads `key` over `stripes` times its length. */
export function split(crypto: HostCrypto, key: Uint8Array, { hash, stripes }: Splitting): Uint8Array {
  const out = crypto.randomBytes(key.byteLength * stripes);
  const mixed = new Uint8Array(key.byteLength);
  for (let stripe = 0; stripe < stripes - 1; stripe++) {
    xor(mixed, out.subarray(stripe * key.byteLength, (stripe + 1) * key.byteLength));
    diffuse(crypto, hash, mixed);
  }
  xor(mixed, key);
  out.set(mixed, (stripes - 1) * key.byteLength);
  return out;
}

/** The key of `keyBytes` bytes out of its stripes. */
export function merge(
  crypto: HostCrypto,
  material: Uint8Array,
  { hash, stripes, keyBytes }: Splitting & { readonly keyBytes: number },
): Uint8Array {
  const key = new Uint8Array(keyBytes);
  for (let stripe = 0; stripe < stripes; stripe++) {
    xor(key, material.subarray(stripe * keyBytes, (stripe + 1) * keyBytes));
    if (stripe < stripes - 1) diffuse(crypto, hash, key);
  }
  return key;
}
