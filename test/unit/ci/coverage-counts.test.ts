// Adding up what several compilers' builds of the same sources took: branches are the same by their line, kind and place in it.
import { expect, it } from "vitest";
import { type Coverage, add, arms } from "../../../.ci/coverage/counts.ts";
import { reasonFor } from "../../../.ci/coverage/reasons.ts";
import { scriptsOf } from "../../../.ci/coverage/reports.ts";

interface Row {
  readonly line: number;
  readonly column: number;
  readonly type: string;
  readonly counts: number[];
}

function coverage(rows: readonly Row[]): Coverage {
  const branchMap = rows.map(({ line, column, type, counts }) => ({
    type,
    loc: { start: { line, column } },
    locations: counts.map((_count, arm) => ({ start: arm === 0 ? { line, column } : {} })),
  }));
  return {
    "/a.ts": {
      path: "/a.ts",
      branchMap: Object.fromEntries(branchMap.entries()),
      b: Object.fromEntries(rows.map(({ counts }, id) => [id, counts])),
    },
  };
}

it("counts are added whatever the numbers of branches, and those that one lacks are left as they are", () => {
  const sum = coverage([
    { line: 3, column: 8, type: "if", counts: [1, 0] },
    { line: 3, column: 20, type: "if", counts: [0, 0] },
    { line: 5, column: 2, type: "cond-expr", counts: [0, 4] },
    { line: 9, column: 2, type: "if", counts: [0, 0] },
  ]);
  const other = coverage([
    { line: 5, column: 0, type: "cond-expr", counts: [7, 0] },
    { line: 3, column: 21, type: "if", counts: [0, 2] },
    // What is reckoned may be less than nothing.
    { line: 3, column: 7, type: "if", counts: [1, -1] },
    // Another number of arms is another branch.
    { line: 9, column: 2, type: "if", counts: [5, 5, 5] },
  ]);
  add(sum, { ...other, "/b.ts": other["/a.ts"]! });
  expect(Object.keys(sum)).toEqual(["/a.ts"]);
  expect(sum["/a.ts"]!.b).toEqual({ 0: [2, 0], 1: [0, 2], 2: [7, 4], 3: [0, 0] });
});

it("an arm without a place has its branch's", () => {
  const [file] = Object.values(coverage([{ line: 3, column: 8, type: "if", counts: [1, 0] }]));
  expect([...arms(file!)]).toEqual([
    { taken: true, line: 3, type: "if" },
    { taken: false, line: 3, type: "if" },
  ]);
});

it("what nobody has given a reason for is not tested yet", () => {
  expect(reasonFor("src/block/nothing.ts", "there();")).toBe("Not tested yet");
});

it("a process that was killed while it wrote its report took nothing", () => {
  const whole = JSON.stringify({ result: [{ scriptId: "1", url: "file:///program.js", functions: [] }] });
  expect(scriptsOf(whole)).toHaveLength(1);
  for (const bytes of [0, 1, whole.length >> 1, whole.length - 1])
    expect(scriptsOf(whole.slice(0, bytes))).toEqual([]);
});
