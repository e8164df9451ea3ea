/**
 * `npm run bench`: all benchmarks, one after the other; `-- --record` writes what came out to docs/benchmarks.json (then `npm run docs`).
 * `-- --gate [--pairs N] [--exact]`: judges by the harness's gate instead, what we do to a device by exact counters against the recording,
 * the clock only as qemu-img's over ours in the same run; exit status 0 (no worse), 1 (worse), 3 (no verdict). `--exact` leaves the clock
 * out. `-- --gate --record`: writes the recording of the counters anew. Run `npm run build` first.
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { gateStatus } from "../../src/workload/gate/gate.ts";
import type { Verdict } from "../../src/workload.ts";
import { root } from "../support/root.ts";
import { countersOf, loads, record, verdictOn } from "./gate/counters.ts";
import { judgedByFloor, measured } from "./gate/pairs.ts";

/** Of each source; the floors are for so many, of which the start of the programs is a small part. */
const MEBIBYTES = 2048;

const { values } = parseArgs({
  options: {
    gate: { type: "boolean", default: false },
    exact: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    pairs: { type: "string", default: "15" },
  },
});

const verdicts: Verdict["verdict"][] = [];
function tell(name: string, verdict: Verdict["verdict"], lines: readonly string[]): void {
  verdicts.push(verdict);
  console.log([`${verdict}: ${name}`, ...lines.map((line) => `  ${line}`)].join("\n"));
}

async function counters(): Promise<void> {
  for (const load of loads) {
    const { verdict, worse, better, notes } = verdictOn(load.name, await countersOf(load));
    const lines = [...worse, ...better].map(({ name, base, now }) => `${name} ${base} -> ${now}`);
    tell(load.name, verdict, [...lines, ...notes]);
  }
}

async function clock(): Promise<void> {
  const ours = [process.execPath, join(root, "build", "cli", "main.js")];
  for await (const { name, ratio, floor } of measured({
    mebibytes: MEBIBYTES,
    pairs: Number(values.pairs),
    ours,
  })) {
    const [middle, low, high] = [ratio.ratio, ratio.low, ratio.high].map((value) => value.toFixed(2));
    const line = `qemu-img's time over ours: ${middle} (95 %: ${low} to ${high}, ${ratio.pairs} pairs), at least ${floor}`;
    tell(name, judgedByFloor(ratio, floor), [line]);
  }
}

async function gated(): Promise<number> {
  await counters();
  if (!values.exact) await clock();
  const said = (["worse", "no verdict", "no worse"] as const).find((one) => verdicts.includes(one))!;
  console.log(said);
  return gateStatus[said];
}

/** All benchmarks; the exit status of the first that fails. */
function all(): number {
  for (const name of ["images", "jobs", "nbd", "fleecing", "kernels", "browser", "starts"]) {
    const words = ["run", "--silent", `bench:${name}`, ...(values.record ? ["--", "--record"] : [])];
    const { status } = spawnSync("npm", words, { stdio: "inherit" });
    if (status !== 0) return status ?? 1;
  }
  return 0;
}

if (values.gate && values.record) await record();
else process.exitCode = values.gate ? await gated() : all();
