/**
 * The one way to begin a job: what it needs of the graph is taken, the job is made, takes its nodes, and starts. A start that
 * fails at any point leaves the graph as it was, and is told in the words of what failed first.
 *
 * Invariant: it runs within JobRegistry.exclusively(), so that nothing happens between finding nodes (or a free id) and taking
 * them. Source: behaviour of QEMU 7.2's block jobs.
 */
import { failed, Leases } from "../base/lease.ts";
import { firstFailure } from "../base/errors.ts";
import { BlockJob } from "./core/block-job.ts";
import type { Job } from "./core/job.ts";

/** The parts of a start, in their order. Each may throw. */
export interface JobStart<J extends Job, T> {
  /** Takes what must be there before the job is: its filter, a writable node. The leases end if the start fails. */
  take(leases: Leases): Promise<T>;
  /** Makes the job, which is handed the leases that it is to end itself. */
  make(taken: T): J | Promise<J>;
  /** The job takes its nodes. What it takes it lets go in release(), or by a lease of `leases`. */
  hold?(job: J, taken: T, leases: Leases): Promise<void>;
  /** Bytes per second; 0 or absent: no limit. */
  speed?: number | undefined;
}

/** Makes a job and starts it. Throws CommandError in QEMU's words when it is refused; resolves with the running job. */
export async function startJob<J extends Job, T>(parts: JobStart<J, T>): Promise<J> {
  const job = await prepareJob(parts);
  // The engine may have ended meanwhile, and the job with it.
  if (job.status === "created") job.start();
  return job;
}

/** Makes a job that waits for its start (the actions of a transaction start theirs together). */
export async function prepareJob<J extends Job, T>(parts: JobStart<J, T>): Promise<J> {
  const leases = new Leases();
  let job: J | undefined;
  try {
    const taken = await parts.take(leases);
    job = await parts.make(taken);
    if (job instanceof BlockJob) job.setSpeed(parts.speed ?? 0);
    await parts.hold?.(job, taken, leases);
    return job;
  } catch (error) {
    const first = firstFailure(error);
    return failed(
      first,
      async () => job?.earlyFail(first),
      () => leases.end(),
    );
  }
}
