// NBD beside QEMU's programs, both ways: `npm run bench:nbd [-- MIB [RUNS [SECONDS [FOLDER [ROW]]]]]`.
// Whole copies are timed as processes (minima), fio's requests of 4 KiB by a warm server (medians), the two programs in turn; ratio =
// the peer's time / ours, or our requests a second / the peer's: above 1 is faster than the peer. The disk lies on a tmpfs where there is one.
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { makeDisk } from "./support/disk.ts";

const [mib = "1024", runs = "5", seconds = "3", folder = "", only = ""] = process.argv.slice(2);
const MIB = Number(mib);
const cli = join(process.cwd(), "build", "cli", "main.js");
const shm = "/dev/shm";
const CLIENTS = 16;

interface Program {
  readonly server: readonly string[];
  readonly client: readonly string[];
}
const qemu: Program = { server: ["qemu-nbd"], client: ["qemu-img"] };
const ours: Program = { server: [process.execPath, cli, "nbd"], client: [process.execPath, cli] };

interface Server {
  readonly pid: number;
  readonly url: string;
  end(): Promise<void>;
}

async function answers(socket: string): Promise<boolean> {
  const client = connect(socket);
  return new Promise((resolve) => {
    client.once("data", () => {
      client.destroy();
      resolve(true);
    });
    client.once("error", () => resolve(false));
  });
}

async function serve({ server }: Program, image: string, socket: string): Promise<Server> {
  const [executable = "", ...words] = server;
  const args = [...words, "-f", "raw", "-t", "-e", "32", "-k", socket, image];
  const child: ChildProcess = spawn(executable, args, { stdio: ["ignore", "ignore", "ignore"] });
  const gone = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  while (!(existsSync(socket) && (await answers(socket)))) {
    if (child.exitCode !== null) throw new Error(`${args.join(" ")} ended`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    pid: child.pid ?? 0,
    url: `nbd+unix:///?socket=${socket}`,
    end: () => {
      child.kill("SIGTERM");
      return gone;
    },
  };
}

/** Peak resident memory of a process, MiB. */
function peak(pid: number): number {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? 0) / 1024;
}

function timed(command: readonly string[]): number {
  const [executable = "", ...args] = command;
  const begin = performance.now();
  execFileSync(executable, args, { stdio: "ignore" });
  return (performance.now() - begin) / 1000;
}

/** What fio finds: requests a second, and how long one takes on average, µs. */
interface Found {
  readonly iops: number;
  readonly latency: number;
}

interface Load {
  readonly rw: "randread" | "randwrite";
  readonly depth: number;
  readonly clients?: number;
  readonly bytes?: string;
}

function fio(url: string, { rw, depth, clients = 1, bytes = "4k" }: Load, time: number): Found {
  const words = ["--name=bench", "--ioengine=nbd", `--uri=${url}`, `--rw=${rw}`, `--bs=${bytes}`, "--thread"];
  const more = [`--iodepth=${depth}`, `--numjobs=${clients}`, "--group_reporting", "--output-format=json"];
  const span = ["--time_based", `--runtime=${time}`, `--size=${MIB}m`];
  const text = execFileSync("fio", [...words, ...more, ...span], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  interface Side {
    iops: number;
    clat_ns: { mean: number };
  }
  const { jobs } = JSON.parse(text.slice(text.indexOf("{"))) as { jobs: { read: Side; write: Side }[] };
  const side = jobs[0]![rw === "randread" ? "read" : "write"];
  return { iops: side.iops, latency: side.clat_ns.mean / 1000 };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

/** Calls `body` for both programs in turn; the results of each. */
async function inTurn<T>(body: (program: Program, run: number) => Promise<T> | T): Promise<[T[], T[]]> {
  const found = new Map<Program, T[]>([
    [qemu, []],
    [ours, []],
  ]);
  for (let run = 0; run < Number(runs); run++)
    for (const program of run % 2 === 0 ? [qemu, ours] : [ours, qemu])
      found.get(program)!.push(await body(program, run));
  return [found.get(qemu)!, found.get(ours)!];
}

interface Place {
  readonly dir: string;
  readonly image: string;
}

/** What a row says: its name, the peer's figure, ours, their ratio, and what is asked of it. */
type Row = readonly [name: string, theirs: string, ours: string, ratio: string, wanted: string];

async function serverToNbdcopy({ dir, image }: Place): Promise<Row> {
  const [theirs, mine] = await inTurn(async (program, run) => {
    const server = await serve(program, image, join(dir, `copy${run}`));
    const took = timed(["nbdcopy", server.url, "null:"]);
    await server.end();
    return took;
  });
  return whole("server to nbdcopy", theirs, mine);
}

async function clientFromQemuNbd({ dir, image }: Place): Promise<Row> {
  const server = await serve(qemu, image, join(dir, "source"));
  const copy = join(dir, "copy.raw");
  const [theirs, mine] = await inTurn(({ client }) => {
    rmSync(copy, { force: true });
    return timed([...client, "convert", "-f", "raw", "-O", "raw", server.url, copy]);
  });
  rmSync(copy, { force: true });
  await server.end();
  return whole("convert from qemu-nbd to a raw file", theirs, mine);
}

function whole(name: string, theirs: readonly number[], mine: readonly number[]): Row {
  const [a, b] = [Math.min(...theirs), Math.min(...mine)];
  return [name, `${a.toFixed(2)} s`, `${b.toFixed(2)} s`, (a / b).toFixed(2), "≥ 1.0"];
}

/** Requests of 4 KiB; of those one by one the time is told, of many at once their number. */
async function requests({ dir, image }: Place, load: Load): Promise<Row> {
  const [theirs, mine] = await inTurn(async (program, run) => {
    const server = await serve(program, image, join(dir, `${load.rw}${load.depth}-${run}`));
    fio(server.url, load, 1);
    const found = fio(server.url, load, Number(seconds));
    await server.end();
    return found;
  });
  const name = `4 KiB at depth ${load.depth}, ${load.rw === "randread" ? "reads" : "writes"}`;
  const figure = (all: readonly Found[], key: keyof Found): number => median(all.map((one) => one[key]));
  const key = load.depth === 1 ? "latency" : "iops";
  const [a, b] = [figure(theirs, key), figure(mine, key)];
  return key === "latency"
    ? [name, `${a.toFixed(0)} µs`, `${b.toFixed(0)} µs`, (a / b).toFixed(2), "≥ 0.77"]
    : [name, `${a.toFixed(0)}/s`, `${b.toFixed(0)}/s`, (b / a).toFixed(2), "≥ 0.7"];
}

/** Peak memory of a server that many clients read from at once, each with large requests. */
async function memory({ dir, image }: Place): Promise<Row> {
  const peaks: string[] = [];
  for (const program of [qemu, ours]) {
    const server = await serve(program, image, join(dir, `many${peaks.length}`));
    const load = { rw: "randread", depth: 8, clients: CLIENTS, bytes: "256k" } as const;
    fio(server.url, load, Number(seconds));
    peaks.push(`${peak(server.pid).toFixed(0)} MiB`);
    await server.end();
  }
  return [`peak memory of a server with ${CLIENTS} clients`, peaks[0]!, peaks[1]!, "–", "≤ 150 MiB"];
}

const rows: readonly ((place: Place) => Promise<Row>)[] = [
  serverToNbdcopy,
  clientFromQemuNbd,
  (place) => requests(place, { rw: "randread", depth: 1 }),
  (place) => requests(place, { rw: "randread", depth: 32 }),
  (place) => requests(place, { rw: "randwrite", depth: 32 }),
  memory,
];

const where = folder || (existsSync(shm) ? shm : tmpdir());
const dir = mkdtempSync(join(where, "blockwright-bench-"));
const image = join(dir, "disk");
try {
  makeDisk(image, MIB);
  console.log(`${MIB} MiB on ${where}, ${runs} runs in turn, load ${loadavg()[0]!.toFixed(1)} before\n`);
  for (const [index, measure] of rows.entries()) {
    if (only && only !== String(index)) continue;
    console.log((await measure({ dir, image })).join(" | "));
  }
  console.log(`\nload ${loadavg()[0]!.toFixed(1)} after`);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
