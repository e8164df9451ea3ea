// Names that are no UTF-8 come back as the bytes that they were.
import { expect, test } from "vitest";
import { decodeName, encodeName } from "../../../src/base/names.ts";

test.each([
  [[0x61, 0x62], "ab"],
  [[0xc3, 0xa9], "é"],
  [[0xf0, 0x9f, 0x92, 0xbe], "💾"],
  [[0xef, 0xbb, 0xbf, 0x61], "\ufeffa"],
  [[0x61, 0xe9, 0x62], "a\udce9b"],
  [[0xff, 0xc3, 0xa9, 0xf0, 0x9f], "\udcffé\udcf0\udc9f"],
  [[0xed, 0xb3, 0xa9], "\udced\udcb3\udca9"],
  [[], ""],
])("%j", (bytes, name) => {
  expect(decodeName(Uint8Array.from(bytes))).toBe(name);
  expect([...encodeName(name)]).toEqual(bytes);
});
