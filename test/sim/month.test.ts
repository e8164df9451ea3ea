// Two weeks of nightly incremental backups; `npm run sim -- --month` lives through a month with ten requests a second.
import { expect, it } from "vitest";
import { runMonth } from "./month.ts";

it.each([1, 2])("two weeks of nightly backups lose nothing (seed %i)", async (seed) => {
  const result = await runMonth({ seed, days: 14, perSecond: 1 / 60, size: 2 ** 21 });
  expect(result.violations).toEqual([]);
  expect(result).toMatchObject({ backups: 14, kills: 3, restarts: 2 });
  expect(result.requests).toBeGreaterThan(20_000);
  expect(result.faults).toBeGreaterThan(0);
});
