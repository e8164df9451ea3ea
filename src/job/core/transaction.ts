/**
 * Jobs that end together: all succeed, or the rest is cancelled when one fails. Every job is in a transaction, of one by
 * default. Members are kept, and finalized, newest first. Source: behaviour of QEMU 7.2.
 *
 * Invariant: while `settling` is set the members' ends are being carried out and no verb is accepted; it is the stretch
 * that QEMU runs without returning to its monitor. It begins when no job is being started, and none is meanwhile.
 */
import { assert } from "../../base/assert.ts";
import { Wakeup } from "../../base/signals.ts";
import type { JobHome } from "./environment.ts";
import type { JobStatus } from "./verbs.ts";

/** A job as its transaction sees it (job.ts). */
export interface TransactionMember {
  readonly registry: JobHome;
  readonly error: Error | undefined;
  readonly autoFinalize: boolean;
  readonly isStarted: boolean;
  /** The job's own code is over. */
  readonly isCompleted: boolean;
  transition(to: JobStatus): void;
  /** Notes a cancel as the job's error, and goes to aborting if there is one. */
  updateResult(): void;
  becomePending(): void;
  /** Runs the last step that may fail, if nothing failed before. */
  prepareResult(): Promise<void>;
  /** Carries out the job's end. */
  finalizeSingle(): Promise<void>;
  requestCancel(force: boolean): void;
  untilCompleted(): Promise<void>;
}

/** A group of jobs with one end. */
export class JobTransaction {
  /** Members that have not ended, newest first. */
  readonly jobs: TransactionMember[] = [];
  readonly #settled = new Wakeup();
  #settling = 0;
  #aborting = false;

  /** Whether the members' ends are being carried out. */
  get settling(): boolean {
    return this.#settling > 0;
  }

  /** Adds a new job. */
  add(job: TransactionMember): void {
    assert(!this.jobs.includes(job), "a job is in its transaction twice");
    assert(!this.settling, "a job joins a transaction that ends");
    this.jobs.unshift(job);
  }

  /** Takes a job out that has ended. */
  remove(job: TransactionMember): void {
    const at = this.jobs.indexOf(job);
    if (at >= 0) this.jobs.splice(at, 1);
  }

  /** A member's code is over (or it was cancelled before its start). */
  async completed(job: TransactionMember): Promise<void> {
    job.updateResult();
    if (job.error) return this.abort(job);
    job.transition("waiting");
    if (this.jobs.some((other) => !other.isCompleted)) return;
    for (const other of [...this.jobs]) other.becomePending();
    if (this.jobs.every((other) => other.autoFinalize)) await this.finalize(job);
  }

  /** Ends all members, which are pending: prepares all, then commits them; a failed prepare aborts all. */
  async finalize(job: TransactionMember): Promise<void> {
    await this.#settle(job, async () => {
      for (const other of [...this.jobs]) {
        await other.prepareResult();
        if (other.error) return this.abort(job);
      }
      for (const other of [...this.jobs]) await other.finalizeSingle();
      return undefined;
    });
  }

  /** Cancels all members but `job`, waits for them, and ends all. Does nothing if that is under way. */
  async abort(job: TransactionMember): Promise<void> {
    if (this.#aborting) return;
    this.#aborting = true;
    await this.#settle(job, async () => {
      for (const other of [...this.jobs]) if (other !== job) other.requestCancel(true);
      for (let other = this.jobs[0]; other; other = this.jobs[0]) {
        await other.untilCompleted();
        await other.finalizeSingle();
      }
    });
  }

  /** Resolves when no end is being carried out. */
  untilSettled(): Promise<void> {
    return this.#settled.until(() => !this.settling);
  }

  async #settle(job: TransactionMember, body: () => Promise<void>): Promise<void> {
    this.#settling += 1;
    // The end of a job that never ran is a part of its failed start, and one within another end is a part of that.
    const isWithin = this.#settling > 1 || !job.isStarted;
    try {
      await (isWithin ? body() : job.registry.exclusively(body));
    } finally {
      this.#settling -= 1;
      if (!this.settling) this.#settled.wake();
    }
  }
}
