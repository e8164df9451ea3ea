/** Options of the verb `workload`, as commander gives them, and which action takes which. */
import { WorkloadError } from "../../../workload.ts";
import type { GateChoice } from "../../options/engine.ts";

/** The options. */
export interface WorkloadFlags {
  target?: string;
  clock?: string;
  device?: string;
  seed?: string;
  output?: string;
  out?: string;
  size?: string;
  requests?: string;
  runtime?: string;
  repeat?: string;
  vs?: string;
  record?: string;
  speed?: string;
  direct?: boolean;
  overwrite?: boolean;
  /** False: --no-disk-digest. */
  diskDigest: boolean;
  tolerance?: string;
  gate: GateChoice;
}

type Flag = Exclude<keyof WorkloadFlags, "gate">;

const run: readonly Flag[] = [
  ...(["target", "clock", "device", "seed", "size", "requests", "runtime"] as const),
  ...(["direct", "overwrite", "diskDigest", "output", "out", "speed"] as const),
];

/** What each action has a use for; `--gate` is everybody's. */
const uses: Readonly<Record<string, readonly Flag[]>> = {
  run: [...run, "repeat", "vs", "record"],
  verify: [...run, "record"],
  record: run.filter((flag) => flag !== "output"),
  replay: [...run, "repeat", "vs", "record"],
  check: [],
  gate: ["tolerance"],
  compare: ["output", "out"],
  report: ["output", "out"],
  schema: [],
};

function nameOf(flag: Flag): string {
  if (flag === "diskDigest") return "--no-disk-digest";
  return flag === "out" ? "-o" : `--${flag}`;
}

/** Throws WorkloadError for an option that would have no effect: of another action, or beside one that excludes it. */
export function refuseUseless(action: string, flags: WorkloadFlags): void {
  const { gate: _everybodys, ...given } = flags;
  const isGiven = (flag: Flag): boolean =>
    flag === "diskDigest" ? !flags.diskDigest : flags[flag] !== undefined;
  for (const flag of Object.keys(given) as Flag[])
    if (isGiven(flag) && !uses[action]!.includes(flag))
      throw new WorkloadError(`${nameOf(flag)} has no effect with '${action}'`);
  for (const flag of ["repeat", "vs"] as const)
    if (flags.record !== undefined && flags[flag] !== undefined)
      throw new WorkloadError(`--${flag} has no effect with --record: one run is recorded`);
}
