// LUKS1 headers: what is written reads back, and every damage is refused in QEMU's words before it costs anything.
import { describe, expect, test } from "vitest";
import { limits } from "../../../src/base/limits.ts";
import {
  isLuks1,
  type LuksHeader,
  parseLuksHeader,
  serializeLuksHeader,
  slotSectors,
} from "../../../src/crypto/luks-header.ts";
import { cipherOfHeader, parseLuksCreateOptions, payloadOffset } from "../../../src/crypto/luks-options.ts";

const header: LuksHeader = {
  cipherName: "aes",
  cipherMode: "xts-plain64",
  hash: "sha256",
  payloadSector: 4040,
  keyBytes: 64,
  digest: new Uint8Array(20).fill(1),
  digestSalt: new Uint8Array(32).fill(2),
  digestIterations: 1000,
  uuid: "646abc8b-1626-485c-9cfc-504b2146b0e1",
  slots: Array.from({ length: 8 }, (_, index) => ({
    active: index === 0,
    iterations: index === 0 ? 1000 : 0,
    salt: new Uint8Array(32).fill(index),
    keySector: 8 + 504 * index,
  })),
};

const good = serializeLuksHeader(header);

function damaged(offset: number, bytes: readonly number[] | string): Uint8Array {
  const copy = good.slice();
  copy.set(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes, offset);
  return copy;
}

function u32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

const SLOT = 208;

describe("a LUKS1 header", () => {
  test("reads back as it was written", () => {
    expect(parseLuksHeader(good)).toEqual(header);
    expect(isLuks1(good)).toBe(true);
    expect(isLuks1(damaged(6, [0, 2]))).toBe(false);
    expect(isLuks1(good.subarray(0, 7))).toBe(false);
  });

  test("has QEMU's layout", () => {
    expect(slotSectors(64)).toBe(504);
    expect(payloadOffset(64)).toBe(2_068_480);
    expect(payloadOffset(32)).toBe(1_052_672);
  });

  test.each([
    [0, "X", "Volume is not in LUKS format"],
    [6, [0, 2], "LUKS version 2 is not supported"],
    [8, "a".repeat(32), "LUKS header cipher name is not NUL terminated"],
    [40, "x".repeat(32), "LUKS header cipher mode is not NUL terminated"],
    [72, "x".repeat(32), "LUKS header hash spec is not NUL terminated"],
    [104, u32(7), "LUKS payload is overlapping with the header"],
    [104, u32(100), "Keyslot 0 is overlapping with the encrypted payload"],
    [108, u32(0xffffffff), "Keyslot 0 is overlapping with the encrypted payload"],
    [164, u32(0), "LUKS key iteration count is zero"],
    [SLOT, u32(5), "Keyslot 0 state (active/disable) is corrupted"],
    [SLOT + 4, u32(0), "Keyslot 0 iteration count is zero"],
    [SLOT + 40, u32(0), "Keyslot 0 is overlapping with the LUKS header"],
    [SLOT + 40, u32(0xfffffff0), "Keyslot 0 is overlapping with the encrypted payload"],
    [SLOT + 40, u32(100), "Keyslots 0 and 1 are overlapping in the header"],
    [SLOT + 44, u32(0), "Keyslot 0 is corrupted (stripes 0 != 4000)"],
    [SLOT + 3 * 48 + 44, u32(4001), "Keyslot 3 is corrupted (stripes 4001 != 4000)"],
    [SLOT + 44, u32(0xffffffff), "Keyslot 0 is corrupted (stripes -1 != 4000)"],
  ])("is refused with %d: %o", (offset, bytes, message) => {
    expect(() => parseLuksHeader(damaged(offset, bytes))).toThrow(message);
  });

  test.each([164, SLOT + 4])("with absurd iterations at %d is refused before a key is derived", (offset) => {
    const most = limits.luksMaxIterations;
    expect(() => parseLuksHeader(damaged(offset, u32(most - 1000)))).not.toThrow();
    expect(() => parseLuksHeader(damaged(offset, u32(most - 999)))).toThrow(
      `The key slots in use ask for ${most + 1} iterations together, which is above ${most} (limits.luksMaxIterations)`,
    );
    expect(() => parseLuksHeader(damaged(offset, u32(0xffffffff)))).toThrow("iterations together");
  });

  test("may ask for so many iterations in all slots in use together, the digest's with each", () => {
    const each = limits.luksMaxIterations / 8 - header.digestIterations;
    const withSlots = (active: number, iterations: number): Uint8Array =>
      serializeLuksHeader({
        ...header,
        slots: header.slots.map((slot, index) => ({ ...slot, active: index < active, iterations })),
      });
    expect(() => parseLuksHeader(withSlots(8, each))).not.toThrow();
    expect(() => parseLuksHeader(withSlots(8, each + 1))).toThrow("limits.luksMaxIterations");
    // Slots out of use cost nothing.
    expect(() => parseLuksHeader(withSlots(7, each + 1))).not.toThrow();
  });
});

describe("the cipher of a header", () => {
  test.each([
    [{ cipherName: "twofish" }, "Algorithm 'twofish' with key size 32 bytes not supported"],
    [{ keyBytes: 40 }, "Algorithm 'aes' with key size 20 bytes not supported"],
    [{ keyBytes: 33 }, "Algorithm 'aes' with key size 16 bytes not supported"],
    [{ keyBytes: 0 }, "Algorithm 'aes' with key size 0 bytes not supported"],
    [{ cipherMode: "xtsplain64" }, "Unexpected cipher mode string format 'xtsplain64'"],
    [{ cipherMode: "foo-plain64" }, "Cipher mode 'foo' not supported"],
    [{ cipherMode: "xts-foo" }, "IV generator 'foo' not supported"],
    [{ cipherMode: "xts-essiv" }, "Missing IV generator hash specification"],
    [{ cipherMode: "xts-essiv:foo" }, "Hash algorithm 'foo' not supported"],
    [{ hash: "foo" }, "Hash algorithm 'foo' not supported"],
  ])("%o is refused", (change, message) => {
    expect(() => cipherOfHeader({ ...header, ...change })).toThrow(message);
  });

  test("a hash that plain64 does not need is passed over", () => {
    const cipher = cipherOfHeader({ ...header, cipherMode: "xts-plain64:sha256" });
    expect(cipher).toMatchObject({
      algorithm: "aes-256",
      mode: "xts",
      ivGenerator: "plain64",
      ivHash: undefined,
    });
  });
});

describe("options of a new volume", () => {
  test("have QEMU's defaults", () => {
    expect(parseLuksCreateOptions({ "key-secret": "s" })).toEqual({
      algorithm: "aes-256",
      keyBytes: 64,
      mode: "xts",
      ivGenerator: "plain64",
      ivHash: undefined,
      hash: "sha256",
      keySecret: "s",
      iterTimeMs: 2000,
    });
    expect(parseLuksCreateOptions({ "ivgen-alg": "essiv" }).ivHash).toBe("sha256");
  });

  test.each([
    [{ "cipher-alg": "foo" }, "Parameter 'cipher-alg' does not accept value 'foo'"],
    [{ "cipher-alg": "serpent-256" }, "Algorithm 'serpent-256' not supported"],
    [{ "cipher-alg": "3des" }, "Algorithm '3des' not supported"],
    [{ "cipher-mode": "gcm" }, "Parameter 'cipher-mode' does not accept value 'gcm'"],
    [{ "ivgen-alg": 3 }, "Invalid parameter type for 'ivgen-alg', expected: string"],
    [{ "hash-alg": "sha3" }, "Parameter 'hash-alg' does not accept value 'sha3'"],
    [{ "iter-time": "soon" }, "Parameter 'iter-time' expects an integer"],
  ])("%o is refused", (options, message) => {
    expect(() => parseLuksCreateOptions(options)).toThrow(message);
  });
});
