/**
 * What it costs a guest's writes that a dirty bitmap records them so that a crash does not lose it: `npm run bench:recording [-- --mib N
 * --pairs N --seconds N --folder DIR --node PATH --record]`. The guest is fio, by NBD, each time to an image that nothing was written to since its
 * bitmap was made. Its files lie on a disk unless asked otherwise: in memory a flush costs nothing.
 */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Sample, inTurn, rowOf } from "./support/contest.ts";
import { answers, fio } from "./support/nbd-server.ts";
import { BenchFolder, benchOptions } from "./support/options.ts";
import { fillSheet } from "./support/sheet.ts";

const options = benchOptions({ mebibytes: 256, pairs: 30, seconds: 8 });
using folder = new BenchFolder(options.folder ?? tmpdir(), 4 * options.mebibytes);
const dir = folder.path;

function anew(isRecording: boolean): void {
  rmSync(join(dir, "nbd.sock"), { force: true });
  const image = (...words: string[]): unknown => execFileSync("qemu-img", words, { cwd: dir });
  image("create", "-q", "-f", "qcow2", "-o", "preallocation=falloc", "disk.qcow2", `${options.mebibytes}M`);
  if (isRecording) image("bitmap", "--add", "disk.qcow2", "nightly");
}

/** How long writes of 4 KiB take: the middle one, and on average, µs. */
interface Found extends Sample {
  readonly mean: number;
}

async function guest(isRecording: boolean): Promise<Found> {
  anew(isRecording);
  const socket = join(dir, "nbd.sock");
  const disk = { driver: "qcow2", "node-name": "disk", file: { driver: "file", filename: "disk.qcow2" } };
  const words = [
    ...["daemon", "--compat", "blockwright", "--blockdev", JSON.stringify(disk)],
    ...["--nbd-server", "addr.type=unix,addr.path=nbd.sock"],
    ...["--export", "type=nbd,id=e,node-name=disk,name=disk,writable=on"],
  ];
  const [executable = "", ...args] = options.ours;
  const child = spawn(executable, [...args, ...words], { cwd: dir, stdio: ["ignore", "ignore", "inherit"] });
  const gone = new Promise((resolve) => child.once("exit", resolve));
  try {
    while (!existsSync(socket) || !(await answers(socket))) {
      if (child.exitCode !== null) throw new Error("the daemon ended");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const { mebibytes, seconds } = options;
    const { p50, latency } = fio(`nbd+unix:///disk?socket=${socket}`, {
      ...{ rw: "randwrite", depth: 1, mebibytes, seconds },
    } as const);
    return { value: p50, mean: latency };
  } finally {
    child.kill("SIGTERM");
    await gone;
  }
}

async function* rows() {
  const found: { without: Found[]; recording: Found[] } = { without: [], recording: [] };
  const contestant = (side: keyof typeof found) => async () => {
    const sample = await guest(side === "recording");
    found[side].push(sample);
    return sample;
  };
  const runs = await inTurn(options.pairs, contestant("without"), contestant("recording"));
  yield rowOf({ name: "a write of 4 KiB, median, µs", goal: 0.97 }, runs);
  const means = (samples: readonly Found[]): Sample[] => samples.map(({ mean }) => ({ value: mean }));
  yield rowOf(
    { name: "writes of 4 KiB, mean, with those that wait for the journal, µs" },
    { theirs: means(found.without), ours: means(found.recording) },
  );
}

await fillSheet(
  "recording",
  {
    title: "Recording what is dirty",
    command: "npm run bench:recording",
    method: `an allocated qcow2 image of ${options.mebibytes} MiB, with a persistent dirty bitmap and its journal, and without; fio's nbd engine writes 4 KiB at random, one at a time, for ${options.seconds} s`,
    peer: "without a bitmap",
    unit: "",
  },
  rows(),
  options,
);
