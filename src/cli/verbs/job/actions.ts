/** The words after `blockwright job`: QMP's verbs of jobs, and what looks at them. */
import { type JobVerb, jobVerbs } from "../../../job/core/verbs.ts";

/** What can be done. */
export const jobActions = ["list", "watch", ...jobVerbs, "events"] as const;

/** One of them. */
export type JobAction = "list" | "watch" | "events" | JobVerb;
