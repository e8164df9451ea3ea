/**
 * A job: long-running work with QEMU's verbs and ends, over the states and stops of job-core.ts. A subclass implements
 * `run()` and the hooks that it needs. Source: behaviour of QEMU 7.2's jobs.
 *
 * Invariant: each job ends exactly once: commit or abort, then clean, then its last event, concluded, and null when it
 * is dismissed.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { CommandError, firstFailure, messageOf, withCause } from "../../base/errors.ts";
import { asyncDispose } from "../../base/lease.ts";
import { type Deferred, deferred, onAbort } from "../../base/signals.ts";
import { JobCancelledError, JobCore, JobTransaction } from "./job-core.ts";
import { JobProgress } from "./pace.ts";
import { type ProgressOptions, type ProgressReport, progressOf } from "./progress-report.ts";
import type { JobHome } from "./environment.ts";
import { type JobVerb, acceptsVerb } from "./verbs.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

export { JobCancelledError } from "./job-core.ts";

/** Options of every job. */
export interface JobOptions {
  id: string;
  type: TypeOf<"JobType">;
  registry: JobHome;
  /** The transaction to join; default: one of its own. */
  transaction?: JobTransaction | undefined;
  /** False: wait in pending for finalize(). Default true. */
  autoFinalize?: boolean | undefined;
  /** False: stay concluded until dismiss(). Default true. */
  autoDismiss?: boolean | undefined;
  /** Force-cancels the job when it aborts. */
  signal?: AbortSignal | undefined;
}

/** What a job that succeeded did. */
export interface JobResult {
  /** Progress at the end, bytes (units of its own for a job that copies nothing). */
  offset: number;
  length: number;
  /** It was cancelled softly: in sync, but nothing was switched over. */
  cancelled: boolean;
  /** If any: what failed when the work was done, and undid nothing (an image that was left could not be flushed or closed). */
  warnings?: readonly Error[];
}

/** A point in a job's life that its kind may announce by an event. */
export type JobAnnouncement = "ready" | "pending" | "completed" | "cancelled";

/** Any job. */
export abstract class Job extends JobCore implements AsyncDisposable {
  readonly type: TypeOf<"JobType">;
  /** @internal */
  readonly transaction: JobTransaction;
  /** @internal */
  readonly autoFinalize: boolean;
  /** @internal */
  readonly autoDismiss: boolean;
  /** @internal */
  readonly counter = new JobProgress();
  /** `done`, for those who are not the job's user. @internal */
  readonly ended: Promise<JobResult>;
  /** Whether it is a `BlockJob`, which query-block-jobs lists. */
  readonly isBlockJob: boolean = false;

  #dismissed = false;
  #released = false;
  #dismissal: Promise<void> | undefined;
  #error: Error | undefined;
  readonly #done: Deferred<JobResult>;
  readonly #outerSignal: AbortSignal | undefined;
  #forgetSignal: () => void = () => undefined;
  readonly #warnings: Error[] = [];

  /** Throws CommandError (`Invalid job ID 'x'`, `Job ID 'x' already in use`); else the job exists in state created. */
  constructor(options: JobOptions) {
    options.registry.checkId(options.id);
    super(options.id, options.registry);
    this.type = options.type;
    this.autoFinalize = options.autoFinalize ?? true;
    this.autoDismiss = options.autoDismiss ?? true;
    this.#done = deferred();
    this.ended = this.#done.promise;
    this.ended.catch(() => undefined);
    this.#outerSignal = options.signal;
    this.transition("created");
    this.registry.add(this);
    this.transaction = options.transaction ?? new JobTransaction();
    this.transaction.add(this);
  }

  // What a kind of job implements.

  /** The work. Throws on failure; its error's message is the one that users see. @internal */
  protected abstract run(): Promise<void>;
  /** Last step that may fail, once all of the transaction is done. @internal */
  protected prepare?(): Promise<void>;
  /** The job succeeded. @internal */
  protected commit?(): Promise<void> | void;
  /** The job failed or was cancelled. @internal */
  protected abort?(): Promise<void> | void;
  /** After commit or abort. @internal */
  protected clean?(): Promise<void> | void;
  /** Completes a ready job; throws to refuse. @internal */
  protected completeHook?(): Promise<void> | void;
  /** Frees what the job holds of the graph; called once, when it is dismissed or fails before its start. @internal */
  protected release?(): Promise<void> | void;
  /** The work is over, well or not, and nothing was let go or changed for it yet. Does not reject. @internal */
  protected afterRun?(): Promise<void> | undefined;
  /** The job has ended, and let go what it held for its work. @internal */
  protected afterEnd?(): Promise<void> | undefined;
  /** Publishes the events of its kind. @internal */
  protected announce?(what: JobAnnouncement): void;

  /**
   * Carries out a step that decides nothing any more, such as closing the image that the job has moved away from: what it fails
   * with is told beside the job's result, or as a cause of its error. A broken invariant is thrown all the same.
   * @internal
   */
  async aside(step: () => Promise<unknown>): Promise<void> {
    try {
      await step();
    } catch (thrown) {
      const error = asError(thrown);
      if (error instanceof AssertionError) throw error;
      this.#warnings.push(error);
    }
  }

  // State.

  /**
   * Resolves when the job has concluded (and is dismissed, if it does that itself); rejects with the job's error
   * (JobCancelledError after a force-cancel).
   */
  get done(): Promise<JobResult> {
    this.hears();
    return this.ended;
  }

  get error(): Error | undefined {
    return this.#error;
  }

  /** Progress so far, bytes. */
  get offset(): number {
    return this.counter.current;
  }

  /** Progress at which the job is done, as far as it is known, bytes. */
  get length(): number {
    return this.counter.total;
  }

  /** The row of query-jobs. @internal */
  query(): Record<string, unknown> {
    return {
      "current-progress": this.counter.current,
      status: this.status,
      "total-progress": this.counter.total,
      type: this.type,
      id: this.id,
      ...(this.#error ? { error: messageOf(this.#error) } : {}),
    };
  }

  /** The row of query-block-jobs, if it is a block job. @internal */
  queryBlock(): Record<string, unknown> | undefined {
    return undefined;
  }

  // Verbs: what a user asks for. All throw CommandError in QEMU's words when refused.

  /** Pauses the job at its next pause point. */
  pause(): void {
    this.applyVerb("pause");
    if (this.userPaused) throw new CommandError("Job is already paused");
    this.userPause();
  }

  /** Takes the user's pause back. */
  resume(): void {
    if (!this.userPaused || this.pauseCount === 0) {
      throw new CommandError("Can't resume a job that was not paused");
    }
    this.applyVerb("resume");
    this.endUserPause();
    this.drainResume();
  }

  /**
   * Cancels. Without force, a job that is ready finishes its copy first; any other job takes it as forced. One that is ending or has
   * ended is let end; one that is still being set up ends when it is started.
   */
  async cancel({ force = true }: { force?: boolean } = {}): Promise<void> {
    if (this.#accepts("cancel")) await this.#cancel(force);
    else
      await this.done.then(
        () => undefined,
        () => undefined,
      );
  }

  /** Completes a ready job. */
  async complete(): Promise<void> {
    this.applyVerb("complete");
    if (this.cancelRequested || !this.completeHook) {
      throw new CommandError(`The active block job '${this.id}' cannot be completed`);
    }
    await this.completeHook();
  }

  /** Ends a pending job, with all jobs of its transaction; resolves when they have ended. */
  async finalize(): Promise<void> {
    this.applyVerb("finalize");
    await this.transaction.finalize(this);
  }

  /** Forgets a concluded job. */
  async dismiss(): Promise<void> {
    this.applyVerb("dismiss");
    await this.#dismiss();
  }

  /** Throws unless the job's state accepts the verb; no state does while the job's end is being carried out. @internal */
  applyVerb(verb: JobVerb): void {
    if (this.#accepts(verb)) return;
    const message = `Job '${this.id}' in state '${this.status}' cannot accept command verb '${verb}'`;
    throw new CommandError(message, { code: "EBUSY" });
  }

  /**
   * How far the job is, now and whenever that has changed, at most once in `intervalMs` (default 100), and once more at its end:
   * `for await (const { offset, length } of job.progress())`. It ends when the job has concluded, whatever became of it, and
   * rejects with the signal's reason.
   */
  progress(options: ProgressOptions = {}): AsyncGenerator<ProgressReport> {
    return progressOf(this, options);
  }

  /**
   * The end of an `await using`: cancels the job unless it is over, waits, and forgets it. Rejects with the error of a job that
   * had failed before if nobody has asked for it.
   */
  async [asyncDispose](): Promise<void> {
    await this.transaction.untilSettled();
    const { error, isHeard } = this;
    this.hears();
    if (this.status !== "null") await this.cancelAndDismiss();
    if (error && !isHeard && !(error instanceof JobCancelledError)) throw error;
  }

  // Life, for those who create jobs.

  /** Starts the job: running, and its code up to the first wait. @internal */
  start(): void {
    this.#watchSignal();
    this.begin(() => void this.#execute());
  }

  /** Ends a job that could not be set up: created, then null. @internal */
  async earlyFail(error: unknown): Promise<void> {
    assert(this.status === "created", "earlyFail after the start");
    this.#error ??= asError(error);
    await this.#dismiss();
  }

  /** The job is to end with that error, unless it has one. Whoever says so ends its work. @internal */
  protected failWith(error: Error): void {
    this.#error ??= error;
  }

  /** Ends a job that was set up and is not to be started, as a cancel ends one. @internal */
  async abandon(): Promise<void> {
    if (this.status !== "created") return;
    this.requestCancel(true);
    await this.transaction.completed(this);
  }

  /** In sync with the source: the job can be completed from now on. @internal */
  protected transitionToReady(): void {
    this.transition("ready");
    this.announce?.("ready");
  }

  // For the transaction.

  /** Notes a cancel as the job's error, and goes to aborting if there is one. @internal */
  updateResult(): void {
    if (!this.#error && this.isCancelled) this.#error = new JobCancelledError(this.cancelReason);
    if (this.#error) this.transition("aborting");
  }

  /** All members are done. @internal */
  becomePending(): void {
    this.transition("pending");
    if (!this.autoFinalize) this.announce?.("pending");
  }

  /** Runs prepare(), if nothing failed before. @internal */
  async prepareResult(): Promise<void> {
    assert(this.status === "pending", "only pending jobs are prepared");
    if (this.#error || !this.prepare) return;
    await this.#attempt(() => this.prepare?.());
    this.updateResult();
  }

  /** Waits until the job's code is over, entering it where it stands. @internal */
  async untilCompleted(): Promise<void> {
    await this.registry.environment.changes.until(() => {
      if (this.isCompleted || !this.isStarted) return true;
      this.enter();
      return false;
    });
  }

  /** Carries out the job's end. @internal */
  async finalizeSingle(): Promise<void> {
    assert(this.isCompleted || !this.isStarted, "a job ends when its code is over");
    this.updateResult();
    await this.#attempt(() => (this.#error ? this.abort?.() : this.commit?.()));
    await this.#attempt(() => this.clean?.());
    const ending = this.afterEnd?.();
    if (ending) await ending;
    // Who acts upon the last event of a job that dismisses itself finds its nodes free.
    if (this.#dismissesItself) await this.#letGo();
    if (this.status === "pending" && this.#error) this.updateResult();
    if (this.isStarted) this.announce?.(this.isCancelled ? "cancelled" : "completed");
    this.transaction.remove(this);
    await this.#conclude();
  }

  /** Force-cancels the job, waits for its end and dismisses it. @internal */
  async cancelAndDismiss(): Promise<void> {
    if (this.status !== "concluded") {
      await this.#cancel(true);
      await this.registry.environment.changes.until(
        () => this.status === "concluded" || this.status === "null",
      );
    }
    if (this.status === "concluded" && !this.#dismissed) await this.#dismiss();
    await this.registry.environment.changes.until(() => this.status === "null");
  }

  // The rest is private.

  #accepts(verb: JobVerb): boolean {
    const settling = this.transaction.settling && this.transaction.jobs.includes(this);
    return !settling && !this.#dismissed && acceptsVerb(this.status, verb);
  }

  async #execute(): Promise<void> {
    await this.#attempt(() => this.run());
    const ending = this.afterRun?.();
    if (ending) await ending;
    this.finish();
    await this.transaction.completed(this);
  }

  /** Runs a hook; its failure becomes the job's error unless there is one. A cancelled job's is told by its state. */
  async #attempt(body: () => Promise<void> | void): Promise<void> {
    try {
      await body();
    } catch (error) {
      if (error instanceof JobCancelledError && this.isCancelled) return;
      const failure = asError(error);
      if (this.#error) withCause(this.#error, failure);
      else this.#error = failure;
    }
  }

  async #cancel(force: boolean, reason?: unknown): Promise<void> {
    this.requestCancel(force, reason);
    if (!this.isFinished) this.enter();
    else if (this.isCancelled) await this.transaction.abort(this);
  }

  get #dismissesItself(): boolean {
    return this.autoDismiss || !this.isStarted;
  }

  /** Frees what the job holds of the graph, once. */
  async #letGo(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    await this.#attempt(() => this.release?.());
  }

  async #conclude(): Promise<void> {
    this.transition("concluded");
    this.#forgetSignal();
    // A job that dismisses itself is done when its nodes and its id are free again. Who heard of its end may have done it already.
    if (this.#dismissesItself || this.#dismissed) await this.#dismiss();
    else this.#settleDone();
  }

  #settleDone(): void {
    const warnings = [...this.#warnings];
    if (this.#error) this.#done.reject(warnings.reduce(withCause, this.#error) as Error);
    else
      this.#done.resolve({
        offset: this.offset,
        length: this.length,
        cancelled: this.cancelRequested,
        ...(warnings.length > 0 ? { warnings } : {}),
      });
  }

  #dismiss(): Promise<void> {
    if (!this.#dismissed) {
      this.#dismissed = true;
      this.#dismissal = this.#goAway();
    }
    return this.#dismissal ?? Promise.resolve();
  }

  async #goAway(): Promise<void> {
    this.finish();
    this.transaction.remove(this);
    await this.#letGo();
    this.registry.remove(this);
    this.#settleDone();
    this.transition("null");
    this.endJobEvents();
  }

  readonly #onOuterAbort = (): void => {
    if (!this.#dismissed && !this.transaction.settling && acceptsVerb(this.status, "cancel"))
      void this.#cancel(true, this.#outerSignal?.reason);
  };

  #watchSignal(): void {
    if (this.#outerSignal?.aborted) queueMicrotask(this.#onOuterAbort);
    else this.#forgetSignal = onAbort(this.#outerSignal, this.#onOuterAbort);
  }
}

/** What was thrown, as an Error; of two failures the first. */
function asError(thrown: unknown): Error {
  const error = firstFailure(thrown);
  return error instanceof Error ? error : new Error(messageOf(error));
}
