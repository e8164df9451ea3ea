/**
 * A job: long-running work with QEMU's states, verbs, pause points and ends. A subclass implements `run()` and the hooks
 * that it needs. Source: behaviour of QEMU 7.2's jobs.
 *
 * Invariants: the job's own code runs only while `busy`; it stops at pausePoint(), sleep() and yieldUntilEntered().
 * Leaving such a stop, and stopping there again, happens inside the call that causes it (resume, pause, cancel, a drain),
 * so that its status event precedes the answer of the command. Every state change goes through transition().
 */
import { assert } from "../base/assert.ts";
import { BlockError, CommandError, messageOf } from "../base/errors.ts";
import { type Deferred, deferred } from "../base/signals.ts";
import { JobEventSource } from "./job-events.ts";
import { JobProgress } from "./job-progress.ts";
import type { JobRegistry } from "./job-registry.ts";
import { JobTransaction } from "./job-transaction.ts";
import {
  type JobStatus,
  type JobVerb,
  acceptsVerb,
  canTransition,
  isCompleted,
  isReady,
} from "./job-verbs.ts";

/** Why a force-cancelled job stopped; also the reason of its AbortSignal. Never an I/O error for the policy. */
export class JobCancelledError extends BlockError {
  override readonly name = "JobCancelledError";

  constructor() {
    super({ code: "ECANCELED", op: "job" });
  }
}

/** Options of every job. */
export interface JobOptions {
  id: string;
  /** QAPI's JobType: stream, commit, mirror, backup, create. */
  type: string;
  registry: JobRegistry;
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
}

/** A point in a job's life that its kind may announce by an event. */
export type JobAnnouncement = "ready" | "pending" | "completed" | "cancelled";

/** Any job. */
export abstract class Job extends JobEventSource {
  readonly id: string;
  readonly type: string;
  readonly registry: JobRegistry;
  readonly transaction: JobTransaction;
  readonly autoFinalize: boolean;
  readonly autoDismiss: boolean;
  readonly progress = new JobProgress();
  /** Resolves when the job has concluded; rejects with the job's error (JobCancelledError after a force-cancel). */
  readonly done: Promise<JobResult>;
  /** A block job is listed by query-block-jobs. */
  readonly isBlockJob: boolean = false;

  #status: JobStatus = "undefined";
  #started = false;
  /** The job's code has returned. */
  #finished = false;
  #busy = false;
  #paused = true;
  #pauseCount = 1;
  #userPaused = false;
  #cancelled = false;
  #forceCancelled = false;
  #dismissed = false;
  #error: Error | undefined;
  #continuation: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  readonly #abort = new AbortController();
  readonly #done: Deferred<JobResult>;
  readonly #outerSignal: AbortSignal | undefined;

  /** Throws CommandError (`Invalid job ID 'x'`, `Job ID 'x' already in use`); else the job exists in state created. */
  constructor(options: JobOptions) {
    super();
    options.registry.checkId(options.id);
    this.id = options.id;
    this.type = options.type;
    this.registry = options.registry;
    this.autoFinalize = options.autoFinalize ?? true;
    this.autoDismiss = options.autoDismiss ?? true;
    this.#done = deferred();
    this.done = this.#done.promise;
    this.done.catch(() => undefined);
    this.#outerSignal = options.signal;
    this.transition("created");
    this.registry.add(this);
    this.transaction = options.transaction ?? new JobTransaction();
    this.transaction.add(this);
  }

  // What a kind of job implements.

  /** The work. Throws on failure; its error's message is the one that users see. */
  protected abstract run(): Promise<void>;
  /** Last step that may fail, once all of the transaction is done. */
  protected prepare?(): Promise<void>;
  /** The job succeeded. */
  protected commit?(): Promise<void> | void;
  /** The job failed or was cancelled. */
  protected abort?(): Promise<void> | void;
  /** After commit or abort. */
  protected clean?(): Promise<void> | void;
  /** Before the job pauses (a mirror waits for its requests). */
  protected pauseHook?(): Promise<void> | void;
  /** After a pause. */
  protected resumeHook?(): void;
  /** Completes a ready job; throws to refuse. */
  protected completeHook?(): Promise<void> | void;
  /** A cancel comes in; returns whether it is to be forced. Absent: always. */
  protected cancelHook?(force: boolean): boolean;
  /** The user resumes, or cancels a job that the user paused. */
  protected userResumeHook?(): void;
  /** Frees what the job holds of the graph; called once, when it is dismissed or fails before its start. */
  protected release?(): Promise<void> | void;
  /** Publishes the events of its kind. */
  protected announce?(what: JobAnnouncement): void;

  // State.

  get status(): JobStatus {
    return this.#status;
  }

  /** The job's code runs, or waits for I/O. False at a pause point, in a sleep and at the end. */
  get busy(): boolean {
    return this.#busy;
  }

  /** At a pause point now. */
  get paused(): boolean {
    return this.#paused;
  }

  /** Pauses that hold: the user's counts one, each drain one. */
  get pauseCount(): number {
    return this.#pauseCount;
  }

  get userPaused(): boolean {
    return this.#userPaused;
  }

  /** A cancel was requested, soft or forced. */
  get cancelRequested(): boolean {
    return this.#cancelled;
  }

  /** The job is being force-cancelled: it stops as soon as it can. */
  get isCancelled(): boolean {
    return this.#forceCancelled;
  }

  /** Aborts with a JobCancelledError when the job is force-cancelled. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get error(): Error | undefined {
    return this.#error;
  }

  get isStarted(): boolean {
    return this.#started;
  }

  get isReady(): boolean {
    return isReady(this.#status);
  }

  /** The job's own code is over. */
  get isCompleted(): boolean {
    return isCompleted(this.#status);
  }

  /** Progress so far, bytes. */
  get offset(): number {
    return this.progress.current;
  }

  /** Progress at which the job is done, as far as it is known, bytes. */
  get length(): number {
    return this.progress.total;
  }

  /** The row of query-jobs. */
  query(): Record<string, unknown> {
    return {
      "current-progress": this.progress.current,
      status: this.#status,
      "total-progress": this.progress.total,
      type: this.type,
      id: this.id,
      ...(this.#error ? { error: messageOf(this.#error) } : {}),
    };
  }

  /** The row of query-block-jobs, if it is a block job. */
  queryBlock(): Record<string, unknown> | undefined {
    return undefined;
  }

  // Verbs: what a user asks for. All throw CommandError in QEMU's words when refused.

  /** Pauses the job at its next pause point. */
  pause(): void {
    this.applyVerb("pause");
    if (this.#userPaused) throw new CommandError("Job is already paused");
    this.userPause();
  }

  /** Takes the user's pause back. */
  resume(): void {
    if (!this.#userPaused || this.#pauseCount === 0) {
      throw new CommandError("Can't resume a job that was not paused");
    }
    this.applyVerb("resume");
    this.userResumeHook?.();
    this.#userPaused = false;
    this.drainResume();
  }

  /** Cancels. Without force, a job that is ready finishes its copy first; any other job takes it as forced. */
  async cancel({ force = true }: { force?: boolean } = {}): Promise<void> {
    this.applyVerb("cancel");
    await this.#cancel(force);
  }

  /** Completes a ready job. */
  async complete(): Promise<void> {
    this.applyVerb("complete");
    if (this.#cancelled || !this.completeHook) {
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

  /** Throws unless the job's state accepts the verb; no state does while the job's end is being carried out. */
  applyVerb(verb: JobVerb): void {
    const settling = this.transaction.settling && this.transaction.jobs.includes(this);
    if (!settling && !this.#dismissed && acceptsVerb(this.#status, verb)) return;
    throw new CommandError(
      `Job '${this.id}' in state '${this.#status}' cannot accept command verb '${verb}'`,
    );
  }

  // Life, for those who create jobs.

  /** Starts the job: running, and its code up to the first wait. */
  start(): void {
    assert(!this.#started && this.#paused, `job '${this.id}' started twice`);
    this.#started = true;
    this.#pauseCount -= 1;
    this.#busy = true;
    this.#paused = false;
    this.transition("running");
    this.#watchSignal();
    this.#pauseThen(() => void this.#execute());
  }

  /** Ends a job that could not be set up: created, then null. */
  async earlyFail(error: unknown): Promise<void> {
    assert(this.#status === "created", "earlyFail after the start");
    this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
    await this.#dismiss();
  }

  // For the job's own code.

  /** Stops here while the job is to be paused. Resolves at once if it is not, or is cancelled. */
  protected pausePoint(): Promise<void> {
    return new Promise((resolve) => this.#pauseThen(resolve));
  }

  /** Waits `delayMs`, less if the job is entered, and stops while it is to be paused. 0: lets other tasks run. */
  protected sleep(delayMs: number): Promise<void> {
    return this.#stop(() => this.#startTimer(delayMs));
  }

  /** Waits until the job is entered. */
  protected yieldUntilEntered(): Promise<void> {
    return this.#stop(() => undefined);
  }

  /** In sync with the source: the job can be completed from now on. */
  protected transitionToReady(): void {
    this.transition("ready");
    this.announce?.("ready");
  }

  // For drains, the error policy and the job's own callbacks.

  /** One more reason to pause; the job stops at its next pause point. */
  drainPause(): void {
    this.#pauseCount += 1;
    if (!this.#paused) this.enter();
  }

  /** One reason less. */
  drainResume(): void {
    assert(this.#pauseCount > 0, "resume without pause");
    this.#pauseCount -= 1;
    // A job that sleeps goes on sleeping.
    if (this.#pauseCount === 0 && !this.#cancelTimer) this.enter();
  }

  /** A pause in the user's name: only the user's resume ends it. */
  userPause(): void {
    if (this.#userPaused) return;
    this.#userPaused = true;
    this.drainPause();
  }

  /** Lets a job that stands at a pause point, sleeps or yields go on. Does nothing to one that is busy. */
  enter(): void {
    if (!this.#started || this.#finished || this.#busy) return;
    this.#stopTimer();
    this.#busy = true;
    const continuation = this.#continuation;
    assert(continuation, "an idle job has a continuation");
    this.#continuation = undefined;
    continuation();
  }

  /** Enters the job if it is in a timed sleep. */
  protected wakeSleep(): void {
    if (this.#cancelTimer) this.enter();
  }

  // For the transaction.

  /** Goes to a state, which must be a legal next one, and says so. */
  transition(to: JobStatus): void {
    const from = this.#status;
    assert(canTransition({ from, to }), `job '${this.id}' goes from '${from}' to '${to}'`);
    this.#status = to;
    if (to !== from) this.publish("JOB_STATUS_CHANGE", { status: to, id: this.id });
    this.registry.environment.changes.wake();
  }

  /** Marks the job cancelled; the caller enters it. */
  requestCancel(force: boolean): void {
    const effective = this.cancelHook ? this.cancelHook(force) : true;
    if (this.#userPaused) {
      this.userResumeHook?.();
      this.#userPaused = false;
      assert(this.#pauseCount > 0, "user pause without a pause");
      this.#pauseCount -= 1;
    }
    if (!effective && this.#finished) return;
    this.#cancelled = true;
    if (!effective || this.#forceCancelled) return;
    this.#forceCancelled = true;
    this.#abort.abort(new JobCancelledError());
  }

  /** Notes a cancel as the job's error, and goes to aborting if there is one. */
  updateResult(): void {
    if (!this.#error && this.#forceCancelled) this.#error = new JobCancelledError();
    if (this.#error) this.transition("aborting");
  }

  /** All members are done. */
  becomePending(): void {
    this.transition("pending");
    if (!this.autoFinalize) this.announce?.("pending");
  }

  /** Runs prepare(), if nothing failed before. */
  async prepareResult(): Promise<void> {
    if (this.#error || !this.prepare) return;
    await this.#attempt(() => this.prepare?.());
    this.updateResult();
  }

  /** Waits until the job's code is over, entering it where it stands. */
  async untilCompleted(): Promise<void> {
    await this.registry.environment.changes.until(() => {
      if (this.isCompleted || !this.#started) return true;
      this.enter();
      return false;
    });
  }

  /** Carries out the job's end. */
  async finalizeSingle(): Promise<void> {
    this.updateResult();
    if (!this.#error) {
      await this.#attempt(() => this.commit?.());
      if (this.#error) this.updateResult();
    } else await this.#attempt(() => this.abort?.());
    await this.#attempt(() => this.clean?.());
    if (this.#started) this.announce?.(this.#forceCancelled ? "cancelled" : "completed");
    this.transaction.remove(this);
    await this.#conclude();
  }

  /** Force-cancels the job, waits for its end and dismisses it. */
  async cancelAndDismiss(): Promise<void> {
    if (this.#status !== "concluded") {
      await this.#cancel(true);
      await this.registry.environment.changes.until(
        () => this.#status === "concluded" || this.#status === "null",
      );
    }
    if (this.#status === "concluded" && !this.#dismissed) await this.#dismiss();
    await this.registry.environment.changes.until(() => this.#status === "null");
  }

  /** Publishes an event to the engine's bus and to the job's own listeners. */
  protected publish(event: string, data: Record<string, unknown>): void {
    this.registry.environment.events.emit(event, data);
    this.dispatchJobEvent(event, data);
  }

  // The rest is private.

  async #execute(): Promise<void> {
    await this.#attempt(() => this.run());
    this.#finished = true;
    this.#goIdle();
    await this.transaction.completed(this);
  }

  /** Runs a hook; its failure becomes the job's error unless there is one. A cancelled job's is told by its state. */
  async #attempt(body: () => Promise<void> | void): Promise<void> {
    try {
      await body();
    } catch (error) {
      if (error instanceof JobCancelledError && this.#forceCancelled) return;
      this.#error ??= error instanceof Error ? error : new Error(messageOf(error));
    }
  }

  async #cancel(force: boolean): Promise<void> {
    this.requestCancel(force);
    if (!this.#started) await this.transaction.completed(this);
    else if (!this.#finished) this.enter();
    else if (this.#forceCancelled) await this.transaction.abort(this);
  }

  async #conclude(): Promise<void> {
    this.transition("concluded");
    this.#outerSignal?.removeEventListener("abort", this.#onOuterAbort);
    this.#settleDone();
    if (this.autoDismiss || !this.#started) await this.#dismiss();
  }

  #settleDone(): void {
    if (this.#error) this.#done.reject(this.#error);
    else this.#done.resolve({ offset: this.offset, length: this.length, cancelled: this.#cancelled });
  }

  async #dismiss(): Promise<void> {
    this.#dismissed = true;
    this.#finished = true;
    this.#busy = false;
    this.#paused = false;
    this.transaction.remove(this);
    await this.#attempt(() => this.release?.());
    this.registry.remove(this);
    this.#settleDone();
    this.transition("null");
    this.endJobEvents();
  }

  /** Yields unless a pause is wanted, then passes a pause point. */
  #stop(arm: () => void): Promise<void> {
    assert(this.#busy, "a job that is not busy waits");
    if (this.#forceCancelled) return Promise.resolve();
    return new Promise((resolve) => {
      if (this.#pauseCount > 0) return this.#pauseThen(resolve);
      this.#continuation = () => this.#pauseThen(resolve);
      arm();
      this.#goIdle();
    });
  }

  #pauseThen(resolve: () => void): void {
    if (this.#pauseCount === 0 || this.#forceCancelled) return resolve();
    const waiting = this.pauseHook?.();
    if (waiting) void waiting.then(() => this.#standStill(resolve));
    else this.#standStill(resolve);
  }

  #standStill(resolve: () => void): void {
    const goOn = (): void => {
      this.resumeHook?.();
      resolve();
    };
    if (this.#pauseCount === 0 || this.#forceCancelled) return goOn();
    const before = this.#status;
    this.transition(before === "ready" ? "standby" : "paused");
    this.#paused = true;
    this.#continuation = () => {
      this.#paused = false;
      this.transition(before);
      goOn();
    };
    this.#goIdle();
  }

  #goIdle(): void {
    this.#busy = false;
    this.registry.environment.changes.wake();
  }

  #startTimer(delayMs: number): void {
    const { clock } = this.registry.environment;
    if (delayMs > 0) {
      this.#cancelTimer = clock.timer(delayMs, () => this.enter());
      return;
    }
    let live = true;
    this.#cancelTimer = () => {
      live = false;
    };
    void clock.turn().then(() => {
      if (live) this.enter();
    });
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  readonly #onOuterAbort = (): void => {
    if (!this.#dismissed && !this.transaction.settling && acceptsVerb(this.#status, "cancel"))
      void this.#cancel(true);
  };

  #watchSignal(): void {
    if (this.#outerSignal?.aborted) queueMicrotask(this.#onOuterAbort);
    else this.#outerSignal?.addEventListener("abort", this.#onOuterAbort, { once: true });
  }
}
