/** Device models: channels, bandwidth, caches, cliffs, seeks, faults; what is refused. */
import { describe, expect, it } from "vitest";
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import { ModelDevice } from "../../../src/workload/device/device.ts";
import { type DeviceJson, readDevice } from "../../../src/workload/device/model.ts";
import { deviceModels } from "../../../src/workload/device/shipped.ts";
import type { Operation } from "../../../src/workload/model/plan.ts";
import { Draws, streamKey } from "../../../src/workload/random/noise.ts";

const kernels = loadTwinKernels({ arenaBytes: 65_536 });

function device(json: DeviceJson, length = 2 ** 30): ModelDevice {
  return new ModelDevice(readDevice(json), { length, draws: new Draws(kernels, streamKey(1, 0, "device")) });
}

function take(one: ModelDevice, operation: Operation, atNs: number, bytes = 4096): number {
  return one.take({ operation, offset: 0, bytes }, atNs).atNs;
}

describe("time", () => {
  it("requests wait for a channel", () => {
    const one = device({ channels: 2, latency: { read: "100us" } });
    expect([0, 0, 0, 0, 350_000].map((at) => take(one, "read", at))).toEqual([
      100e3, 100e3, 200e3, 200e3, 450e3,
    ]);
  });

  it("bytes go over one way, one after the other", () => {
    const one = device({ channels: 8, latency: { read: "1ms" }, bytesPerSecond: { total: 1_000_000 } });
    expect(take(one, "read", 0, 1000)).toBe(2e6);
    expect(take(one, "read", 0, 1000)).toBe(3e6);
    expect(take(one, "read", 10e6, 1000)).toBe(12e6);
  });

  it("a cache takes writes until it is full; a flush waits until it is empty", () => {
    const one = device({
      latency: { write: "10us" },
      cache: { size: 8192, bytesPerSecond: 4_096_000, flush: "1ms" },
    });
    expect(take(one, "write", 0)).toBe(10e3);
    expect(take(one, "write", 10e3)).toBe(20e3);
    // Not yet a millisecond's worth has left: 4096 bytes too many but for what has.
    const third = take(one, "write", 20e3);
    expect(third).toBeGreaterThan(0.9e6);
    expect(third).toBeLessThan(1.1e6);
    const flushed = take(one, "flush", third, 0);
    expect(flushed - third).toBeGreaterThan(2.9e6);
    expect(flushed - third).toBeLessThan(3.1e6);
  });

  it("writes fall off a cliff", () => {
    const one = device({ cliff: { after: 8192, bytesPerSecond: 4_096_000 } });
    expect([take(one, "write", 0), take(one, "write", 0), take(one, "write", 0)]).toEqual([0, 0, 1e6]);
  });

  it("a head moves by the root of the distance, and not where it goes on", () => {
    const one = device({ seek: { least: "1ms", most: "5ms" } }, 10_000);
    expect(one.take({ operation: "read", offset: 2500, bytes: 100 }, 0).atNs).toBe(3e6);
    expect(one.take({ operation: "read", offset: 2600, bytes: 100 }, 10e6).atNs).toBe(10e6);
  });

  it("nothing begins while it stalls", () => {
    const one = device({
      channels: 64,
      latency: { read: "1ms" },
      faults: [{ kind: "stall", at: "5s", every: "5s", for: "500ms" }],
    });
    expect(take(one, "read", 4.9e9)).toBe(4.901e9);
    expect(take(one, "read", 5.1e9)).toBe(5.501e9);
    expect(take(one, "read", 5.5e9)).toBe(5.501e9);
    expect(take(one, "read", 10.499e9)).toBe(10.501e9);
  });

  it("latencies are multiplied while it is slow", () => {
    const one = device({
      channels: 8,
      latency: { read: "1ms", write: "1ms" },
      faults: [{ kind: "slow", for: "1s", factor: 3, operations: ["read"] }],
    });
    expect([take(one, "read", 0), take(one, "write", 0), take(one, "read", 2e9)]).toEqual([
      3e6, 1e6, 2.001e9,
    ]);
  });
});

describe("failures", () => {
  it("of the request of a number, of a time, of a zone", () => {
    const nth = device({ faults: [{ kind: "error", nth: 2, errno: "ENOSPC" }] });
    const request = { operation: "write", offset: 0, bytes: 512 } as const;
    expect([0, 1, 2].map((at) => nth.take(request, at).errno)).toEqual([undefined, "ENOSPC", undefined]);
    const timed = device({ faults: [{ kind: "error", at: "1s", for: "1s" }] });
    expect([0.5e9, 1.5e9, 2.5e9].map((at) => timed.take(request, at).errno)).toEqual([
      undefined,
      "EIO",
      undefined,
    ]);
    const zoned = device({ zones: [{ offset: 1000, size: 1000, errorRate: 1, operations: ["read"] }] });
    const read = (offset: number): string | undefined =>
      zoned.take({ operation: "read", offset, bytes: 100 }, 0).errno;
    expect([0, 950, 1900, 2000].map(read)).toEqual([undefined, "EIO", "EIO", undefined]);
    expect(zoned.take({ ...request, offset: 1500 }, 0).errno).toBeUndefined();
    expect(zoned.counts).toMatchObject({ errors: 2, requests: { read: 4, write: 1 } });
  });

  it("as often as the rate says", () => {
    const one = device({ zones: [{ errorRate: 0.1 }] });
    for (let i = 0; i < 5000; i++) take(one, "read", i);
    expect(one.counts.errors).toBeGreaterThan(400);
    expect(one.counts.errors).toBeLessThan(600);
  });
});

it.each(Object.entries(deviceModels))("the model %s is one", (name, json) => {
  const one = device(json);
  expect(one.model.name).toBe(name);
  const end = take(one, "read", 0);
  expect(end).toBeGreaterThan(10e3);
  expect(end).toBeLessThan(100e6);
});

it.each<[DeviceJson, string]>([
  [{ channels: 0 }, "channels: must be at least 1"],
  [{ latency: { read: "soon" } }, "latency.read: 'soon' is not understood"],
  [
    {
      latency: {
        read: {
          percentiles: [
            { at: 99, time: "1ms" },
            { at: 50, time: "2ms" },
          ],
        },
      },
    },
    "they must rise",
  ],
  [{ faults: [{ kind: "stall" }] }, "'for' or 'nth' is missing"],
  [{ faults: [{ kind: "stall", every: "1s", for: "2s" }] }, "it lasts longer than until the next"],
  [{ zones: [{ errorRate: 0.5, errno: "EWHAT" }] }, "'EWHAT' is no errno"],
])("%j is refused", (json, message) => {
  expect(() => readDevice(json)).toThrow(message);
});

it("what a model has that is not known is named", () => {
  const model = readDevice({ nme: "x", latency: { read: "1ms", wrte: "2ms" } } as DeviceJson);
  expect(model.ignored.map(({ name, where }) => `${name} (${where})`)).toEqual([
    "nme (device, top level)",
    "wrte (device, latency)",
  ]);
});
