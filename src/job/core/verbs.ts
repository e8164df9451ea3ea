/**
 * The states of a job, the transitions between them and the verbs that each state accepts, as tables.
 * Source: QAPI's JobStatus and JobVerb, behaviour of QEMU 7.2.
 */
import type { TypeOf } from "../../wire/qapi/index.ts";

/** A job's state. */
export type JobStatus = TypeOf<"JobStatus">;

/** Every verb. */
export const jobVerbs = [
  "cancel",
  "pause",
  "resume",
  "set-speed",
  "complete",
  "finalize",
  "dismiss",
  "change",
] as const;

/** What a user may ask of a job, as QAPI's JobVerb spells it. */
export type JobVerb = (typeof jobVerbs)[number];

const transitions: Readonly<Record<JobStatus, readonly JobStatus[]>> = {
  undefined: ["created"],
  created: ["running", "aborting", "null"],
  running: ["paused", "ready", "waiting", "aborting"],
  paused: ["running"],
  ready: ["standby", "waiting", "aborting"],
  standby: ["ready"],
  waiting: ["pending", "aborting"],
  pending: ["aborting", "concluded"],
  aborting: ["aborting", "concluded"],
  concluded: ["null"],
  null: [],
};

const alive: readonly JobStatus[] = ["created", "running", "paused", "ready", "standby"];

const verbs: Readonly<Record<JobVerb, readonly JobStatus[]>> = {
  cancel: [...alive, "waiting", "pending"],
  pause: alive,
  resume: alive,
  "set-speed": alive,
  complete: ["ready", "standby"],
  finalize: ["pending"],
  dismiss: ["concluded"],
  change: alive,
};

/** Whether a job may go from one state to the other. */
export function canTransition(step: { from: JobStatus; to: JobStatus }): boolean {
  return transitions[step.from].includes(step.to);
}

/** Whether a job in `status` accepts `verb`. */
export function acceptsVerb(status: JobStatus, verb: JobVerb): boolean {
  return verbs[verb].includes(status);
}

/** Whether the job's own code is over: it waits for its transaction, or has ended. */
export function isCompleted(status: JobStatus): boolean {
  return status !== "undefined" && !alive.includes(status);
}

/** Whether the job is in sync with its source and can be completed. */
export function isReady(status: JobStatus): boolean {
  return status === "ready" || status === "standby";
}
