/**
 * Verified runs over power cuts: what was flushed is there, what was not may be there or not, sector by sector; no false alarm over failing
 * devices and cuts, and devices that lose what they said was durable are found. BLOCKWRIGHT_VERIFY_SEEDS: how many seeds, default 8;
 * BLOCKWRIGHT_VERIFY_FIRST: from which on.
 */
import { describe, expect, it } from "vitest";
import {
  type DeviceJson,
  type ResultDocument,
  type WorkloadJson,
  runWorkload,
} from "../../../src/workload.ts";

const SEEDS = Number(process.env["BLOCKWRIGHT_VERIFY_SEEDS"] ?? 8);
const FIRST = Number(process.env["BLOCKWRIGHT_VERIFY_FIRST"] ?? 1);

const workload: WorkloadJson = {
  size: "128k",
  workers: [
    {
      mix: { read: 4, write: 6, zero: 1, discard: 1, flush: 1 },
      fua: 15,
      sizes: { min: 512, max: "8k", step: 512 },
      locality: "random",
      depth: 6,
      requests: 150,
      onError: "continue",
    },
    { mix: "write", sizes: "2k", locality: "random", flushEvery: 4, requests: 40, onError: "continue" },
  ],
};

const device: DeviceJson = {
  channels: 4,
  latency: { read: "100us", write: { exponential: "300us" }, flush: "500us" },
  faults: [{ kind: "power-cut", every: "2500us" }],
};

function run(seed: number, given: object = {}): Promise<ResultDocument> {
  return runWorkload(workload, { seed, device, verify: true, ...given });
}

describe("no false alarm", () => {
  it("over power cuts, and over failing devices whose power is cut", async () => {
    const failing: DeviceJson = {
      ...device,
      zones: [
        { errorRate: 0.1, errno: "EIO" },
        { offset: "64k", errorRate: 0.3, errno: "ENOSPC", operations: ["write", "zero"] },
      ],
    };
    for (let seed = FIRST; seed < FIRST + SEEDS; seed++)
      for (const each of [device, failing]) {
        const { status, verified, powerCuts, errors } = await run(seed, { device: each });
        const { corrupt } = verified!;
        expect({ seed, status, corrupt, errors: each === device ? errors : [] }).toEqual({
          seed,
          status: "done",
          corrupt: 0,
          errors: [],
        });
        expect(powerCuts).toBeGreaterThan(2);
        expect(verified!.sectorsRead).toBeGreaterThan(500);
      }
  }, 3_600_000);

  it("at the request of a number, and by the clock", async () => {
    const faults = [1, 40, 41, 90].map((nth) => ({ kind: "power-cut" as const, nth }));
    expect(await run(3, { device: { ...device, faults } })).toMatchObject({ status: "done", powerCuts: 4 });
    const once = { ...device, faults: [{ kind: "power-cut" as const, at: "3ms" }] };
    expect(await run(3, { device: once })).toMatchObject({ status: "done", powerCuts: 1 });
    await expect(run(3, { device: { faults: [{ kind: "power-cut" }] } })).resolves.toMatchObject({
      status: "failed",
      errors: [{ code: "INPUT", message: "faults[0]: 'at', 'every' or 'nth' is missing" }],
    });
  });

  it("the same again, to the last digit", async () => {
    expect(await run(5)).toEqual(await run(5));
  });
});

it("flushes that are left out are found, and a device that keeps all has none", async () => {
  const raw = (cache: object): object => ({ driver: "raw", cache, file: { driver: "memory" } });
  const corrupt = async (seed: number, cache: object): Promise<number> =>
    (await run(seed, { target: raw(cache) })).verified!.corrupt;
  for (let seed = 1; seed <= 4; seed++) {
    expect(await corrupt(seed, { "no-flush": true }), `seed ${seed}`).toBeGreaterThan(0);
    expect(await corrupt(seed, {}), `seed ${seed}`).toBe(0);
  }
});
