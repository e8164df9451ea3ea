/** The sheet of a benchmark: its rows as they come, printed, and written to docs/benchmarks.json when asked for. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { environment } from "../../../src/cli/verbs/workload/environment.ts";
import { root } from "../../support/root.ts";
import type { Row } from "./contest.ts";
import type { BenchOptions } from "./options.ts";

/** What a sheet says of itself. */
export interface SheetHead {
  readonly title: string;
  readonly command: string;
  /** How it was measured; a sentence without its full stop. */
  readonly method: string;
  /** Whom ours is held against. */
  readonly peer: string;
  /** Ends the names of both columns of figures, as ", s"; "" where the rows say it. */
  readonly unit: string;
}

/** Where and when it was measured. */
export interface Where {
  readonly date: string;
  /** Of the Node that ran our program. */
  readonly node: string;
  readonly machine: string;
  /** The load of the last minute, before and after. */
  readonly load: readonly [before: number, after: number];
  /** Of the time between, what the hypervisor gave to others. */
  readonly stealPercent: number | null;
}

/** A sheet in docs/benchmarks.json. */
export interface Sheet extends SheetHead {
  readonly where: Where;
  readonly rows: readonly Row[];
}

const path = join(root, "docs", "benchmarks.json");

function whereOf(before: Readonly<Record<string, unknown>>, node: string): Where {
  const { load, stealPercent, processors, processor } = environment(before) as {
    load: { before: number[]; after: number[] };
    stealPercent: number | null;
    processors: number;
    processor: string;
  };
  return {
    date: new Date().toISOString().slice(0, 10),
    node: execFileSync(node, ["--version"], { encoding: "utf8" }).trim(),
    machine: `${processors} × ${processor}`,
    load: [Number(load.before[0]!.toFixed(1)), Number(load.after[0]!.toFixed(1))],
    stealPercent: stealPercent === null ? null : Number(stealPercent.toFixed(1)),
  };
}

/** The line that a row is on a terminal. */
function lineOf({ name, peer, theirs, ours, better, cpu, peakMiB, goal }: Row): string {
  const told = `${better.ratio.toFixed(2)} (${better.low.toFixed(2)} to ${better.high.toFixed(2)}, ${better.pairs} pairs)`;
  const more = [
    ...(goal === undefined ? [] : [`goal ${goal}`]),
    ...(cpu ? [`CPU ${cpu.theirs.toFixed(2)} : ${cpu.ours.toFixed(2)} s`] : []),
    ...(peakMiB === undefined ? [] : [`${peakMiB} MiB`]),
  ];
  const title = peer === undefined ? name : `${name} (${peer})`;
  return `${title.padEnd(56)} ${String(theirs).padStart(8)} : ${String(ours).padEnd(8)} ${told}  ${more.join(", ")}`;
}

/**
 * Prints rows as they come. With `record` the sheet `key` of docs/benchmarks.json becomes they; rows that `only` left out stay. By
 * another Node than 20 the sheet is one of its own, `key` and its version.
 */
export async function fillSheet(
  key: string,
  head: SheetHead,
  rows: AsyncIterable<Row>,
  options: BenchOptions,
): Promise<void> {
  const before = environment();
  console.log(`\n${head.title}: ${head.peer} : Blockwright${head.unit}; how many times better, at 95 %\n`);
  const found: Row[] = [];
  for await (const row of rows) {
    found.push(row);
    console.log(lineOf(row));
  }
  if (!options.record) return;
  const where = whereOf(before, options.ours[0]!);
  const major = where.node.split(".")[0]!;
  const all = JSON.parse(readFileSync(path, "utf8")) as { tables: Record<string, Sheet> };
  const name = major === "v20" ? key : `${key}-${major}`;
  const old = options.only === "" ? [] : (all.tables[name]?.rows ?? []);
  const isSame = (a: Row, b: Row): boolean => a.name === b.name && a.peer === b.peer;
  const kept = old.filter((row) => !found.some((other) => isSame(row, other)));
  const title = major === "v20" ? head.title : `${head.title}, Node ${major.slice(1)}`;
  all.tables[name] = { ...head, title, where, rows: [...kept, ...found] };
  writeFileSync(path, `${JSON.stringify(all, null, 2)}\n`);
}
