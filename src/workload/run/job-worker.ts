/**
 * A worker that is a block job: it begins and ends as others do, and resumes its job when an error has stopped it.
 *
 * Invariant: the job has ended when the worker has; whatever became of it stands in the result.
 */
import { backup, commit, mirror, stream, whenReady } from "../../api/jobs.ts";
import type { Node } from "../../api/node.ts";
import type { Errno } from "../../base/errno.ts";
import { errnoOf, messageOf } from "../../base/errors.ts";
import type { BlockJob } from "../../job/core/block-job.ts";
import { JobCancelledError } from "../../job/core/job.ts";
import { type JobPlan, hasTarget } from "../model/job.ts";
import { WorkloadError, type WorkerPlan } from "../model/plan.ts";
import { Tally } from "../stats/tally.ts";
import { Digest } from "../stream/digest.ts";
import type { JobResult } from "./document.ts";
import type { Running, RunContext } from "./worker.ts";

/** A job's nodes. */
export interface JobNodes {
  readonly source: Node;
  /** Opens the target of one that has one, as long as the disk. */
  openTarget(job: JobPlan): Promise<Node>;
}

/** A job at work. */
export class JobWorker implements Running {
  readonly plan: WorkerPlan;
  readonly tally = new Tally();
  readonly requests: Digest;
  readonly data: Digest;
  readonly sent = 0;
  beginNs = 0;
  endNs = 0;
  job: JobResult | undefined;
  readonly #context: RunContext;
  readonly #nodes: JobNodes;
  readonly #plan: JobPlan;

  constructor(context: RunContext, init: { plan: WorkerPlan; job: JobPlan; nodes: JobNodes }) {
    this.plan = init.plan;
    this.#plan = init.job;
    this.#nodes = init.nodes;
    this.#context = context;
    this.requests = new Digest(context.kernels);
    this.data = new Digest(context.kernels);
  }

  /** Nothing of it is a request of the workload's. */
  settled(): Promise<void> {
    return Promise.resolve();
  }

  /** Runs the job to its end. Rejects with nothing that the job does (see RunContext.failed), and with WorkloadError. */
  async run(): Promise<void> {
    const { pacer, stop } = this.#context;
    await pacer.until(pacer.nowNs() + this.plan.startDelayNs, stop).catch(() => undefined);
    this.beginNs = pacer.nowNs();
    if (!stop.aborted) await this.#carryOut();
    this.endNs = pacer.nowNs();
  }

  async #carryOut(): Promise<void> {
    let target: Node | undefined;
    try {
      target = hasTarget(this.#plan) ? await this.#nodes.openTarget(this.#plan) : undefined;
      const job = await this.#start(target);
      await this.#follow(job);
    } catch (error) {
      // A target that is refused is wrong input.
      if (error instanceof WorkloadError) throw error;
      this.#fail(error);
    } finally {
      await target?.close().catch((error: unknown) => this.#fail(error));
    }
  }

  #start(target: Node | undefined): Promise<BlockJob> {
    const { type, sync, copyMode, bytesPerSecond, onSourceError, onTargetError } = this.#plan;
    const { source } = this.#nodes;
    const common = { signal: this.#context.stop, speedBytesPerSecond: bytesPerSecond };
    const both = { ...common, onSourceError, onTargetError, ...(sync ? { sync } : {}) };
    if (type === "mirror") return mirror(source, target!, { ...both, ...(copyMode ? { copyMode } : {}) });
    if (type === "backup") return backup(source, target!, both);
    const one = { ...common, onError: onSourceError };
    return type === "stream" ? stream(source, one) : commit(source, one);
  }

  async #follow(job: BlockJob): Promise<void> {
    let [errors, resumes] = [0, 0];
    job.addEventListener("BLOCK_JOB_ERROR", ({ data }) => {
      errors += 1;
      if (data.action !== "stop") return;
      if (++resumes <= this.#plan.resumes) void this.#resume(job);
      else void job.cancel({ force: true }).catch(() => undefined);
    });
    try {
      const ended = job.done;
      if (await becomesReady(job)) await this.#end(job);
      await ended;
      this.#tell(job, errors, { status: "completed" });
    } catch (error) {
      const isCancelled = error instanceof JobCancelledError;
      this.#tell(job, errors, { status: isCancelled ? "cancelled" : "failed", error: messageOf(error) });
      if (!isCancelled || !this.#context.stop.aborted) throw error;
    }
  }

  async #end(job: BlockJob): Promise<void> {
    if (this.#plan.whenReady === "complete") await job.complete();
    else await job.cancel({ force: false });
  }

  /** What a user does whom the event has called. */
  async #resume(job: BlockJob): Promise<void> {
    const { pacer, stop } = this.#context;
    await pacer.until(pacer.nowNs() + this.#plan.resumeAfterNs, stop).catch(() => undefined);
    try {
      job.resume();
    } catch {
      // It was cancelled meanwhile.
    }
  }

  #tell(job: BlockJob, errors: number, became: Pick<JobResult, "status" | "error">): void {
    const { type } = this.#plan;
    this.job = { type, ...became, offset: job.offset, length: job.length, ioStatus: job.ioStatus, errors };
  }

  #fail(error: unknown): void {
    const errno: Errno = errnoOf(error);
    const { name, onError, expected } = this.plan;
    this.#context.failed(
      { worker: name, errno, message: messageOf(error) },
      onError === "stop" && !expected.includes(errno),
    );
  }
}

/** Whether it waits to be completed; a job that ends by itself does not. */
async function becomesReady(job: BlockJob): Promise<boolean> {
  await whenReady(job);
  return job.isReady;
}
