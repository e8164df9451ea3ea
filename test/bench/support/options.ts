/** What all benchmarks can be asked for, and where their files lie. */
import { existsSync, mkdtempSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "../../support/root.ts";

/** Options of a benchmark. */
export interface BenchOptions {
  /** MiB of its disk. */
  readonly mebibytes: number;
  readonly pairs: number;
  /** Seconds of a load that runs by the clock. */
  readonly seconds: number;
  /** Where its files lie; default: a tmpfs that has room. */
  readonly folder: string | undefined;
  /** Only rows whose name has this in it. */
  readonly only: string;
  /** Writes what came out to docs/benchmarks.json. */
  readonly record: boolean;
  /** Our program: by the Node of `--node`, or the one that runs this. */
  readonly ours: readonly string[];
}

/** Reads `--mib N --pairs N --seconds N --folder DIR --only TEXT --node PATH --record`. */
export function benchOptions(defaults: { mebibytes: number; pairs: number; seconds?: number }): BenchOptions {
  const { values } = parseArgs({
    options: {
      mib: { type: "string", default: String(defaults.mebibytes) },
      pairs: { type: "string", default: String(defaults.pairs) },
      seconds: { type: "string", default: String(defaults.seconds ?? 3) },
      folder: { type: "string" },
      only: { type: "string", default: "" },
      node: { type: "string", default: process.execPath },
      record: { type: "boolean", default: false },
    },
  });
  return {
    mebibytes: Number(values.mib),
    pairs: Number(values.pairs),
    seconds: Number(values.seconds),
    folder: values.folder,
    only: values.only,
    record: values.record,
    ours: [values.node, join(root, "build", "cli", "main.js")],
  };
}

const shm = "/dev/shm";
const MiB = 2 ** 20;

function hasRoom(path: string, mebibytes: number): boolean {
  if (!existsSync(path)) return false;
  const { bavail, bsize } = statfsSync(path);
  return (bavail * bsize) / MiB > mebibytes;
}

/** A folder for files, that goes with the block that asked for it. */
export class BenchFolder implements Disposable {
  readonly path: string;

  /** In `wanted`, else in memory where there is room for so many MiB, else where temporary files are. */
  constructor(wanted: string | undefined, mebibytes: number) {
    this.path = mkdtempSync(join(wanted ?? (hasRoom(shm, mebibytes) ? shm : tmpdir()), "blockwright-bench-"));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}
