/** The words after `blockwright job`: QMP's verbs of jobs, and what looks at them. */
import { type JobVerb, jobVerbs } from "../../../job/core/verbs.ts";

/** Changing a job needs a daemon of newer QEMU's commands. */
type PlainVerb = Exclude<JobVerb, "change">;

const plainVerbs = jobVerbs.filter((verb): verb is PlainVerb => verb !== "change");

/** What can be done. */
export const jobActions = ["list", "watch", ...plainVerbs, "events"] as const;

/** One of them. */
export type JobAction = "list" | "watch" | "events" | PlainVerb;
