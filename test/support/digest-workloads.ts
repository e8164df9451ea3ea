// Workloads that follow from a seed, each with a device, for engines that must agree on what comes of them to the last digit.
// BLOCKWRIGHT_DIGEST_WORKLOADS: how many; default 6.
import { Dice } from "../../src/sim/dice.ts";
import type { DeviceJson, WorkerJson, WorkloadJson } from "../../src/workload.ts";

/** One, as `parseWorkload` and `runWorkload` take it. */
export interface DigestWorkload {
  readonly text: string;
  readonly options: { readonly seed: number; readonly device: string | DeviceJson; readonly target: string };
}

/**
 * A module that runs them: `digestsOf(library, list)` gives a line for each, with the digests and the SHA-256 of the whole result. As
 * text, since it goes to programs and pages as it is.
 */
export const DIGESTS_MODULE = `
export async function digestsOf({ parseWorkload, report, runWorkload }, list) {
  const lines = [];
  for (const { text, options } of list) {
    const result = await runWorkload(await parseWorkload(text), options);
    const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(report(result, "json")));
    const hex = [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const { requests, data, disk } = result.digest;
    lines.push([result.status, requests, data, disk, hex].join(" "));
  }
  return lines;
}
`;

const size = 2 ** 20;

function locality(dice: Dice): NonNullable<WorkerJson["locality"]> {
  return dice.pick<NonNullable<WorkerJson["locality"]>>([
    "sequential",
    "backwards",
    "random",
    "once",
    { zipf: 0.4 + dice.fraction() },
    { pareto: 0.1 + dice.fraction() / 2 },
    { normal: 1 + dice.below(40) },
    {
      hot: [
        { accesses: 80, of: 10 },
        { accesses: 20, of: 90 },
      ],
    },
    { sequentialPercent: dice.below(101) },
  ]);
}

function worker(dice: Dice, i: number): WorkerJson {
  const rates = [undefined, 2000, { poisson: 3000 }, { bytesPerSecond: "8M" }] as const;
  const rate = dice.pick(rates);
  return {
    name: `worker ${i}`,
    mix: { read: dice.below(5), write: 1 + dice.below(5), zero: dice.below(2), discard: dice.below(2) },
    sizes: dice.pick<NonNullable<WorkerJson["sizes"]>>([
      "4k",
      { min: 512, max: "32k", step: 512 },
      [{ size: "4k", weight: 7 }, { size: "16k" }],
    ]),
    locality: locality(dice),
    depth: 1 + dice.below(8),
    requests: 40 + dice.below(160),
    fua: dice.pick([0, 10]),
    flushEvery: dice.pick([0, 16]),
    data: { compress: dice.below(100), duplicates: dice.below(50), zeroes: dice.below(50) },
    onError: "continue",
    ...(rate === undefined ? {} : { rate }),
    ...(dice.oneIn(3) ? { think: { time: "150us", every: 1 + dice.below(4) } } : {}),
  };
}

function job(dice: Dice): WorkerJson {
  const type = dice.pick(["mirror", "backup"] as const);
  return { name: "job", startDelay: "1ms", onError: "continue", job: { type, onError: "ignore" } };
}

function fioText(dice: Dice): string {
  const options = [
    `rw=${dice.pick(["randrw", "rw", "randwrite", "randread", "randtrimwrite", "rw:8k", "randrw:3"])}`,
    dice.pick(["bs=4k", "bsrange=1k-32k", "bssplit=4k/60:64k,512/20:8k", "bs=4k,16k,8k"]),
    dice.pick(["norandommap", "random_distribution=zipf:1.2", "random_distribution=pareto:0.3", "iodepth=8"]),
    dice.pick(["rate_iops=3000,1000", "rate=8m", "thinktime=200", "fsync=8", "rwmixread=80"]),
  ];
  return `[global]\nsize=1m\nioengine=libaio\nnumber_ios=150\n[a]\n${options.join("\n")}\n[b]\nstonewall\nrw=read\nnumjobs=2\n`;
}

function device(dice: Dice): string | DeviceJson {
  if (dice.oneIn(2)) return dice.pick(["ssd", "disk", "cloud", "http"]);
  return {
    channels: 1 + dice.below(8),
    latency: {
      read: { median: "90us", sigma: dice.fraction() },
      write: { mean: "80us", deviation: "30us", least: "10us" },
      discard: { uniform: ["10us", "1ms"] },
      flush: { exponential: "500us", base: "20us" },
    },
    bytesPerSecond: { read: "1G", write: "300M" },
    cache: { size: "256k", bytesPerSecond: "100M", flush: "200us" },
    zones: [{ offset: "128k", size: "64k", errorRate: dice.fraction() / 4 }],
    faults: [{ kind: "stall", at: "2ms", every: "20ms", for: "3ms" }],
  };
}

/** The workload of a seed. */
export function digestWorkload(seed: number): DigestWorkload {
  const dice = new Dice(seed);
  const workers = Array.from({ length: 1 + dice.below(3) }, (_, i) => worker(dice, i));
  const json: WorkloadJson = dice.oneIn(3)
    ? { size, phases: [{ workers }, { workers: [worker(dice, 9), ...(dice.oneIn(2) ? [job(dice)] : [])] }] }
    : { size, workers };
  const text = dice.oneIn(3) ? fioText(dice) : JSON.stringify(json);
  return { text, options: { seed, device: device(dice), target: "memory:4M" } };
}

/** As many as are asked for. */
export function digestWorkloads(): DigestWorkload[] {
  const count = Number(process.env["BLOCKWRIGHT_DIGEST_WORKLOADS"] ?? 6);
  return Array.from({ length: count }, (_, i) => digestWorkload(i + 1));
}
