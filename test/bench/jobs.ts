/**
 * Live jobs beside qemu-storage-daemon, through one QMP client: `npm run bench:jobs [-- --mib N --pairs N --folder DIR --only TEXT
 * --node PATH --record]`. Each job is timed from its command to READY or COMPLETED. The images lie on a tmpfs where there is one.
 */
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { type Job, runJob } from "./support/daemon.ts";
import { makeDisk } from "./support/disk.ts";
import { type Row, inTurn, rowOf } from "./support/contest.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 1024, pairs: 7 });
using folder = new BenchFolder(options.folder, 3 * options.mebibytes);
const dir = folder.path;
const length = `${options.mebibytes}M`;

/** A job, what it needs, and what is asked of it. */
interface Contest extends Job {
  readonly name: string;
  readonly goal: number;
  prepare(): void;
}

const file = (name: string, filename: string): object => ({ driver: "file", "node-name": name, filename });
const raw = (name: string, child: string): object => ({ driver: "raw", "node-name": name, file: child });
const qcow2 = (name: string, child: string, backing: string | null): object => ({
  driver: "qcow2",
  "node-name": name,
  file: child,
  backing,
});
const source = [file("sf", "src.raw"), raw("src", "sf")];
const rawTarget = [file("df", "dst.raw"), raw("dst", "df")];
const qcow2Target = [file("df", "dst.qcow2"), qcow2("dst", "df", null)];

function img(...args: string[]): void {
  execFileSync("qemu-img", args, { cwd: dir, stdio: "ignore" });
}

/** Makes images anew. */
function anew(...images: readonly (readonly string[])[]): () => void {
  return () => {
    for (const words of images) {
      rmSync(
        join(
          dir,
          words.find((word) => /^\w+\.\w+$/.test(word))!,
        ),
        { force: true },
      );
      img("create", "-f", ...words);
    }
  };
}

const newRaw = anew(["raw", "dst.raw", length]);
const newQcow2 = anew(["qcow2", "dst.qcow2", length]);
const newOverlay = anew(["qcow2", "top.qcow2", "-b", "src.raw", "-F", "raw"]);
const newBase = anew(["raw", "base.raw", length]);

/** A layer that has all of the source's data, over an empty base; and one above it. */
function newChain(): void {
  newBase();
  for (const name of ["mid.qcow2", "top.qcow2"]) rmSync(join(dir, name), { force: true });
  img("convert", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "src.raw", "mid.qcow2");
  img("create", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2");
}

const chain = [
  ...[file("bf", "base.raw"), raw("base", "bf")],
  ...[file("mf", "mid.qcow2"), qcow2("mid", "mf", "base")],
  ...[file("tf", "top.qcow2"), qcow2("top", "tf", "mid")],
];
const job = (execute: string, args: object): Job["command"] => ({
  execute,
  arguments: { "job-id": "j", ...args },
});
const mirror = job("blockdev-mirror", { device: "src", target: "dst", sync: "full" });
const backup = job("blockdev-backup", { device: "src", target: "dst", sync: "full" });
const ready = "BLOCK_JOB_READY";
const completed = "BLOCK_JOB_COMPLETED";

const contests: readonly Contest[] = [
  {
    name: "mirror raw → raw",
    goal: 1.4,
    prepare: newRaw,
    nodes: [...source, ...rawTarget],
    command: mirror,
    until: ready,
  },
  {
    name: "mirror raw → qcow2",
    goal: 1.3,
    prepare: newQcow2,
    nodes: [...source, ...qcow2Target],
    command: mirror,
    until: ready,
  },
  {
    name: "backup raw → raw",
    goal: 5,
    prepare: newRaw,
    nodes: [...source, ...rawTarget],
    command: backup,
    until: completed,
  },
  {
    name: "backup raw → qcow2",
    goal: 1,
    prepare: newQcow2,
    nodes: [...source, ...qcow2Target],
    command: backup,
    until: completed,
  },
  {
    name: "stream raw into a qcow2 overlay",
    goal: 4,
    prepare: newOverlay,
    nodes: [...source, file("tf", "top.qcow2"), qcow2("top", "tf", "src")],
    command: job("block-stream", { device: "top" }),
    until: completed,
  },
  {
    name: "commit a qcow2 into its raw base",
    goal: 1.3,
    prepare: newChain,
    nodes: chain,
    command: job("block-commit", { device: "top", "top-node": "mid", "base-node": "base" }),
    until: completed,
  },
  {
    name: "commit the active layer into its raw base",
    goal: 1.3,
    prepare: newChain,
    nodes: chain.slice(0, 4),
    command: job("block-commit", { device: "mid" }),
    until: ready,
  },
];

async function* rows(): AsyncGenerator<Row> {
  makeDisk(join(dir, "src.raw"), options.mebibytes);
  for (const contest of contests) {
    if (!contest.name.includes(options.only)) continue;
    const turn = (daemon: readonly string[]) => (): ReturnType<typeof runJob> => {
      contest.prepare();
      return runJob(daemon, contest, dir);
    };
    const runs = await inTurn(
      options.pairs,
      turn(["qemu-storage-daemon"]),
      turn([...options.ours, "daemon"]),
    );
    yield rowOf({ name: contest.name, goal: contest.goal }, runs);
  }
}

await fillSheet(
  "jobs",
  {
    title: "Jobs",
    command: "npm run bench:jobs",
    method: `${options.mebibytes / 1024} GiB of incompressible data on a tmpfs, from the command to READY (mirror, commit of the active layer) or COMPLETED; the processor's time is the daemon's in between`,
    peer: "qemu-storage-daemon",
    unit: ", s",
  },
  rows(),
  options,
);
