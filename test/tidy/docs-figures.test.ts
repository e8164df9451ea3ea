/**
 * The figures that the documentation tells are those of docs/benchmarks.json: `npm run docs` writes them.
 */
import { describe, expect, it } from "vitest";
import { type Benchmarks, benchmarkPage, headlineTable, headlinesOf, speedPicture } from "../bench/pages.ts";
import { markedTable } from "./docs.ts";
import { readText } from "./source.ts";

const benchmarks = JSON.parse(readText("docs/benchmarks.json")) as Benchmarks;

describe("the figures", () => {
  it("of docs/BENCHMARKS.md are those of docs/benchmarks.json", () => {
    expect(Object.values(benchmarks.tables).map(({ rows }) => rows.length)).not.toContain(0);
    expect(readText("docs/BENCHMARKS.md")).toBe(benchmarkPage(benchmarks));
  });

  it("of README are, and so is the picture", () => {
    expect(markedTable("README.md", "headlines")).toBe(headlineTable(benchmarks));
    expect(readText("docs/speed.svg")).toBe(speedPicture(benchmarks));
  });

  it("of README have losses among them", () => {
    const ratios = headlinesOf(benchmarks).map(({ ratio }) => ratio);
    expect(ratios.filter((ratio) => ratio < 1).length).toBeGreaterThanOrEqual(3);
    expect(ratios.filter((ratio) => ratio > 1).length).toBeGreaterThanOrEqual(3);
  });

  it("are refused where a headline names no row", () => {
    const headlines = [{ table: "images", row: "convert nothing", label: "nothing" }];
    expect(() => headlinesOf({ ...benchmarks, headlines })).toThrow(/no times for "convert nothing"/);
  });
});
