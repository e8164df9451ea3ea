/** Options of the verb `workload`, as commander gives them. */
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
