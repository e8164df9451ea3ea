/**
 * The cryptography of browsers, loaded when the first encrypted image is opened: AES and hashes by @noble, since WebCrypto
 * has neither ECB nor anything synchronous; PBKDF2 by WebCrypto where it is there (secure contexts) and knows the hash.
 * Source: FIPS 197, RFC 8018, W3C Web Cryptography API.
 */
import { ecb } from "@noble/ciphers/aes.js";
import { md5, ripemd160, sha1 } from "@noble/hashes/legacy.js";
import { pbkdf2Async } from "@noble/hashes/pbkdf2.js";
import { sha224, sha256, sha384, sha512 } from "@noble/hashes/sha2.js";
import type { HashName, HostCrypto, Pbkdf2Request } from "../../base/host.ts";

const HASHES = { md5, sha1, sha224, sha256, sha384, sha512, ripemd160 } as const;

/** Names of WebCrypto. */
const WEB_HASHES: Partial<Record<HashName, string>> = {
  sha1: "SHA-1",
  sha256: "SHA-256",
  sha384: "SHA-384",
  sha512: "SHA-512",
};
/** The most that getRandomValues() fills at once, bytes. */
const RANDOM_BYTES = 65_536;
/** How long a derivation in plain JavaScript keeps the event loop, ms. */
const TICK_MS = 10;

async function deriveByPlatform(request: Pbkdf2Request, hash: string): Promise<Uint8Array> {
  const { secret, salt, iterations, bytes } = request;
  const key = await crypto.subtle.importKey("raw", secret.slice(), "PBKDF2", false, ["deriveBits"]);
  const algorithm = { name: "PBKDF2", hash, salt: salt.slice(), iterations };
  return new Uint8Array(await crypto.subtle.deriveBits(algorithm, key, bytes * 8));
}

/** The browser's cryptography. */
export const browserCrypto: HostCrypto = {
  randomBytes(bytes) {
    const all = new Uint8Array(bytes);
    for (let at = 0; at < bytes; at += RANDOM_BYTES) {
      crypto.getRandomValues(all.subarray(at, at + RANDOM_BYTES));
    }
    return all;
  },
  aes(key) {
    // A cipher of @noble is used once.
    const own = key.slice();
    const cipher = (): ReturnType<typeof ecb> => ecb(own, { disablePadding: true });
    return {
      encrypt: (input, output) => output.set(cipher().encrypt(input)),
      decrypt: (input, output) => output.set(cipher().decrypt(input)),
    };
  },
  hash: (name, data) => HASHES[name](data),
  pbkdf2(request) {
    const { hash, secret, salt, iterations, bytes } = request;
    const web = WEB_HASHES[hash];
    // `crypto.subtle` is absent where the page is not secure.
    const subtle = (crypto as Partial<Crypto>).subtle;
    if (web !== undefined && subtle !== undefined) return deriveByPlatform(request, web);
    const how = { c: iterations, dkLen: bytes, asyncTick: TICK_MS };
    return pbkdf2Async(HASHES[hash], secret, salt, how);
  },
};
