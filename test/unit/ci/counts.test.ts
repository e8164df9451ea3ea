// How `npm test` counts what a run of vitest reported: nothing that went wrong is missed.
import { expect, it } from "vitest";
import type { Line } from "../../../.ci/test/reporter.ts";
import { countsOf } from "../../../.ci/test/run.ts";
import { inShard } from "../../support/shard.ts";

function file(passed: number, failed = 0, skipped = 0): Line {
  const failures = Array.from({ length: failed }, (_, index) => `test ${index}\nwhy`);
  return { kind: "file", file: "test/unit/a.test.ts", passed, failed, skipped, seconds: 1, failures };
}

it.each([
  ["adds up files", [file(3), { kind: "pulse" }, file(4, 0, 1)], { files: 2, ok: true }, [7, 0, 1]],
  ["counts failed tests", [file(3, 2)], { files: 1, ok: false }, [3, 2, 0]],
  ["counts a file that did not report", [file(3)], { files: 2, ok: false }, [3, 1, 0]],
  [
    "counts an error outside of tests",
    [file(3), { kind: "end", errors: 1 }],
    { files: 1, ok: false },
    [3, 1, 0],
  ],
  ["counts a run that was killed", [], { files: 2, ok: false }, [0, 2, 0]],
  ["counts a run of nothing", [file(0)], { files: 1, ok: true }, [0, 1, 0]],
] as [string, Line[], { files: number; ok: boolean }, number[]][])("%s", (_what, lines, run, wanted) => {
  const { passed, failed, skipped } = countsOf(lines, run);
  expect([passed, failed, skipped]).toEqual(wanted);
});

it("keeps what failed, by its file", () => {
  expect(countsOf([file(3, 2), file(1)], { files: 2, ok: false }).failures).toEqual([
    "test/unit/a.test.ts: test 0\nwhy",
    "test/unit/a.test.ts: test 1\nwhy",
  ]);
});

it("has each item in one part", () => {
  const items = Array.from({ length: 11 }, (_, index) => index);
  const parts = [1, 2, 3].map((part) => inShard(items, `${part}/3`));
  expect(parts.flat().toSorted((one, other) => one - other)).toEqual(items);
  expect(inShard(items, "1/1")).toEqual(items);
  for (const wrong of ["0/3", "4/3", "1", "1/", "x/2"])
    expect(() => inShard(items, wrong)).toThrow(/PART\/PARTS/);
});
