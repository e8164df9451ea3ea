/**
 * The gate on the wall clock, judged: `npm run bench:wall -- --runs 200 [--percent 5] [--repeat 1600] [--tolerance 2] [--requests 100]`. Each
 * run is a gate of its own over `repeat` measurements of either side, in turn: once over the same code (a verdict of worse is a false alarm), once
 * over code whose every request takes so many percent longer. Prints one JSON document with how many of either were found.
 */
import { parseArgs } from "node:util";
import type { BlockDriver, DriverType } from "../../src/block/model/contract.ts";
import { portableDrivers } from "../../src/drivers/index.ts";
import { nodeHost } from "../../src/platform/node/host.ts";
import {
  type ResultDocument,
  type Verdict,
  type WorkloadJson,
  gate,
  runWorkload,
} from "../../src/workload.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "20" },
    percent: { type: "string", default: "5" },
    repeat: { type: "string", default: "1600" },
    tolerance: { type: "string", default: "2" },
    requests: { type: "string", default: "100" },
  },
});
const [runs, percent, repeat, tolerancePercent, requests] = [
  values.runs,
  values.percent,
  values.repeat,
  values.tolerance,
  values.requests,
].map(Number) as [number, number, number, number, number];

const workload: WorkloadJson = {
  size: "1M",
  target: { driver: "raw", file: { driver: "memory" } },
  workers: [{ mix: { read: 1, write: 1 }, locality: "random", requests, sizes: "16k" }],
};

/** The drivers, of which `raw` takes longer over each request, ns. */
function slower(ns: number): readonly DriverType[] {
  const raw = portableDrivers.find(({ name }) => name === "raw")!;
  const wait = (): void => {
    const end = process.hrtime.bigint() + BigInt(Math.round(ns));
    while (process.hrtime.bigint() < end);
  };
  const open: DriverType["open"] = async (context, spec) => {
    const driver = await raw.open(context, spec);
    const own: Partial<BlockDriver> = {
      pread: (...words) => (wait(), driver.pread(...words)),
      pwrite: (...words) => (wait(), driver.pwrite!(...words)),
    };
    return new Proxy(driver, {
      get: (_target, name) => {
        if (Object.hasOwn(own, name)) return own[name as "pread"];
        const member: unknown = Reflect.get(driver, name, driver);
        return typeof member === "function"
          ? (...words: unknown[]): unknown => Reflect.apply(member, driver, words)
          : member;
      },
    });
  };
  return portableDrivers.map((type) => (type === raw ? { ...raw, open } : type));
}

async function measured(drivers: readonly DriverType[]): Promise<ResultDocument> {
  const platform = { host: nodeHost(), drivers };
  const result = await runWorkload(workload, { clock: "real", digestDisk: false, overwrite: true, platform });
  if (result.status !== "done") throw new Error(result.errors[0]?.message);
  return result;
}

/** The verdict of one gate: so many measurements of both sides, whose first is now the one and now the other. */
async function verdictOn(now: readonly DriverType[]): Promise<Verdict> {
  const samples: [number[], number[]] = [[], []];
  const last: ResultDocument[] = [];
  for (let pair = 0; pair < repeat; pair++)
    for (const side of pair % 2 === 0 ? [0, 1] : [1, 0]) {
      last[side] = await measured(side === 0 ? same : now);
      samples[side]!.push(last[side].elapsedNs);
    }
  const [base, other] = last.map((result, side) => ({ ...result, samplesNs: samples[side]! }));
  return gate(base, other, { tolerancePercent });
}

const same = slower(0);
const warm: number[] = [];
for (let i = 0; i < 100; i++) warm.push((await measured(same)).elapsedNs);
// Of the quickest: the extra time is the same in each request, and is to be no more than said of any.
const extraNs = (Math.min(...warm.slice(20)) / requests) * (percent / 100);
const planted = slower(extraNs);

const counts = { alarms: 0, found: 0, withoutVerdict: { same: 0, planted: 0 } };
let longestMs = 0;
for (let run = 0; run < runs; run++) {
  const begun = performance.now();
  const [even, more] = [await verdictOn(same), await verdictOn(planted)];
  longestMs = Math.max(longestMs, (performance.now() - begun) / 2);
  if (even.verdict === "worse") counts.alarms += 1;
  if (even.verdict === "no verdict") counts.withoutVerdict.same += 1;
  if (more.verdict === "worse") counts.found += 1;
  if (more.verdict === "no verdict") counts.withoutVerdict.planted += 1;
}
console.log(
  JSON.stringify({ runs, repeat, percent, tolerancePercent, ...counts, longestMs: Math.round(longestMs) }),
);
