// Kernels compile at their first use, and answer by the twin where WebAssembly turns out not to run.
import type * as load from "../../../src/kernels/load.ts";
import { afterEach, expect, it, vi } from "vitest";

afterEach(() => void vi.restoreAllMocks());

async function freshLoad(): Promise<typeof load> {
  vi.resetModules();
  return import("../../../src/kernels/load.ts");
}

it("compiles nothing before a kernel is called", async () => {
  const compile = vi.spyOn(WebAssembly, "Module");
  const { loadKernels } = await freshLoad();
  const kernels = loadKernels({ arenaBytes: 65536 });
  expect(kernels.area.bytes).toBe(65536);
  expect(compile).not.toHaveBeenCalled();
  expect(kernels.isZero(new Uint8Array(kernels.area.buffer, kernels.area.start, 4096))).toBe(true);
  expect(compile).toHaveBeenCalledTimes(1);
  expect(kernels.kind).toBe("simd");
});

it("answers by the twin, over the same memory, where nothing can be compiled", async () => {
  vi.spyOn(WebAssembly, "Module").mockImplementation(function () {
    throw new WebAssembly.CompileError("the page's policy forbids it");
  });
  const { loadKernels } = await freshLoad();
  const kernels = loadKernels({ arenaBytes: 65536 });
  const { area } = kernels;
  expect(kernels.kind).toBe("twin");
  expect(kernels.area).toBe(area);
  expect(kernels.isZero(new Uint8Array(area.buffer, area.start, 4096))).toBe(true);
});
