/**
 * The cryptography of Node, by node:crypto. A cipher object is made once a key and fed whole blocks, which ECB without
 * padding gives back at once. Source: FIPS 197, RFC 8018.
 */
import type { Cipher, Decipher } from "node:crypto";
import { BlockError } from "../../base/errors.ts";
import type { HashName, HostBlockCipher, HostCrypto } from "../../base/host.ts";

/** Loaded when it is first needed: most disks need none of it. */
const crypto = () => process.getBuiltinModule("node:crypto");

class Aes implements HostBlockCipher {
  readonly #encrypt: Cipher;
  readonly #decrypt: Decipher;

  constructor(key: Uint8Array) {
    const name = `aes-${key.byteLength * 8}-ecb`;
    this.#encrypt = crypto().createCipheriv(name, key, null).setAutoPadding(false);
    this.#decrypt = crypto().createDecipheriv(name, key, null).setAutoPadding(false);
  }

  encrypt(input: Uint8Array, output: Uint8Array): void {
    output.set(this.#encrypt.update(input));
  }

  decrypt(input: Uint8Array, output: Uint8Array): void {
    output.set(this.#decrypt.update(input));
  }
}

function missing(name: HashName, cause: unknown): BlockError {
  const message = `this build of Node has no ${name}`;
  return new BlockError({ code: "ENOTSUP", op: "crypto", message, cause });
}

function own(buffer: Uint8Array): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength);
}

/** Node's cryptography. PBKDF2 runs on Node's thread pool. */
export const nodeCrypto: HostCrypto = {
  randomBytes: (bytes) => own(crypto().randomBytes(bytes)),
  aes: (key) => new Aes(key),
  hash(name, data) {
    try {
      return own(crypto().createHash(name).update(data).digest());
    } catch (cause) {
      throw missing(name, cause);
    }
  },
  hasher(name) {
    const hash = crypto().createHash(name);
    return { update: (bytes) => void hash.update(bytes), digest: () => own(hash.digest()) };
  },
  pbkdf2({ hash, secret, salt, iterations, bytes }) {
    return new Promise((resolve, reject) => {
      // An unknown hash is thrown at once, which rejects.
      crypto().pbkdf2(secret, salt, iterations, bytes, hash, (error, key) => {
        if (error) reject(missing(hash, error));
        else resolve(own(key));
      });
    });
  },
};
