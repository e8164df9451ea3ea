/**
 * What is going on, in words: why the guest or a job waits, and what brings it on. Knows no DOM.
 */

/** What is known. */
export interface Situation {
  isStopped: boolean;
  /** What the guest has asked its disk for and not got, the oldest of it. */
  wants?: { what: "read" | "write"; sector: number } | undefined;
  /** The job that runs, if one does. */
  job?: { kind: string; ioStatus: string } | undefined;
  /** What an error has stopped goes on without anybody. */
  isAutomatic: boolean;
  /** Nothing of the disk is on the server alone. */
  isAllHere: boolean;
}

const CAUSES: Readonly<Record<string, string>> = {
  failed: "the server does not answer",
  nospace: "the storage is full",
};

/** A job, as people call it. */
function nameOf(kind: string): string {
  return kind === "fill" ? "stream" : kind;
}

function guestWaits({ wants, isAutomatic }: Situation): string {
  const next = isAutomatic
    ? "It goes on by itself once that is over."
    : 'Press "Continue the guest" once that is over.';
  if (!wants) return `The guest is stopped. ${next}`;
  const why =
    wants.what === "read"
      ? `it wants sector ${wants.sector}, which is still on the server, and the server does not answer`
      : `it writes sector ${wants.sector}, and the storage is full`;
  return `The guest waits: ${why}. Its clock stands still, so it notices nothing. ${next}`;
}

/** One or two sentences for those who watch. */
export function explain(now: Situation): string {
  const { isStopped, job, isAutomatic, isAllHere } = now;
  const cause = job && CAUSES[job.ioStatus];
  const jobs = cause
    ? `The ${nameOf(job.kind)} waits: ${cause}. What it has copied is kept. ` +
      (isAutomatic ? "It tries again by itself." : 'Press "Resume" once that is over.')
    : "";
  if (isStopped) return [guestWaits(now), jobs].filter(Boolean).join(" ");
  if (jobs) return `The guest runs. ${jobs}`;
  if (job?.kind === "fill")
    return "The guest runs, and a stream brings the rest of its disk. What it wants sooner is fetched at once.";
  if (job) return `The guest runs while the ${nameOf(job.kind)} reads its disk.`;
  if (isAllHere) return "All of the disk is here: the guest needs no server any more.";
  return "The guest runs. What it wants and is not here yet is fetched from the server.";
}
