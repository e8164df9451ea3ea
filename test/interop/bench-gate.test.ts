// The gate of `npm run bench -- --gate`: the same code is no worse than it was recorded, one request more at the device is; the clock
// says something only where all of its interval is on one side of the floor.
import { expect, it } from "vitest";
import { asResult } from "../../src/workload/gate/metrics.ts";
import { countersOf, loads, recorded, verdictOn } from "../bench/gate/counters.ts";
import { judgedByFloor } from "../bench/gate/pairs.ts";

it("has all loads in its recording, each a result of a whole run", () => {
  expect(Object.keys(recorded())).toEqual(loads.map(({ name }) => name));
  for (const [name, result] of Object.entries(recorded()))
    expect(asResult(result, name)).toMatchObject({ status: "done", clock: "virtual", device: "ssd" });
});

it.each(loads.filter(({ name }) => /new qcow2|overlay|mirror/.test(name)))(
  "counts the same for $name",
  async (load) => {
    const base = await countersOf(load);
    expect(verdictOn(load.name, await countersOf(load), base)).toMatchObject({
      verdict: "no worse",
      worse: [],
      better: [],
    });
    const one = structuredClone(base) as unknown as { devices: { requests: { write: number } }[] };
    one.devices[0]!.requests.write -= 1;
    const { verdict, worse } = verdictOn(load.name, base, one);
    expect([verdict, worse.map(({ name }) => name)]).toEqual(["worse", ["device.write.requests"]]);
    expect(verdictOn("nothing of it", base).verdict).toBe("no verdict");
  },
);

it("asks of the clock that the whole interval be on one side", () => {
  const interval = (low: number, high: number): Parameters<typeof judgedByFloor>[0] => ({
    ratio: (low + high) / 2,
    low,
    high,
    pairs: 15,
  });
  expect(judgedByFloor(interval(0.95, 1.1), 0.9)).toBe("no worse");
  expect(judgedByFloor(interval(0.85, 1.1), 0.9)).toBe("no verdict");
  expect(judgedByFloor(interval(0.7, 0.89), 0.9)).toBe("worse");
  expect(judgedByFloor({ ...interval(0.7, 0.89), pairs: 4 }, 0.9)).toBe("no verdict");
});
