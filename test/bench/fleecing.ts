/**
 * What a guest's writes wait for while its disk is backed up by fleecing, to a target that takes 1 MiB/s and to one that takes all:
 * `npm run bench:fleecing [-- --mib N --pairs N --seconds N --folder DIR --only TEXT --node PATH --record]`. The guest is fio, by NBD.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { QmpClient } from "../../src/node.ts";
import { type Contestant, type Row, type Sample, inTurn, rowOf } from "./support/contest.ts";
import { makeDisk } from "./support/disk.ts";
import { answers, fio } from "./support/nbd-server.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 256, pairs: 7, seconds: 10 });
using folder = new BenchFolder(options.folder, 4 * options.mebibytes);
const dir = folder.path;
const SLOW = 2 ** 20;

const file = (name: string, filename: string): object => ({
  driver: "raw",
  "node-name": name,
  file: { driver: "file", filename },
});

/** A disk under a filter that keeps what is overwritten, the disk as it was, and a target behind a throttle. */
function words(isSlow: boolean): string[] {
  const limit = isSlow ? `,x-bps-write=${SLOW}` : "";
  const scratch = {
    driver: "qcow2",
    "node-name": "scratch",
    file: { driver: "file", filename: "scratch.qcow2" },
  };
  const fleecing = [
    { driver: "copy-before-write", "node-name": "guest", file: "disk", target: "scratch" },
    { driver: "snapshot-access", "node-name": "then", file: "guest" },
  ];
  const target = { driver: "throttle", "node-name": "target", "throttle-group": "t", file: "under" };
  const nodes = [file("disk", "disk.raw"), scratch, ...fleecing, file("under", "target.raw"), target];
  return [
    ...["--object", `throttle-group,id=t${limit}`],
    ...nodes.flatMap((node) => ["--blockdev", JSON.stringify(node)]),
    ...["--chardev", "socket,path=mon.sock,server=on,wait=off,id=m", "--monitor", "chardev=m"],
    ...["--nbd-server", "addr.type=unix,addr.path=nbd.sock"],
    ...["--export", "type=nbd,id=e,node-name=guest,name=disk,writable=on"],
  ];
}

function anew(): void {
  for (const name of ["scratch.qcow2", "target.raw", "mon.sock", "nbd.sock"])
    rmSync(join(dir, name), { force: true });
  const length = `${options.mebibytes}M`;
  execFileSync("qemu-img", ["create", "-q", "-f", "qcow2", "scratch.qcow2", length], { cwd: dir });
  execFileSync("qemu-img", ["create", "-q", "-f", "raw", "target.raw", length], { cwd: dir });
}

/** The 99th percentile of a guest's writes of 4 KiB while a daemon copies, µs. */
async function guestUnder(daemon: readonly string[], isSlow: boolean): Promise<Sample> {
  anew();
  const [executable = "", ...args] = daemon;
  const child = spawn(executable, [...args, ...words(isSlow)], {
    cwd: dir,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  const socket = join(dir, "nbd.sock");
  while (!existsSync(join(dir, "mon.sock")) || !existsSync(socket) || !(await answers(socket)))
    await new Promise((resolve) => setTimeout(resolve, 20));
  const client = await QmpClient.connect(`unix:${join(dir, "mon.sock")}`);
  try {
    await client.executeRaw("blockdev-backup", {
      ...{ "job-id": "copy", device: "then", target: "target", sync: "full" },
    });
    const load = {
      rw: "randwrite",
      depth: 1,
      mebibytes: options.mebibytes,
      seconds: options.seconds,
    } as const;
    const url = `nbd+unix:///disk?socket=${socket}`;
    // A program that has just begun is no guest's server yet.
    fio(url, { ...load, seconds: 1, ratePerSecond: 250 });
    return { value: fio(url, { ...load, ratePerSecond: 250 }).p99 };
  } finally {
    await client.close();
    child.kill("SIGKILL");
    await gone;
  }
}

const under =
  (daemon: readonly string[], isSlow: boolean): Contestant =>
  () =>
    guestUnder(daemon, isSlow);
const ours = [...options.ours, "daemon"];
const theirs = ["qemu-storage-daemon"];

const contests = [
  {
    name: "writes of 4 KiB, 99th percentile: a slow target after a fast one, µs",
    peer: "ours to a fast target",
    goal: 0.83,
    pair: [under(ours, false), under(ours, true)],
  },
  {
    name: "writes of 4 KiB, 99th percentile: a slow target, µs",
    peer: "qemu-storage-daemon",
    goal: 1,
    pair: [under(theirs, true), under(ours, true)],
  },
] as const;

async function* rows(): AsyncGenerator<Row> {
  makeDisk(join(dir, "disk.raw"), options.mebibytes);
  for (const { pair, ...judged } of contests)
    if (judged.name.includes(options.only)) yield rowOf(judged, await inTurn(options.pairs, ...pair));
}

await fillSheet(
  "fleecing",
  {
    title: "Fleecing",
    command: "npm run bench:fleecing",
    method: `${options.mebibytes} MiB of incompressible data on a tmpfs; copy-before-write into a qcow2 image, and a backup of the disk as it was into a target behind a throttle of 1 MiB/s (slow) or none; fio's nbd engine writes 4 KiB at random, 250 times a second, for ${options.seconds} s, after a second of it`,
    peer: "the other",
    unit: "",
  },
  rows(),
  options,
);
