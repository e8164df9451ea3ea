// Whole-image commands beside qemu-img: `npm run bench:images [-- MIB [RUNS [FOLDER [ONLY]]]]`. Each command is a process of
// its own, from its start to its end, Node's start included; the two programs take turns, first one first and then the
// other, and the minima are compared: ratio = qemu-img's time / ours, above 1 is faster than qemu-img. Beside the clock stands
// the processor time (user and system), since on a busy machine the clock also tells who else was there; and the peak memory.
import { execFileSync, spawn } from "node:child_process";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [mib = "2048", runs = "5", folder = "", only = ""] = process.argv.slice(2);
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const SIZE = Number(mib);
const RUNS = Number(runs);
const cli = join(process.cwd(), "build", "cli", "main.js");
const shm = "/dev/shm";

interface Program {
  name: string;
  command: string[];
}
const programs: Program[] = [
  { name: "qemu-img", command: ["qemu-img"] },
  { name: "blockwright", command: [process.execPath, cli] },
];

interface Task {
  name: string;
  /** The ratio that must be reached, where one is set. */
  floor?: number;
  args: string[];
  /** Runs of a slow one. */
  runs?: number;
  /** Files that it needs. */
  needs: (keyof typeof sources)[];
}

/** Fills a buffer with noise that does not compress. */
function noise(): (bytes: Uint8Array) => void {
  let state = 88_172_645;
  return (bytes) => {
    const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
    for (let word = 0; word < words.length; word++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[word] = state;
    }
  };
}

/** Words in random order: compresses as text does, to less than a half. */
function text(): (bytes: Uint8Array) => void {
  const words = Array.from({ length: 4096 }, (_, n) => Math.abs(Math.trunc(Math.sin(n) * 1e9)).toString(36));
  let state = 12_345;
  return (bytes) => {
    let line = "";
    while (line.length < bytes.byteLength) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
      line += `${words[(state >> 8) & 4095]} `;
    }
    bytes.set(Buffer.from(line.slice(0, bytes.byteLength)));
  };
}

/** Writes `bytes` of content in pieces of `piece`, each `step` bytes after the one before; the file is `length` bytes long. */
function write(
  path: string,
  fill: (bytes: Uint8Array) => void,
  how: { bytes: number; piece: number; step: number; length: number },
): void {
  const fd = openSync(path, "w");
  const buffer = new Uint8Array(how.piece);
  for (let at = 0, done = 0; done < how.bytes; at += how.step, done += how.piece) {
    fill(buffer);
    writeSync(fd, buffer, 0, how.piece, at);
  }
  ftruncateSync(fd, how.length);
  closeSync(fd);
}

const img = (...args: string[]): void => {
  execFileSync("qemu-img", args, { cwd: dir, stdio: "ignore" });
};
const full = (mebibytes: number): { bytes: number; piece: number; step: number; length: number } => {
  const bytes = mebibytes * MiB;
  return { bytes, piece: MiB, step: MiB, length: bytes };
};

/** How each source is made; in the order in which they need each other. */
const sources = {
  "src.raw": () => write(join(dir, "src.raw"), noise(), full(SIZE)),
  "src.qcow2": () => img("convert", "-f", "raw", "-O", "qcow2", "src.raw", "src.qcow2"),
  "text.raw": () => write(join(dir, "text.raw"), text(), full(SIZE / 4)),
  // 16384 pieces of 64 KiB, one in every 4 MiB.
  "sparse.raw": () =>
    write(join(dir, "sparse.raw"), noise(), { bytes: GiB, piece: 65_536, step: 4 * MiB, length: 64 * GiB }),
  "sparse.qcow2": () => img("convert", "-f", "raw", "-O", "qcow2", "sparse.raw", "sparse.qcow2"),
  // 16 GiB, of which a mebibyte in eight is data.
  "large.raw": () =>
    write(join(dir, "large.raw"), text(), { bytes: 2 * GiB, piece: MiB, step: 8 * MiB, length: 16 * GiB }),
  "large.qcow2": () => img("convert", "-f", "raw", "-O", "qcow2", "large.raw", "large.qcow2"),
};

const convert = (from: string, to: string, source: string, ...more: string[]): string[] => [
  ...["convert", ...more, "-f", from, "-O", to, source, "target"],
];
const tasks: Task[] = [
  { name: "convert raw → raw", floor: 0.9, args: convert("raw", "raw", "src.raw"), needs: ["src.raw"] },
  { name: "convert raw → qcow2", floor: 0.9, args: convert("raw", "qcow2", "src.raw"), needs: ["src.raw"] },
  {
    name: "convert qcow2 → raw",
    floor: 0.9,
    args: convert("qcow2", "raw", "src.qcow2"),
    needs: ["src.raw", "src.qcow2"],
  },
  {
    name: "convert -c raw → qcow2 (a quarter of the size, text)",
    floor: 1.2,
    args: convert("raw", "qcow2", "text.raw", "-c"),
    runs: 2,
    needs: ["text.raw"],
  },
  {
    name: "64 GiB sparse, 1 GiB of data, raw → raw",
    floor: 1,
    args: convert("raw", "raw", "sparse.raw"),
    needs: ["sparse.raw"],
  },
  {
    name: "64 GiB sparse, 1 GiB of data, raw → qcow2",
    floor: 1,
    args: convert("raw", "qcow2", "sparse.raw"),
    needs: ["sparse.raw"],
  },
  {
    name: "64 GiB sparse, 1 GiB of data, qcow2 → qcow2",
    floor: 1,
    args: convert("qcow2", "qcow2", "sparse.qcow2"),
    needs: ["sparse.raw", "sparse.qcow2"],
  },
  {
    name: "compare raw, raw",
    floor: 1,
    args: ["compare", "-f", "raw", "-F", "raw", "src.raw", "src.raw"],
    needs: ["src.raw"],
  },
  {
    name: "compare raw, qcow2",
    floor: 1,
    args: ["compare", "-f", "raw", "-F", "qcow2", "src.raw", "src.qcow2"],
    needs: ["src.raw", "src.qcow2"],
  },
  {
    name: "16 GiB sparse, 2 GiB of data, raw → qcow2",
    args: convert("raw", "qcow2", "large.raw"),
    runs: 2,
    needs: ["large.raw"],
  },
  {
    name: "16 GiB sparse, 2 GiB of data, qcow2 → raw",
    args: convert("qcow2", "raw", "large.qcow2"),
    runs: 2,
    needs: ["large.raw", "large.qcow2"],
  },
  {
    name: "16 GiB sparse, 2 GiB of data, -c raw → qcow2",
    args: convert("raw", "qcow2", "large.raw", "-c"),
    runs: 1,
    needs: ["large.raw"],
  },
];

interface Measured {
  seconds: number;
  cpuSeconds: number;
  peakMiB: number;
}

/** CPU seconds that ended children have used: getrusage(RUSAGE_CHILDREN), whose first four words are two timevals. */
function childSeconds(): number {
  getrusage(-1, usage);
  const [userS = 0n, userUs = 0n, systemS = 0n, systemUs = 0n] = new BigInt64Array(usage.buffer);
  return Number(userS + systemS) + Number(userUs + systemUs) / 1e6;
}
interface Koffi {
  load(path: null): { func(definition: string): (who: number, usage: Uint8Array) => number };
}
const koffi = createRequire(import.meta.url)("koffi") as Koffi;
const getrusage = koffi.load(null).func("int getrusage(int who, _Out_ uint8_t *usage)");
const usage = new Uint8Array(256);

/** Peak resident memory of a process that runs, MiB; 0 when it has ended. */
function peak(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

function measure({ command }: Program, { args }: Task): Promise<Measured> {
  rmSync(join(dir, "target"), { force: true });
  const [executable = "", ...before] = command;
  const cpuBefore = childSeconds();
  const begin = performance.now();
  const child = spawn(executable, [...before, ...args], { cwd: dir, stdio: ["ignore", "ignore", "inherit"] });
  let peakMiB = 0;
  const look = setInterval(() => (peakMiB = Math.max(peakMiB, peak(child.pid ?? 0))), 10);
  return new Promise((resolve, reject) => {
    child.once("exit", (status) => {
      const seconds = (performance.now() - begin) / 1000;
      clearInterval(look);
      if (status !== 0) reject(new Error(`${executable} ${args.join(" ")}: exit status ${status}`));
      resolve({ seconds, cpuSeconds: childSeconds() - cpuBefore, peakMiB });
    });
  });
}

function better(a: Measured | undefined, b: Measured): Measured {
  if (!a) return b;
  return {
    seconds: Math.min(a.seconds, b.seconds),
    cpuSeconds: Math.min(a.cpuSeconds, b.cpuSeconds),
    peakMiB: Math.max(a.peakMiB, b.peakMiB),
  };
}

function roomOn(path: string): number {
  const { bavail, bsize } = statfsSync(path);
  return (bavail * bsize) / MiB;
}

const columns = "qemu s  ours s   ratio  floor | qemu cpu  ours cpu   ratio | qemu MiB  ours MiB";
const cell = (value: number | undefined, width: number, digits = 2): string =>
  (value?.toFixed(digits) ?? "").padStart(width);

async function run(task: Task): Promise<void> {
  for (const name of task.needs) if (!existsSync(join(dir, name))) sources[name]();
  const best = new Map<string, Measured>();
  for (let turn = 0; turn < Math.min(task.runs ?? RUNS, RUNS); turn++) {
    for (const program of turn % 2 === 0 ? programs : programs.toReversed()) {
      best.set(program.name, better(best.get(program.name), await measure(program, task)));
    }
  }
  rmSync(join(dir, "target"), { force: true });
  const [theirs, ours] = programs.map(({ name }) => best.get(name));
  if (!theirs || !ours) return;
  console.log(
    task.name.padEnd(53) +
      cell(theirs.seconds, 7) +
      cell(ours.seconds, 8) +
      cell(theirs.seconds / ours.seconds, 8) +
      cell(task.floor, 7, 1) +
      cell(theirs.cpuSeconds, 11) +
      cell(ours.cpuSeconds, 10) +
      cell(theirs.cpuSeconds / ours.cpuSeconds, 8) +
      cell(theirs.peakMiB, 11, 0) +
      cell(ours.peakMiB, 10, 0),
  );
}

const room = 3 * SIZE + 8 * 1024;
const where = folder || (existsSync(shm) && roomOn(shm) > room ? shm : tmpdir());
const dir = mkdtempSync(join(where, "blockwright-bench-"));
try {
  console.log(`${SIZE} MiB on ${where}, minima of at most ${RUNS} runs in turn; peak memory: the highest\n`);
  console.log(" ".repeat(53) + columns);
  for (const task of tasks.filter(({ name }) => name.includes(only))) await run(task);
} finally {
  rmSync(dir, { recursive: true, force: true });
}
