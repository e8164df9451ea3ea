/**
 * Commands beside qemu-img, for the gate: pairs in turn, whose first is now the one and now the other, and the interval of how their
 * times compare. The clock itself says nothing: it is this machine's, and of this hour.
 */
import { execFileSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statfsSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadTwinKernels } from "../../../src/kernels/load.ts";
import type { Verdict } from "../../../src/workload.ts";
import { Draws, streamKey } from "../../../src/workload/random/noise.ts";
import { type RatioInterval, ratioInterval } from "../../../src/workload/stats/bootstrap.ts";
import { root } from "../../support/root.ts";

/** A command that both programs take. */
interface Task {
  readonly name: string;
  readonly words: readonly string[];
  /** The least that qemu-img's time over ours may be. */
  readonly floor: number;
}

/** They; the floors are those of `npm run bench:images`. */
export const tasks: readonly Task[] = [
  {
    name: "convert raw → raw",
    words: ["convert", "-f", "raw", "-O", "raw", "src.raw", "target"],
    floor: 0.9,
  },
  {
    name: "convert raw → qcow2",
    words: ["convert", "-f", "raw", "-O", "qcow2", "src.raw", "target"],
    floor: 0.9,
  },
  { name: "compare raw, raw", words: ["compare", "-f", "raw", "-F", "raw", "src.raw", "copy.raw"], floor: 1 },
];

const MiB = 2 ** 20;
const programs = [["qemu-img"], [process.execPath, join(root, "build", "cli", "main.js")]] as const;

/** Fewest pairs that say anything. */
const FEWEST_PAIRS = 5;

/** What an interval of "qemu-img's time over ours" says of a floor: worse only where all of it lies below. */
export function judgedByFloor({ low, high, pairs }: RatioInterval, floor: number): Verdict["verdict"] {
  if (pairs < FEWEST_PAIRS) return "no verdict";
  if (high < floor) return "worse";
  return low >= floor ? "no worse" : "no verdict";
}

function timed([program, ...before]: readonly string[], words: readonly string[], cwd: string): number {
  rmSync(join(cwd, "target"), { force: true });
  const begin = performance.now();
  execFileSync(program!, [...before, ...words], { cwd, stdio: "ignore" });
  return performance.now() - begin;
}

/** Pairs of one task in a folder that has the sources. */
function interval({ words }: Task, folder: string, pairs: number): RatioInterval {
  const times: [theirs: number[], ours: number[]] = [[], []];
  for (let pair = 0; pair < pairs; pair++)
    for (const at of pair % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      times[at].push(timed(programs[at], words, folder));
  const draws = new Draws(loadTwinKernels({ arenaBytes: 65_536 }), streamKey(1, 0, "bootstrap"));
  return ratioInterval(times[1], times[0], draws);
}

const shm = "/dev/shm";

/** Where there is room for the sources and a target: in memory, if there can be. */
function place(mebibytes: number): string {
  if (!existsSync(shm)) return tmpdir();
  const { bavail, bsize } = statfsSync(shm);
  return (bavail * bsize) / MiB > 3.5 * mebibytes ? shm : tmpdir();
}

/** A file of so many MiB of noise. */
function writeNoise(path: string, mebibytes: number): void {
  const kernels = loadTwinKernels({ arenaBytes: 65_536 });
  const piece = new Uint8Array(MiB);
  const fd = openSync(path, "w");
  for (let at = 0; at < mebibytes; at++) {
    kernels.noise(piece, streamKey(1, at, "pairs"), 0);
    writeSync(fd, piece);
  }
  closeSync(fd);
}

/** Runs all tasks over so many MiB of noise, so many pairs of each. */
export function* measured(
  mebibytes: number,
  pairs: number,
): Generator<{ readonly task: Task; readonly ratio: RatioInterval }> {
  const folder = mkdtempSync(join(place(mebibytes), "blockwright-pairs-"));
  try {
    for (const name of ["src.raw", "copy.raw"]) writeNoise(join(folder, name), mebibytes);
    for (const task of tasks) yield { task, ratio: interval(task, folder, pairs) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
