// What every platform's cryptography must do, and the modes and formats over it. Vectors: IEEE 1619 (vector 4), RFC 6070,
// FIPS 180-4 and RFC 1321; digests of whole runs were computed by OpenSSL 3, sector by sector.
import { describe, expect, test } from "vitest";
import type { HashName, HostCrypto } from "../../../src/base/host.ts";
import { merge, split } from "../../../src/crypto/anti-forensic.ts";
import { type SectorCipherSpec, sectorCipher } from "../../../src/crypto/sector-cipher.ts";

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function bytesOf(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

function counting(length: number, step = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * step) & 255);
}

/** Compares without vitest's element by element description. */
function expectSame(one: Uint8Array, other: Uint8Array): void {
  expect(one.byteLength).toBe(other.byteLength);
  expect(one.findIndex((byte, at) => byte !== other[at])).toBe(-1);
}

/** Four sectors, no two alike. */
const SECTORS = Uint8Array.from({ length: 4 * 512 }, (_, at) => (at * 31 + (at >> 8)) & 255);
/** The numbers cross 2^32. */
const FIRST = 0xfffffffe;
const KEY = counting(32, 7);
const DOUBLE_KEY = counting(64, 5);

const runs: readonly (readonly [name: string, spec: SectorCipherSpec, digest: string])[] = [
  [
    "xts-plain64",
    { mode: "xts", ivGenerator: "plain64", key: DOUBLE_KEY },
    "44de528c42bb922b62d6dc057aa5d519",
  ],
  ["xts-plain", { mode: "xts", ivGenerator: "plain", key: DOUBLE_KEY }, "409a76d729374112042c1c44bf28a8c5"],
  ["xts-essiv", { mode: "xts", ivGenerator: "essiv", key: DOUBLE_KEY }, "e4c1a0d7a7ace0798c80a2c631af5e22"],
  ["cbc-plain64", { mode: "cbc", ivGenerator: "plain64", key: KEY }, "a485552fe05c241144be30a42b1c4064"],
  [
    "cbc-essiv",
    { mode: "cbc", ivGenerator: "essiv", ivHash: "sha256", key: KEY },
    "3b896223f8204bbaba0285085fdec04b",
  ],
  [
    "cbc-essiv:md5",
    { mode: "cbc", ivGenerator: "essiv", ivHash: "md5", key: KEY },
    "b6b5d1a05daa27d2101455bd36a976e0",
  ],
  ["ctr-essiv", { mode: "ctr", ivGenerator: "essiv", key: KEY }, "dc2f69ef7baf2803678e626d1205c72a"],
  ["ctr-plain64", { mode: "ctr", ivGenerator: "plain64", key: KEY }, "318075260048dd0df5b6ea74848c17d2"],
  ["ecb", { mode: "ecb", ivGenerator: "plain64", key: KEY }, "02adbbb92431ca87e5b57b45db51edb3"],
  [
    "128-bit cbc",
    { mode: "cbc", ivGenerator: "plain64", key: KEY.subarray(0, 16) },
    "36a02f17aa2b8575da3684abd4977ec8",
  ],
  [
    "192-bit cbc",
    { mode: "cbc", ivGenerator: "plain64", key: KEY.subarray(0, 24) },
    "cfab38f29f61a4b47976dfcf517c4f46",
  ],
];

const hashes: readonly (readonly [HashName, digest: string, derived: string])[] = [
  ["md5", "900150983cd24fb0d6963f7d28e17f72", "042407b552be345ad6eee2cf2f7ed01dd9662d8f"],
  ["sha1", "a9993e364706816aba3e25717850c26c9cd0d89d", "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957"],
  ["sha224", "23097d223405d8228642a477bda255b3", "93200ffa96c5776d38fa10abdf8f5bfc0054b971"],
  ["sha256", "ba7816bf8f01cfea414140de5dae2223", "ae4d0c95af6b46d32d0adff928f06dd02a303f8e"],
  ["sha384", "cb00753f45a35e8bb5a03d699ac65007", "54f775c6d790f21930459162fc535dbf04a93918"],
  ["sha512", "ddaf35a193617abacc417349ae204131", "e1d9c16aa681708a45f5c7c4e215ceb66e011a2e"],
  ["ripemd160", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc", "768dcc27b7bfdef794a1ff9d935090fcf598555e"],
];

function primitives(crypto: HostCrypto): void {
  test.each(hashes)("%s", async (name, digest, derived) => {
    expect(hex(crypto.hash(name, new TextEncoder().encode("abc")))).toMatch(new RegExp(`^${digest}`));
    const [secret, salt] = ["password", "salt"].map((text) => new TextEncoder().encode(text));
    const key = await crypto.pbkdf2({ hash: name, secret: secret!, salt: salt!, iterations: 2, bytes: 20 });
    expect(hex(key)).toBe(derived);
  });

  test("AES of FIPS 197", () => {
    const cipher = crypto.aes(counting(16));
    const block = bytesOf("00112233445566778899aabbccddeeff");
    const out = new Uint8Array(32);
    cipher.encrypt(new Uint8Array([...block, ...block]), out);
    expect(hex(out)).toBe("69c4e0d86a7b0430d8cdb78070b4c55a".repeat(2));
    cipher.decrypt(out, out);
    expect(hex(out)).toBe(hex(block).repeat(2));
  });

  test("random bytes, also many at once", () => {
    const bytes = crypto.randomBytes(200_000);
    expect(bytes.byteLength).toBe(200_000);
    // The chance that a kilobyte at any of these places is all zero is nil.
    for (let at = 0; at < bytes.byteLength; at += 1000) {
      expect(bytes.subarray(at, at + 1000).some((byte) => byte !== 0)).toBe(true);
    }
  });
}

function sectors(crypto: HostCrypto): void {
  test("AES-XTS as IEEE 1619 has it", () => {
    const key = bytesOf("2718281828459045235360287471352631415926535897932384626433832795");
    const out = new Uint8Array(512);
    sectorCipher(crypto, { mode: "xts", ivGenerator: "plain64", key }).encrypt(0, counting(512), out);
    expect(hex(out.subarray(0, 16))).toBe("27a7479befa1d476489f308cd4cfa6e2");
    const digest = "ebee4d64dd2395bb2d6a2d37a0a48ecb2bf4913cfc99d27c2214f2f4144715ea";
    expect(hex(crypto.hash("sha256", out))).toBe(digest);
  });

  test.each(runs)("%s", (_name, spec, digest) => {
    const cipher = sectorCipher(crypto, spec);
    // At an odd address, since callers' buffers begin anywhere.
    const input = new Uint8Array(SECTORS.byteLength + 1).subarray(1);
    input.set(SECTORS);
    const out = new Uint8Array(SECTORS.byteLength + 3).subarray(3);
    cipher.encrypt(FIRST, input, out);
    expect(hex(crypto.hash("sha256", out))).toMatch(new RegExp(`^${digest}`));
    expectSame(input, SECTORS);
    cipher.decrypt(FIRST, out, out);
    expectSame(out, SECTORS);
  });

  test.each(runs)("%s: a long request is its sectors, one by one", (_name, spec) => {
    const cipher = sectorCipher(crypto, spec);
    const long = counting(300 * 512, 13);
    const whole = new Uint8Array(long.byteLength);
    cipher.encrypt(7, long, whole);
    const single = new Uint8Array(512);
    for (const sector of [0, 1, 127, 128, 255, 256, 299]) {
      cipher.encrypt(7 + sector, long.subarray(sector * 512, (sector + 1) * 512), single);
      expectSame(whole.subarray(sector * 512, (sector + 1) * 512), single);
    }
    cipher.decrypt(7, whole, whole);
    expectSame(whole, long);
  });

  test("an essiv hash must give a key", () => {
    const spec = { mode: "cbc", ivGenerator: "essiv", ivHash: "sha1", key: KEY } as const;
    expect(() => sectorCipher(crypto, spec)).toThrow("No AES cipher with key size 20 available");
  });
}

function antiForensic(crypto: HostCrypto): void {
  test.each([16, 32, 33, 64])("a key of %d bytes comes back, and only out of all its stripes", (keyBytes) => {
    const key = counting(keyBytes, 3);
    for (const hash of ["sha1", "sha256", "sha512"] as const) {
      const material = split(crypto, key, { hash, stripes: 20 });
      expect(material.byteLength).toBe(20 * keyBytes);
      expect(merge(crypto, material, { hash, stripes: 20, keyBytes })).toEqual(key);
      material[keyBytes * 7] = (material[keyBytes * 7] ?? 0) ^ 1;
      expect(merge(crypto, material, { hash, stripes: 20, keyBytes })).not.toEqual(key);
    }
  });

  test("merges what cryptsetup's algorithm has split", () => {
    // Two stripes of zeroes: the key is the diffused zero stripe.
    const material = new Uint8Array(64);
    const expected = crypto.hash("sha256", new Uint8Array(36));
    expect(merge(crypto, material, { hash: "sha256", stripes: 2, keyBytes: 32 })).toEqual(expected);
  });
}

/** The suite over one platform's cryptography. */
export function cryptoSuite(crypto: HostCrypto): void {
  describe("primitives", () => primitives(crypto));
  describe("sectors", () => sectors(crypto));
  describe("anti-forensic splitting", () => antiForensic(crypto));
}
