/**
 * `--vs COMMAND`: the workload and another program in turn, so many pairs, whose first is now the one and now the other, so that
 * neither has the better half of the machine's time; and the interval of how their times compare.
 */
import { spawn } from "node:child_process";
import {
  type Plan,
  type ResultDocument,
  type RunOptions,
  WorkloadError,
  runWorkload,
} from "../../../workload.ts";
import { judged } from "../../../workload/gate/gate.ts";
import { loadTwinKernels } from "../../../kernels/load.ts";
import { Draws, streamKey } from "../../../workload/random/noise.ts";
import { ratioInterval } from "../../../workload/stats/bootstrap.ts";

const TOLERANCE_PERCENT = 0;

/** Runs the command in a shell; resolves with how long it took, ns. Its output goes to stderr. */
function timed(command: string, signal: AbortSignal | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    const started = process.hrtime.bigint();
    const child = spawn(command, { shell: true, stdio: ["ignore", 2, 2], ...(signal ? { signal } : {}) });
    child.once("error", reject);
    child.once("exit", (status, killed) => {
      if (status === 0) resolve(Number(process.hrtime.bigint() - started));
      else reject(new WorkloadError(`'${command}' ended with ${killed ?? `exit status ${status}`}`));
    });
  });
}

/** Runs pairs. */
export async function versus(
  plan: Plan,
  options: RunOptions,
  { command, pairs }: { command: string; pairs: number },
): Promise<ResultDocument> {
  const [ours, theirs]: [number[], number[]] = [[], []];
  let last: ResultDocument | undefined;
  const own = async (): Promise<void> => {
    last = await runWorkload(plan, { ...options, digestDisk: false });
    if (last.status !== "done") throw new WorkloadError(last.errors[0]?.message ?? "the run failed");
    ours.push(last.elapsedNs);
  };
  const other = async (): Promise<void> => void theirs.push(await timed(command, options.signal));
  for (let pair = 0; pair < pairs; pair++)
    for (const one of pair % 2 === 0 ? [own, other] : [other, own]) await one();
  const draws = new Draws(loadTwinKernels({ arenaBytes: 65_536 }), streamKey(1, 0, "bootstrap"));
  const interval = ratioInterval(theirs, ours, draws);
  const words = { worse: "slower", "no worse": "not slower", "no verdict": "no verdict" } as const;
  const verdict = words[judged(interval, TOLERANCE_PERCENT)];
  const result = last!;
  return { ...result, samplesNs: ours, versus: { command, samplesNs: theirs, interval, verdict } };
}
