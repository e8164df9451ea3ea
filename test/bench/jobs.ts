// Live jobs beside qemu-storage-daemon, through one QMP client: `npm run bench:jobs [-- MIB [RUNS [FOLDER [JOB]]]]`.
// Each job is timed from its command to READY or COMPLETED, the two programs in turn, and the minima are compared:
// ratio = the peer's time / ours, above 1 is faster than the peer. The images lie on a tmpfs where there is one.
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeDisk } from "./support/disk.ts";

const [mib = "1024", runs = "5", folder = "", only = ""] = process.argv.slice(2);
const MIB = Number(mib);
const cli = join(process.cwd(), "build", "cli", "main.js");
const shm = "/dev/shm";

interface Program {
  name: string;
  command: string[];
}
const programs: Program[] = [
  { name: "qemu-storage-daemon", command: ["qemu-storage-daemon"] },
  { name: "blockwright", command: [process.execPath, cli, "daemon"] },
];

interface Job {
  name: string;
  /** The ratio that the data path must reach, where one is set. */
  floor?: number;
  prepare(dir: string): void;
  nodes: object[];
  command: { execute: string; arguments: object };
  until: string;
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

const img = (dir: string, ...args: string[]): void => {
  execFileSync("qemu-img", args, { cwd: dir, stdio: "ignore" });
};
const newRaw = (dir: string): void => {
  rmSync(join(dir, "dst.raw"), { force: true });
  img(dir, "create", "-f", "raw", "dst.raw", `${MIB}M`);
};
const newQcow2 = (dir: string): void => {
  rmSync(join(dir, "dst.qcow2"), { force: true });
  img(dir, "create", "-f", "qcow2", "dst.qcow2", `${MIB}M`);
};
const newOverlay = (dir: string): void => {
  rmSync(join(dir, "top.qcow2"), { force: true });
  img(dir, "create", "-f", "qcow2", "-b", "src.raw", "-F", "raw", "top.qcow2");
};
const newChain = (dir: string): void => {
  for (const name of ["base.raw", "mid.qcow2", "top.qcow2"]) rmSync(join(dir, name), { force: true });
  img(dir, "create", "-f", "raw", "base.raw", `${MIB}M`);
  img(dir, "convert", "-f", "raw", "-O", "qcow2", "-B", "base.raw", "-F", "raw", "src.raw", "mid.qcow2");
  img(dir, "create", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", "top.qcow2");
};
const chain = [
  file("bf", "base.raw"),
  raw("base", "bf"),
  file("mf", "mid.qcow2"),
  qcow2("mid", "mf", "base"),
  file("tf", "top.qcow2"),
  qcow2("top", "tf", "mid"),
];
const job = (execute: string, args: object): Job["command"] => ({
  execute,
  arguments: { "job-id": "j", ...args },
});
const mirror = job("blockdev-mirror", { device: "src", target: "dst", sync: "full" });
const backup = job("blockdev-backup", { device: "src", target: "dst", sync: "full" });

const jobs: Job[] = [
  {
    name: "mirror raw→raw",
    floor: 0.9,
    prepare: newRaw,
    nodes: [...source, ...rawTarget],
    command: mirror,
    until: "BLOCK_JOB_READY",
  },
  {
    name: "backup raw→raw",
    floor: 0.9,
    prepare: newRaw,
    nodes: [...source, ...rawTarget],
    command: backup,
    until: "BLOCK_JOB_COMPLETED",
  },
  {
    name: "mirror raw→qcow2",
    floor: 1,
    prepare: newQcow2,
    nodes: [...source, ...qcow2Target],
    command: mirror,
    until: "BLOCK_JOB_READY",
  },
  {
    name: "backup raw→qcow2",
    floor: 1,
    prepare: newQcow2,
    nodes: [...source, ...qcow2Target],
    command: backup,
    until: "BLOCK_JOB_COMPLETED",
  },
  {
    name: "stream into a qcow2 overlay",
    floor: 1,
    prepare: newOverlay,
    nodes: [...source, file("tf", "top.qcow2"), qcow2("top", "tf", "src")],
    command: job("block-stream", { device: "top" }),
    until: "BLOCK_JOB_COMPLETED",
  },
  {
    name: "commit a qcow2 into a raw base",
    prepare: newChain,
    nodes: chain,
    command: job("block-commit", { device: "top", "top-node": "mid", "base-node": "base" }),
    until: "BLOCK_JOB_COMPLETED",
  },
];

interface Measured {
  seconds: number;
  peakMiB: number;
}

interface Message {
  event?: string;
  return?: unknown;
  error?: { desc: string };
  data?: { error?: string };
}

/** Peak resident memory of a process, MiB. */
function peak(pid: number): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? 0) / 1024;
}

async function connectTo(path: string): Promise<ReturnType<typeof connect>> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (!existsSync(path)) continue;
    const socket = connect(path);
    const ok = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true));
      socket.once("error", () => resolve(false));
    });
    if (ok) return socket;
  }
}

async function measure(program: Program, { nodes, command, until }: Job, dir: string): Promise<Measured> {
  const socketPath = join(dir, "mon.sock");
  rmSync(socketPath, { force: true });
  const blockdevs = nodes.flatMap((node) => ["--blockdev", JSON.stringify(node)]);
  const [executable = "", ...args] = program.command;
  const child = spawn(
    executable,
    [
      ...args,
      ...blockdevs,
      "--chardev",
      `socket,path=${socketPath},server=on,wait=off,id=m`,
      "--monitor",
      "chardev=m",
    ],
    { cwd: dir, stdio: ["ignore", "ignore", "inherit"] },
  );
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const socket = await connectTo(socketPath);
  let begin = 0;
  const result = await new Promise<Measured>((resolve, reject) => {
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => {
      const lines = (text + part).split("\n");
      text = lines.pop() ?? "";
      for (const line of lines) {
        const message = JSON.parse(line) as Message;
        if (message.error) reject(new Error(message.error.desc));
        if (message.event !== until) continue;
        if (message.data?.error) reject(new Error(message.data.error));
        resolve({ seconds: (performance.now() - begin) / 1000, peakMiB: peak(child.pid ?? 0) });
      }
    });
    socket.write(`${JSON.stringify({ execute: "qmp_capabilities" })}\n`);
    // The program's start is not what is measured.
    setTimeout(() => {
      begin = performance.now();
      socket.write(`${JSON.stringify(command)}\n`);
    }, 300);
  });
  socket.write(`${JSON.stringify({ execute: "quit" })}\n`);
  await exited;
  socket.destroy();
  return result;
}

function roomOn(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return (bavail * bsize) / 2 ** 20;
}

const where = folder || (existsSync(shm) && roomOn(shm) > 3 * MIB ? shm : tmpdir());
const dir = mkdtempSync(join(where, "blockwright-bench-"));
try {
  makeDisk(join(dir, "src.raw"), MIB);
  console.log(`${MIB} MiB of incompressible data on ${where}, minima of ${runs} runs in turn\n`);
  console.log("job                            peer s   ours s   ratio  floor  our peak MiB");
  for (const each of jobs.filter((job) => job.name.includes(only))) {
    const best = new Map<string, Measured>();
    for (let run = 0; run < Number(runs); run++) {
      for (const program of run % 2 === 0 ? programs : programs.toReversed()) {
        each.prepare(dir);
        const measured = await measure(program, each, dir);
        const old = best.get(program.name);
        best.set(program.name, {
          seconds: Math.min(measured.seconds, old?.seconds ?? Infinity),
          peakMiB: Math.max(measured.peakMiB, old?.peakMiB ?? 0),
        });
      }
    }
    const [theirs, ours] = programs.map(({ name }) => best.get(name));
    if (!theirs || !ours) continue;
    const ratio = theirs.seconds / ours.seconds;
    console.log(
      `${each.name.padEnd(28)} ${theirs.seconds.toFixed(3).padStart(8)} ${ours.seconds.toFixed(3).padStart(8)} ` +
        `${ratio.toFixed(2).padStart(7)} ${(each.floor?.toFixed(1) ?? "").padStart(6)} ${ours.peakMiB.toFixed(0).padStart(13)}`,
    );
  }
} finally {
  rmSync(dir, { recursive: true, force: true });
}
