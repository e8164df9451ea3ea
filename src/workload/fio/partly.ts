/** What of a fio job's options has an effect in part only, or none here: none of it is dropped without being named. */
import type { FioJob } from "./job.ts";

/** An option, and what of it has no effect. */
export interface Partly {
  readonly name: string;
  readonly reason: string;
}

/** A list whose members are not all the same. */
function differ(text = ""): boolean {
  return new Set(text.split(",").map((part) => part.trim())).size > 1;
}

function zonesOrCentre(text = ""): string | undefined {
  const [kind, , centre] = text.split(/[:/]/);
  if (text.startsWith("zoned")) return text.includes(",") ? "the zones of reads hold for all" : undefined;
  return kind !== "random" && (centre !== undefined || text.includes(","))
    ? "its centre has no effect"
    : undefined;
}

/** What of the job's options has an effect in part only. */
export function partlyOf(
  job: FioJob,
  { follows, isSynchronous }: { follows: boolean; isSynchronous: boolean },
): Partly[] {
  const policy = job.text("continue_on_error") ?? "none";
  const spread = zonesOrCentre(job.text("random_distribution"));
  const found: readonly (Partly | false | undefined | 0)[] = [
    job.number("fsync") &&
      job.number("fdatasync") && {
        name: "fdatasync",
        reason: "fsync alone says when there are flushes",
      },
    follows && { name: "rate", reason: "a direction without a rate is sent beside the others" },
    spread !== undefined && { name: "random_distribution", reason: spread },
    isSynchronous &&
      (job.count("iodepth") ?? 1) > 1 && {
        name: "iodepth",
        reason: "the engine sends one request at a time",
      },
    differ(job.text("percentage_random")) && {
      name: "percentage_random",
      reason: "that of reads holds for all",
    },
    job.text("startdelay")?.includes("-") && { name: "startdelay", reason: "it is the least of the range" },
    ["read", "write"].includes(policy) && {
      name: "continue_on_error",
      reason: "errors of all requests are gone on after",
    },
  ];
  return found.filter((one): one is Partly => Boolean(one));
}
