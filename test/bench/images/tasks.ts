/** Commands that qemu-img and Blockwright take alike, and what is asked of ours. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Row, type Runs, type Sample, inTurn, rowOf } from "../support/contest.ts";
import { timed } from "../support/process.ts";
import { OVERLAYS, type Sources } from "./sources.ts";

/** A command. */
export interface Task {
  readonly name: string;
  readonly words: readonly string[];
  /** The least that qemu-img's time over ours should be. */
  readonly goal?: number;
  /** Of a slow one: the most pairs. */
  readonly pairs?: number;
  /** Less what the same program takes for `--version`, measured beside each run. */
  readonly isNetOfStart?: boolean;
}

const TARGET = "target";

function formatOf(name: string): string {
  return name.endsWith(".raw") ? "raw" : "qcow2";
}

function convert(source: string, to: string, ...more: string[]): readonly string[] {
  return ["convert", ...more, "-f", formatOf(source), "-O", to, source, TARGET];
}

function compare(left: string, right: string): readonly string[] {
  return ["compare", "-f", formatOf(left), "-F", formatOf(right), left, right];
}

/** They. */
export const tasks: readonly Task[] = [
  { name: "convert raw → raw", goal: 1.1, words: convert("src.raw", "raw") },
  { name: "convert raw → qcow2", goal: 1.1, words: convert("src.raw", "qcow2") },
  { name: "convert qcow2 → raw", goal: 1.1, words: convert("src.qcow2", "raw") },
  { name: "convert -C raw → raw", goal: 1, words: convert("src.raw", "raw", "-C") },
  { name: "scattered MiB, raw → qcow2", goal: 1.1, words: convert("pieces.raw", "qcow2") },
  { name: "64 GiB sparse, 1 GiB of data, raw → raw", goal: 1.8, words: convert("sparse.raw", "raw") },
  { name: "64 GiB sparse, 1 GiB of data, raw → qcow2", goal: 1.8, words: convert("sparse.raw", "qcow2") },
  { name: "64 GiB sparse, 1 GiB of data, qcow2 → qcow2", goal: 1.8, words: convert("sparse.qcow2", "qcow2") },
  {
    name: "64 GiB sparse, 512 scattered MiB, raw → qcow2, net of start",
    goal: 1,
    words: convert("few.raw", "qcow2"),
    isNetOfStart: true,
  },
  { name: "compare raw, raw", goal: 1.2, words: compare("src.raw", "src.raw") },
  { name: "compare raw, qcow2", goal: 1.2, words: compare("src.raw", "src.qcow2") },
  { name: "zlib qcow2 → raw, text", goal: 1.5, words: convert("zlib.qcow2", "raw") },
  { name: "zstd qcow2 → raw, text", goal: 1.2, words: convert("zstd.qcow2", "raw") },
  { name: "convert -c raw → qcow2, text", goal: 2, words: convert("text.raw", "qcow2", "-c"), pairs: 3 },
  {
    name: "check of a zlib qcow2, net of start",
    goal: 0.8,
    words: ["check", "-f", "qcow2", "zlib.qcow2"],
    isNetOfStart: true,
  },
  {
    name: `chain of ${OVERLAYS} overlays → raw, net of start`,
    goal: 1,
    words: convert("chain.qcow2", "raw"),
    isNetOfStart: true,
  },
];

/** What ours takes of an empty disk of 64 TiB, beside one of 64 MiB. */
export const emptyTasks: readonly Task[] = [
  { name: "info", words: ["info"] },
  { name: "map", words: ["map"] },
  { name: "check", words: ["check"] },
  { name: "convert to qcow2", words: ["convert", "-O", "qcow2"] },
].map(({ name, words }) => ({ name, words, goal: 0.8 }));

/** Where tasks run, and by what. */
export interface Bench {
  readonly folder: string;
  readonly sources: Sources;
  readonly pairs: number;
  readonly ours: readonly string[];
}

async function run(
  program: readonly string[],
  words: readonly string[],
  { folder }: Bench,
): Promise<Required<Sample>> {
  rmSync(join(folder, TARGET), { force: true });
  return timed([...program, ...words], folder);
}

async function net(program: readonly string[], words: readonly string[], bench: Bench): Promise<Sample> {
  const whole = await run(program, words, bench);
  const start = await run(program, ["--version"], bench);
  return { value: Math.max(1e-4, whole.value - start.value), cpu: whole.cpu, peakMiB: whole.peakMiB };
}

/** The runs of a task. */
export async function runsOf({ words, pairs, isNetOfStart = false }: Task, bench: Bench): Promise<Runs> {
  for (const word of words) if (/\.(raw|qcow2)$/.test(word)) bench.sources.need(word);
  const one = isNetOfStart ? net : run;
  return inTurn(
    Math.min(pairs ?? bench.pairs, bench.pairs),
    () => one(["qemu-img"], words, bench),
    () => one(bench.ours, words, bench),
  );
}

/** The row of a task. */
export async function rowOfTask(task: Task, bench: Bench): Promise<Row> {
  const { name, goal } = task;
  return rowOf({ name, ...(goal === undefined ? {} : { goal }) }, await runsOf(task, bench));
}

/** The row of one of the empty disks. */
export async function rowOfEmpty({ name, words, goal }: Task, bench: Bench): Promise<Row> {
  const over = (image: string): (() => Promise<Sample>) => {
    bench.sources.need(image);
    const target = words.length > 1 ? [TARGET] : [];
    return () => run(bench.ours, [words[0]!, "-f", "qcow2", ...words.slice(1), image, ...target], bench);
  };
  const runs = await inTurn(bench.pairs, over("empty-small.qcow2"), over("empty-large.qcow2"));
  return rowOf({ name, ...(goal === undefined ? {} : { goal }) }, runs);
}
