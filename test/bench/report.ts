/**
 * Writes what the documentation says about speed and size, out of docs/benchmarks.json: `npm run docs`. The benchmarks
 * print their rows; put them into that file first.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/root.ts";
import { type Benchmarks, benchmarkPage, headlineTable, speedPicture } from "./pages.ts";

const at = (name: string): string => join(root, name);
const benchmarks = JSON.parse(readFileSync(at("docs/benchmarks.json"), "utf8")) as Benchmarks;
writeFileSync(at("docs/BENCHMARKS.md"), benchmarkPage(benchmarks));
writeFileSync(at("docs/speed.svg"), speedPicture(benchmarks));

const readme = readFileSync(at("README.md"), "utf8");
const marked = /(<!-- table: headlines -->)[\s\S]*?(<!-- end -->)/;
if (!marked.test(readme)) throw new Error("README.md has no place for the table of headlines");
writeFileSync(
  at("README.md"),
  readme.replace(
    marked,
    (_all, head: string, end: string) => `${head}\n\n${headlineTable(benchmarks)}\n\n${end}`,
  ),
);
console.log("wrote docs/BENCHMARKS.md, docs/speed.svg and README's table");
