// Synchronous handles with the Host's errors: a failed flush is remembered.
import { expect, test } from "vitest";
import { syncFile } from "../../../../src/platform/browser/private-storage.ts";

test("after a failed flush every later one fails, of this open file", () => {
  let fails = 0;
  const handle = {
    read: () => 0,
    write: (buffer: BufferSource) => buffer.byteLength,
    flush() {
      if (fails-- > 0) throw new DOMException("full", "QuotaExceededError");
    },
    getSize: () => 0,
    truncate: () => undefined,
    close: () => undefined,
  };
  const file = syncFile(handle);
  file.flush();
  fails = 1;
  expect(() => file.flush()).toThrow("No space left on device");
  file.write(new Uint8Array(4), 0);
  expect(() => file.flush()).toThrow("No space left on device");
  // The platform would say that all is well.
  expect(() => handle.flush()).not.toThrow();
  syncFile(handle).flush();
});
