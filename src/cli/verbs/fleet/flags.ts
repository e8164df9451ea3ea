/** The command line of `fleet`, as its script gets it. */

/** What it does. */
export const fleetActions = ["run", "submit", "worker", "status", "cancel", "drain", "retry"] as const;
/** One of them. */
export type FleetAction = (typeof fleetActions)[number];

/** Its options, as they were written. */
export interface FleetFlags {
  queue?: string;
  journal?: string;
  workers?: string;
  limit?: string;
  attempts?: string;
  backoff?: string;
  lease?: string;
  wait?: boolean;
  idleExit?: boolean;
  failed?: boolean;
  resume?: boolean;
  dashboard?: string | true;
  tokenFile?: string;
  jobs?: boolean;
  metrics?: boolean;
  json?: boolean;
}
