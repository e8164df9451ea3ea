// The browser's cryptography, and the modes over it; in Node too, whose WebCrypto is the same.
import { describe, expect, test, vi } from "vitest";
import { browserCrypto } from "../../../../src/platform/browser/crypto.ts";
import { cryptoSuite } from "../../crypto/suite.ts";

cryptoSuite(browserCrypto);

describe("without WebCrypto's subtle part, as on a page that is not secure", () => {
  test("keys are derived all the same", async () => {
    const { getRandomValues } = crypto;
    vi.stubGlobal("crypto", { getRandomValues });
    try {
      const text = new TextEncoder();
      const key = await browserCrypto.pbkdf2({
        hash: "sha256",
        secret: text.encode("password"),
        salt: text.encode("salt"),
        iterations: 2,
        bytes: 20,
      });
      expect([...key.subarray(0, 4)]).toEqual([0xae, 0x4d, 0x0c, 0x95]);
    } finally {
      vi.unstubAllGlobals();
    }
  });
});
