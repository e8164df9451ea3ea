/**
 * Commands beside qemu-img, for the gate: how their times compare, by pairs. The clock itself says nothing: it is this machine's, and of
 * this hour.
 */
import type { Verdict } from "../../../src/workload.ts";
import type { RatioInterval } from "../../../src/workload/stats/bootstrap.ts";
import { Sources } from "../images/sources.ts";
import { rowOfTask, tasks } from "../images/tasks.ts";
import { BenchFolder, type BenchOptions } from "../support/options.ts";

/** The least that qemu-img's time over ours may be, by task: a tenth below what it is on a quiet machine. */
const floors: Readonly<Record<string, number>> = {
  "convert raw → raw": 0.85,
  "convert raw → qcow2": 0.85,
  "compare raw, raw": 1,
};

/** Fewest pairs that say anything. */
const FEWEST_PAIRS = 5;

/** What an interval of "qemu-img's time over ours" says of a floor: worse only where all of it lies below. */
export function judgedByFloor({ low, high, pairs }: RatioInterval, floor: number): Verdict["verdict"] {
  if (pairs < FEWEST_PAIRS) return "no verdict";
  if (high < floor) return "worse";
  return low >= floor ? "no worse" : "no verdict";
}

/** Runs them. */
export async function* measured({
  mebibytes,
  pairs,
  ours,
}: Pick<BenchOptions, "mebibytes" | "pairs" | "ours">): AsyncGenerator<{
  readonly name: string;
  readonly ratio: RatioInterval;
  readonly floor: number;
}> {
  using folder = new BenchFolder(undefined, 3 * mebibytes);
  const sources = new Sources(folder.path, mebibytes);
  for (const task of tasks) {
    const floor = floors[task.name];
    if (floor === undefined) continue;
    const { name, better } = await rowOfTask(task, { folder: folder.path, sources, pairs, ours });
    yield { name, ratio: better, floor };
  }
}
