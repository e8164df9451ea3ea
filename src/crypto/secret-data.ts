/**
 * Secrets that come encrypted under another one: AES-256-CBC with PKCS #7 padding.
 * Source: QEMU's documentation of the object `secret` (keyid, iv); words of QEMU 7.2.
 */
import { CommandError } from "../base/errors.ts";
import type { HostCrypto } from "../base/host.ts";

const BLOCK = 16;
const KEY_BYTES = 32;

/** What is decrypted, and by what. */
export interface EncryptedSecret {
  readonly data: Uint8Array;
  readonly iv: Uint8Array;
  readonly key: Uint8Array;
}

/** The secret's plain bytes. Throws CommandError; what is wrong is told by its length only. */
export function decryptSecret(crypto: HostCrypto, { data, iv, key }: EncryptedSecret): Uint8Array {
  if (iv.byteLength !== BLOCK) {
    throw new CommandError(`IV should be ${BLOCK} bytes in length not ${iv.byteLength}`);
  }
  if (key.byteLength !== KEY_BYTES) throw new CommandError(`Key should be ${KEY_BYTES} bytes in length`);
  if (data.byteLength === 0 || data.byteLength % BLOCK !== 0) {
    throw new CommandError(`Length ${data.byteLength} must be a multiple of block size ${BLOCK}`);
  }
  const plain = new Uint8Array(data.byteLength);
  crypto.aes(key).decrypt(data, plain);
  for (let at = 0; at < plain.byteLength; at++) {
    const before = at < BLOCK ? iv[at] : data[at - BLOCK];
    plain[at] = (plain[at] as number) ^ (before as number);
  }
  const padding = plain.at(-1) as number;
  const whole =
    padding >= 1 && padding <= BLOCK && plain.subarray(-padding).every((byte) => byte === padding);
  if (!whole) {
    throw new CommandError(`Incorrect number of padding bytes (${padding}) found on decrypted data`);
  }
  return plain.slice(0, -padding);
}
