/** Processes as the benchmarks run them: how long, how much processor, how much memory. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Sample } from "./contest.ts";

interface Koffi {
  load(path: null): { func(definition: string): (who: number, usage: Uint8Array) => number };
}
const koffi = createRequire(import.meta.url)("koffi") as Koffi;
const getrusage = koffi.load(null).func("int getrusage(int who, _Out_ uint8_t *usage)");
const usage = new Uint8Array(256);

/** Seconds of processor that ended children have used: getrusage(RUSAGE_CHILDREN), whose first four words are two timevals. */
function childSeconds(): number {
  getrusage(-1, usage);
  const [userS = 0n, userUs = 0n, systemS = 0n, systemUs = 0n] = new BigInt64Array(usage.buffer);
  return Number(userS + systemS) + Number(userUs + systemUs) / 1e6;
}

/** Peak resident memory of a process that runs, MiB; 0 when it has ended. */
export function peakOf(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

const TICKS_PER_SECOND = 100;

/** Seconds of processor that a process has used so far, by hundredths. */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Runs a command from its start to its end: seconds. Throws where it fails. One at a time. */
export function timed(
  [executable = "", ...args]: readonly string[],
  cwd?: string,
): Promise<Required<Sample>> {
  const before = childSeconds();
  const begin = performance.now();
  const child = spawn(executable, args, {
    ...(cwd === undefined ? {} : { cwd }),
    stdio: ["ignore", "ignore", "inherit"],
  });
  let peakMiB = 0;
  const look = setInterval(() => (peakMiB = Math.max(peakMiB, peakOf(child.pid ?? 0))), 10);
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (status) => {
      const value = (performance.now() - begin) / 1000;
      clearInterval(look);
      if (status === 0) resolve({ value, cpu: childSeconds() - before, peakMiB });
      else reject(new Error(`${executable} ${args.join(" ")}: exit status ${status}`));
    });
  });
}
