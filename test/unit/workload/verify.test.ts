/** Verified runs: no false alarm after failed, torn and discarded writes, and every planted corruption is found. */
import { describe, expect, it } from "vitest";
import type { BlockDriver, DriverType } from "../../../src/block/model/contract.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { BlockError } from "../../../src/base/errors.ts";
import { type ResultDocument, type WorkloadJson, runWorkload } from "../../../src/workload.ts";
import { noHost } from "../../../src/workload/time/no-host.ts";

const workload: WorkloadJson = {
  size: "256k",
  workers: [
    {
      mix: { read: 4, write: 5, zero: 1, discard: 1, flush: 1 },
      sizes: { min: 512, max: "8k", step: 512 },
      locality: "random",
      depth: 8,
      requests: 120,
      onError: "continue",
    },
    { mix: "write", sizes: "4k", locality: "random", requests: 30, onError: "continue" },
  ],
};

/** What a driver does to the write of a number. */
type Plant = (write: {
  offset: number;
  buffer: Uint8Array;
  carryOut: (buffer: Uint8Array, offset?: number) => unknown;
}) => unknown;

/** Disks in memory whose write of this number is changed. */
function planted(nth: number, plant: Plant): readonly DriverType[] {
  const memory = portableDrivers.find(({ name }) => name === "memory")!;
  const open: DriverType["open"] = async (context, spec) => {
    const driver = await memory.open(context, spec);
    let seen = 0;
    const pwrite: BlockDriver["pwrite"] = async (offset, buffer, flags) => {
      seen += 1;
      const carryOut = (other: Uint8Array, at = offset): unknown => driver.pwrite!(at, other, flags);
      await (seen === nth ? plant({ offset, buffer, carryOut }) : carryOut(buffer));
    };
    return new Proxy(driver, {
      get: (_target, name) => {
        if (name === "pwrite") return pwrite;
        const member: unknown = Reflect.get(driver, name, driver);
        return typeof member === "function"
          ? (...args: unknown[]): unknown => Reflect.apply(member, driver, args)
          : member;
      },
    });
  };
  return portableDrivers.map((type) => (type === memory ? { ...memory, open } : type));
}

function run(
  seed: number,
  drivers: readonly DriverType[],
  { device = "ssd", of = workload }: { device?: unknown; of?: WorkloadJson } = {},
): Promise<ResultDocument> {
  return runWorkload(of, { seed, device, verify: true, platform: { host: noHost, drivers } });
}

describe("no false alarm", () => {
  it("over failing devices", async () => {
    const device = {
      channels: 4,
      latency: { read: "100us", write: { exponential: "200us" } },
      zones: [
        { errorRate: 0.1, errno: "EIO" },
        { offset: "128k", errorRate: 0.3, errno: "ENOSPC" },
      ],
    };
    for (let seed = 1; seed <= 6; seed++) {
      const { status, verified, totals } = await run(seed, portableDrivers, { device });
      expect({ seed, status, corrupt: verified?.corrupt }).toEqual({ seed, status: "done", corrupt: 0 });
      expect(totals.write!.errors).toBeGreaterThan(0);
      expect(verified!.sectorsRead).toBeGreaterThan(100);
    }
  });

  it("over a write that was torn and failed", async () => {
    const torn = planted(30, async ({ buffer, carryOut }) => {
      await carryOut(buffer.slice(0, buffer.length / 2 - ((buffer.length / 2) % 512)));
      throw new BlockError({ code: "EIO", op: "pwrite" });
    });
    for (let seed = 1; seed <= 3; seed++)
      expect((await run(seed, torn)).verified?.corrupt, `seed ${seed}`).toBe(0);
  });
});

it.each<[string, Plant]>([
  ["a write that is lost", () => undefined],
  [
    "a bit that flips",
    ({ buffer, carryOut }) => carryOut(buffer.map((byte, i) => (i === 100 ? byte ^ 4 : byte))),
  ],
  [
    "a write that is torn, and told as whole",
    ({ buffer, carryOut }) => carryOut(buffer.subarray(0, buffer.length - 512)),
  ],
  [
    "a write that goes elsewhere",
    ({ offset, buffer, carryOut }) => carryOut(buffer, offset === 0 ? 65_536 : 0),
  ],
])("%s is found", async (_name, plant) => {
  // No later write hides it.
  const of: WorkloadJson = {
    size: "256k",
    workers: [{ mix: "write", locality: "once", depth: 4, requests: 40 }],
  };
  for (let seed = 1; seed <= 3; seed++) {
    const { status, verified, errors } = await run(seed, planted(20, plant), { of });
    expect(status, `seed ${seed}`).toBe("failed");
    expect(verified!.corrupt).toBeGreaterThan(0);
    expect(errors.at(-1)).toMatchObject({ code: "CORRUPT" });
  }
});
