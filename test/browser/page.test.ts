/**
 * What the browser suite stands on: the page is cross-origin isolated, and the browser has what the library uses.
 */
import { expect, it } from "vitest";

it("runs in an isolated page with shared memory", () => {
  expect(globalThis.crossOriginIsolated).toBe(true);
  expect(new SharedArrayBuffer(8).byteLength).toBe(8);
});

it("has WebAssembly with SIMD", () => {
  // One function: i32.const 0, i8x16.splat, drop.
  const header = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0];
  const code = [10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11];
  expect(WebAssembly.validate(new Uint8Array([...header, ...code]))).toBe(true);
});

it("has the origin's private file system", () => {
  expect(navigator.storage.getDirectory).toBeTypeOf("function");
});
