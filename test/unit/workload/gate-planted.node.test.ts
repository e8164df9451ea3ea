/**
 * The gate over changes of the code: runs of the same code are no worse, for any seed; one flush more in a hundred writes, or one read of
 * metadata more, is worse for every seed. BLOCKWRIGHT_GATE_SEEDS: how many seeds; default 6.
 */
import { expect, it } from "vitest";
import { type BlockDriver, type DriverType, Req } from "../../../src/block/model/contract.ts";
import { portableDrivers } from "../../../src/drivers/index.ts";
import { type ResultDocument, type WorkloadJson, gate, runWorkload } from "../../../src/workload.ts";
import { noHost } from "../../../src/workload/time/no-host.ts";

const SEEDS = Number(process.env["BLOCKWRIGHT_GATE_SEEDS"] ?? 6);

const workload: WorkloadJson = {
  size: "1M",
  target: { driver: "raw", file: { driver: "memory" } },
  workers: [{ mix: { read: 1, write: 1 }, locality: "random", requests: 300, depth: 4, flushEvery: 40 }],
};

/** What the changed code does of one write in a hundred. */
type Plant = (driver: BlockDriver, write: { offset: number; buffer: Uint8Array; flags: number }) => unknown;

/** The drivers with another `raw`. */
function changed(plant: Plant): readonly DriverType[] {
  const raw = portableDrivers.find(({ name }) => name === "raw")!;
  const open: DriverType["open"] = async (context, spec) => {
    const driver = await raw.open(context, spec);
    let writes = 0;
    const pwrite: BlockDriver["pwrite"] = async (offset, buffer, flags) => {
      writes += 1;
      if (writes % 100 === 0) await plant(driver, { offset, buffer, flags });
      else await driver.pwrite!(offset, buffer, flags);
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
  return portableDrivers.map((type) => (type === raw ? { ...raw, open } : type));
}

function run(seed: number, drivers: readonly DriverType[] = portableDrivers): Promise<ResultDocument> {
  return runWorkload(workload, { seed, device: "ssd", platform: { host: noHost, drivers } });
}

it("the same code is no worse, and one flush or read more in a hundred writes is, for every seed", async () => {
  const flushes = changed((driver, { offset, buffer, flags }) =>
    driver.pwrite!(offset, buffer, flags | Req.fua),
  );
  const reads = changed(async (driver, { offset, buffer, flags }) => {
    await driver.pread(0, new Uint8Array(512), 0);
    await driver.pwrite!(offset, buffer, flags);
  });
  for (let seed = 1; seed <= SEEDS; seed++) {
    const base = await run(seed);
    expect(base.status).toBe("done");
    expect(gate(base, await run(seed)), `A/A, seed ${seed}`).toMatchObject({
      verdict: "no worse",
      better: [],
    });
    for (const [name, drivers] of [
      ["device.flush.requests", flushes],
      ["device.read.requests", reads],
    ] as const) {
      const now = await run(seed, drivers);
      expect(now.status).toBe("done");
      const { verdict, worse } = gate(base, now);
      expect(verdict, `${name}, seed ${seed}`).toBe("worse");
      expect(worse.map((difference) => difference.name)).toContain(name);
    }
  }
});
