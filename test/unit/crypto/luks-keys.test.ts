// Key slots over a clock and a PBKDF2 of the test's own: how much time a header may come to cost.
import { expect, test, vi } from "vitest";
import type { HostCrypto } from "../../../src/base/host.ts";
import { limits } from "../../../src/base/limits.ts";
import { type LuksHeader, parseLuksHeader, serializeLuksHeader } from "../../../src/crypto/luks-header.ts";
import { type LuksContext, setMasterKey, storeKey } from "../../../src/crypto/luks-keys.ts";
import { nodeCrypto } from "../../../src/platform/node/crypto.ts";
import { VirtualClock } from "../support/virtual-host.ts";

/** Iterations that the test's machine does in a second. */
const PER_SECOND = 2 ** 20;

function context(): { luks: LuksContext; header: LuksHeader; written: number[]; derived: () => number } {
  const clock = new VirtualClock();
  let now = 0;
  let derived = 0;
  const crypto: HostCrypto = {
    ...nodeCrypto,
    pbkdf2: ({ iterations, bytes }) => {
      derived += iterations;
      now += (1000 * iterations) / PER_SECOND;
      return Promise.resolve(new Uint8Array(bytes));
    },
  };
  vi.spyOn(clock, "nowMs").mockImplementation(() => now);
  const written: number[] = [];
  const header: LuksHeader = {
    cipherName: "aes",
    cipherMode: "xts-plain64",
    hash: "sha256",
    payloadSector: 4040,
    keyBytes: 64,
    digest: new Uint8Array(20),
    digestSalt: new Uint8Array(32),
    digestIterations: 1000,
    uuid: "",
    slots: Array.from({ length: 8 }, (_, index) => ({
      active: false,
      iterations: 0,
      salt: new Uint8Array(32),
      keySector: 8 + 504 * index,
    })),
  };
  const luks: LuksContext = {
    crypto,
    clock,
    storage: {
      read: () => Promise.resolve(),
      write: (offset) => Promise.resolve(void written.push(offset)),
      flush: () => Promise.resolve(),
    },
    header,
    cipher: {
      algorithm: "aes-256",
      mode: "xts",
      ivGenerator: "plain64",
      ivHash: undefined,
      hash: "sha256",
      keyBytes: 64,
    },
  };
  return { luks, header, written, derived: () => derived };
}

const secret = { key: new Uint8Array(64), passphrase: new Uint8Array([1]) };

test("eight slots of two seconds each are made and opened again", async () => {
  const { luks, header } = context();
  await setMasterKey(luks, secret.key, 2000);
  for (let index = 0; index < 8; index++) await storeKey(luks, index, { ...secret, iterTimeMs: 2000 });
  expect(parseLuksHeader(serializeLuksHeader(header)).slots.every((slot) => slot.active)).toBe(true);
});

test("a slot with which the volume would not open again is refused before anything is written", async () => {
  const { luks, written, derived } = context();
  await setMasterKey(luks, secret.key, 1000);
  await storeKey(luks, 0, { ...secret, iterTimeMs: 100_000 });
  const before = { written: written.length, derived: derived() };
  await expect(storeKey(luks, 1, { ...secret, iterTimeMs: 100_000 })).rejects.toMatchObject({
    code: "ERANGE",
    message: expect.stringContaining("choose a smaller iter-time") as string,
  });
  expect(written).toHaveLength(before.written);
  // Only the measurement was made.
  expect(derived() - before.derived).toBeLessThan(PER_SECOND);
  // In its own place it replaces what was there.
  await storeKey(luks, 0, { ...secret, iterTimeMs: 100_000 });
  expect(() => parseLuksHeader(serializeLuksHeader(luks.header))).not.toThrow();
});

test("a digest beyond the limit is refused before it is derived", async () => {
  const { luks, derived } = context();
  await expect(setMasterKey(luks, secret.key, 1_000_000)).rejects.toMatchObject({ code: "ERANGE" });
  expect(derived()).toBeLessThan(limits.luksMaxIterations);
});
