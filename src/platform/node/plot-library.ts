/** uPlot's script, for pages that show it and reports that carry it with them. An optional package of npm. */
import { readFileSync } from "node:fs";

/** The script, which makes a global `uPlot`; undefined where the package is not installed. */
export function plotLibrary(): string | undefined {
  const { createRequire } = process.getBuiltinModule("node:module");
  try {
    return readFileSync(createRequire(import.meta.url).resolve("uplot/dist/uPlot.iife.min.js"), "utf8");
  } catch {
    return undefined;
  }
}
