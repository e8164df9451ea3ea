// `npm run bench:wall`: gates on the wall clock over the same code and over slower code are counted. What they find is not judged here: the
// machine may have other things to do.
import { execFileSync } from "node:child_process";
import { expect, it } from "vitest";
import { root } from "../support/root.ts";

it("counts verdicts over the same code, and over code that takes longer", () => {
  const words = [
    ".ci/ts.mjs",
    "test/bench/wall-gate.ts",
    "--runs",
    "1",
    "--repeat",
    "5",
    "--requests",
    "200",
  ];
  const told = execFileSync(process.execPath, words, { cwd: root, encoding: "utf8" });
  const counts = JSON.parse(told) as { alarms: number; found: number };
  expect(counts).toMatchObject({ runs: 1, repeat: 5, percent: 5, tolerancePercent: 2 });
  expect(counts.alarms).toBeLessThanOrEqual(1);
  expect(counts.found).toBeLessThanOrEqual(1);
});
