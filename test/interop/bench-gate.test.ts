// The gate of `npm run bench -- --gate`: the same code is no worse than it was recorded, one request more at the device is; the clock
// says something only where all of its interval is on one side of the floor.
import { expect, it } from "vitest";
import type { ResultDocument } from "../../src/workload.ts";
import { asResult } from "../../src/workload/gate/metrics.ts";
import { countersOf, loads, recorded, verdictOn } from "../bench/gate/counters.ts";
import { judgedByFloor } from "../bench/gate/pairs.ts";

it("has all loads in its recording, each a result of a whole run", () => {
  expect(Object.keys(recorded())).toEqual(loads.map(({ name }) => name));
  for (const [name, result] of Object.entries(recorded()))
    expect(asResult(result, name)).toMatchObject({ status: "done", clock: "virtual", device: "ssd" });
});

it.each(loads)("counts what is recorded for $name (else: npm run bench -- --gate --record)", async (load) => {
  expect(verdictOn(load.name, await countersOf(load))).toMatchObject({
    verdict: "no worse",
    worse: [],
    better: [],
  });
});

it("finds one request more", () => {
  const { name } = loads[0]!;
  const base = recorded()[name] as ResultDocument;
  const one = structuredClone(base) as unknown as { devices: { requests: { write: number } }[] };
  one.devices[0]!.requests.write -= 1;
  const { verdict, worse } = verdictOn(name, base, one);
  expect([verdict, worse.map((metric) => metric.name)]).toEqual(["worse", ["device.write.requests"]]);
  expect(verdictOn("nothing of it", base).verdict).toBe("no verdict");
});

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
