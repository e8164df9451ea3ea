/** Loading: which kernels are chosen, and the memory that they come with. (Resets modules, which browsers cannot.) */
import { afterEach, expect, test, vi } from "vitest";
import { sameBytes } from "../../../src/platform/node/compare.ts";
import { loadKernels, loadTwinKernels } from "../../../src/kernels/load.ts";

afterEach(() => {
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

/** Loads the module afresh, so that it looks at the platform again. */
async function loadAfresh(): Promise<{ loadKernels: typeof loadKernels }> {
  vi.resetModules();
  return import("../../../src/kernels/load.ts");
}

test("with SIMD, the area is as large as asked for and page-aligned", () => {
  const kernels = loadKernels({ arenaBytes: 100_000 });
  expect(kernels.kind).toBe("simd");
  expect(kernels.area.bytes).toBe(131_072);
  expect(kernels.area.start % 4096).toBe(0);
  expect(kernels.area.start + kernels.area.bytes).toBeLessThanOrEqual(kernels.area.buffer.byteLength);
  expect(loadKernels().area.bytes).toBe(64 * 2 ** 20);
});

test("two sets of kernels have memories of their own", () => {
  const [a, b] = [loadKernels({ arenaBytes: 1 }), loadKernels({ arenaBytes: 1 })];
  expect(a.area.buffer).not.toBe(b.area.buffer);
});

test("without SIMD the twin serves", async () => {
  vi.spyOn(WebAssembly, "validate").mockReturnValue(false);
  const fresh = await loadAfresh();
  expect(fresh.loadKernels({ arenaBytes: 1 }).kind).toBe("twin");
});

test("where compiling is forbidden the twin serves", async () => {
  vi.spyOn(WebAssembly, "Module").mockImplementation(function () {
    throw new WebAssembly.CompileError("blocked by CSP");
  });
  const fresh = await loadAfresh();
  expect(fresh.loadKernels({ arenaBytes: 1 }).kind).toBe("twin");
});

test("without WebAssembly the twin serves, on plain memory", async () => {
  vi.stubGlobal("WebAssembly", undefined);
  const fresh = await loadAfresh();
  const kernels = fresh.loadKernels({ arenaBytes: 1 });
  expect(kernels.kind).toBe("twin");
  expect(kernels.area.bytes).toBe(65_536);
});

test("an absurd arena is refused, an unobtainable one is ENOMEM", () => {
  for (const arenaBytes of [0, -1, 1.5, 2 ** 30 + 1]) {
    expect(() => loadTwinKernels({ arenaBytes })).toThrow("arenaBytes must be whole");
  }
  vi.spyOn(WebAssembly, "Memory").mockImplementation(function () {
    throw new RangeError("no memory");
  });
  expect(() => loadKernels({ arenaBytes: 1 })).toThrow(
    expect.objectContaining({ code: "ENOMEM", op: "arena" }),
  );
});

test("with the platform's comparison the first difference is the same", () => {
  const kernels = loadKernels({ arenaBytes: 1 << 20, equals: sameBytes });
  const plain = loadTwinKernels({ arenaBytes: 1 });
  const area = new Uint8Array(kernels.area.buffer, kernels.area.start, kernels.area.bytes);
  const a = area.subarray(0, 100_000).fill(7);
  const b = area.subarray(200_000, 300_000).fill(7);
  expect(kernels.firstDifference(a, b)).toBe(-1);
  for (const at of [99_999, 65_536, 511, 0]) {
    b[at] = 8;
    expect(kernels.firstDifference(a, b)).toBe(at);
    expect(kernels.firstDifference(a.slice(), b)).toBe(plain.firstDifference(a, b));
  }
});
