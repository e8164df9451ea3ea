/**
 * What every job is made of: its state, its pauses and cancels, and the points at which its code stands still.
 * Source: behaviour of QEMU 7.2's jobs.
 *
 * Invariants: the job's own code runs only while `busy`; it stops at pausePoint(), sleep() and yieldUntilEntered().
 * Leaving such a stop, and stopping there again, happens inside the call that causes it (resume, pause, cancel, a drain),
 * so that its status event precedes the answer of the command. Every state change goes through transition().
 *
 * Every job is in a transaction, of one by default: jobs that end together all succeed, or the rest is cancelled when one fails.
 * Members are kept, and finalized, newest first. Source: behaviour of QEMU 7.2.
 *
 * Invariant: while `settling` is set the members' ends are being carried out and no verb is accepted; it is the stretch
 * that QEMU runs without returning to its monitor. It begins when no job is being started, and none is meanwhile.
 */
import { assert } from "../../base/assert.ts";
import { BlockError } from "../../base/errors.ts";
import { type JobEventName, type JobEvents, JobEventSource } from "./events.ts";
import type { JobHome } from "./environment.ts";
import { type JobStatus, canTransition, isCompleted, isReady } from "./verbs.ts";
import { Wakeup } from "../../base/signals.ts";

/** Why a force-cancelled job stopped; also the reason of its AbortSignal. Never an I/O error for the policy. */
export class JobCancelledError extends BlockError {
  override readonly name = "JobCancelledError";

  /** `reason`: of the signal that cancelled it, if one did; it becomes the cause. */
  constructor(reason?: unknown) {
    super({ code: "ECANCELED", op: "job", ...(reason === undefined ? {} : { cause: reason }) });
  }
}

/** State, pauses and stops of a job. */
export abstract class JobCore extends JobEventSource {
  readonly id: string;
  /** @internal */
  readonly registry: JobHome;
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
  #cancelReason: unknown;
  #continuation: (() => void) | undefined;
  #cancelTimer: (() => void) | undefined;
  readonly #abort = new AbortController();

  constructor(id: string, registry: JobHome) {
    super();
    this.id = id;
    this.registry = registry;
  }

  // What a kind of job implements.

  /** Before the job pauses (a mirror waits for its requests). @internal */
  protected pauseHook?(): Promise<void> | void;
  /** After a pause. @internal */
  protected resumeHook?(): void;
  /** A cancel comes in; returns whether it is to be forced. Absent: always. @internal */
  protected cancelHook?(force: boolean): boolean;
  /** The user resumes, or cancels a job that the user paused. @internal */
  protected userResumeHook?(): void;

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

  /** Pauses that hold: the user's counts one, each drain one. @internal */
  get pauseCount(): number {
    return this.#pauseCount;
  }

  get userPaused(): boolean {
    return this.#userPaused;
  }

  /** A cancel was requested, soft or forced. @internal */
  get cancelRequested(): boolean {
    return this.#cancelled;
  }

  /** The job is being force-cancelled: it stops as soon as it can. @internal */
  get isCancelled(): boolean {
    return this.#forceCancelled;
  }

  /** Aborts with a JobCancelledError when the job is force-cancelled. @internal */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** @internal */
  get isStarted(): boolean {
    return this.#started;
  }

  get isReady(): boolean {
    return isReady(this.#status);
  }

  /** The job's own code is over. @internal */
  get isCompleted(): boolean {
    return isCompleted(this.#status);
  }

  // Changes of state.

  /** Goes to a state, which must be a legal next one, and says so. @internal */
  transition(to: JobStatus): void {
    const from = this.#status;
    assert(canTransition({ from, to }), `job '${this.id}' goes from '${from}' to '${to}'`);
    this.#status = to;
    if (to !== from) this.publish("JOB_STATUS_CHANGE", { status: to, id: this.id });
    this.registry.environment.changes.wake();
  }

  /** Publishes an event to the engine's bus and to the job's own listeners. @internal */
  protected publish<N extends JobEventName>(event: N, data: JobEvents[N]): void {
    this.registry.environment.events.emit<JobEventName>(event, data);
    this.dispatchJobEvent(event, data);
  }

  /** Begins the job: running, and then `body`, or a pause first. @internal */
  protected begin(body: () => void): void {
    assert(!this.#started && this.#paused, `job '${this.id}' started twice`);
    this.#started = true;
    this.#pauseCount -= 1;
    this.#busy = true;
    this.#paused = false;
    this.transition("running");
    this.#pauseThen(body);
  }

  /** The job's code is over; nothing enters it any more. @internal */
  protected finish(): void {
    this.#finished = true;
    this.#paused = false;
    this.#goIdle();
  }

  /** @internal */
  protected get isFinished(): boolean {
    return this.#finished;
  }

  /** Ends the user's pause, if there is one that counts. Returns whether there was. @internal */
  protected endUserPause(): boolean {
    if (!this.#userPaused || this.#pauseCount === 0) return false;
    this.userResumeHook?.();
    this.#userPaused = false;
    return true;
  }

  /** Marks the job cancelled; the caller enters it. @internal */
  requestCancel(force: boolean, reason?: unknown): void {
    const effective = this.cancelHook ? this.cancelHook(force) : true;
    if (this.endUserPause()) this.#pauseCount -= 1;
    assert(this.#pauseCount >= 0, "pauses are counted");
    if (!effective && this.#finished) return;
    this.#cancelled = true;
    if (!effective || this.#forceCancelled) return;
    this.#forceCancelled = true;
    this.#cancelReason = reason;
    this.#abort.abort(new JobCancelledError(reason));
  }

  /** The reason of the signal that force-cancelled the job, if one did. @internal */
  protected get cancelReason(): unknown {
    return this.#cancelReason;
  }

  // For the job's own code.

  /** Stops here while the job is to be paused. Resolves at once if it is not, or is cancelled. @internal */
  protected pausePoint(): Promise<void> {
    return new Promise((resolve) => this.#pauseThen(resolve));
  }

  /** Waits `delayMs`, less if the job is entered, and stops while it is to be paused. 0: lets other tasks run. @internal */
  protected sleep(delayMs: number): Promise<void> {
    return this.#stop(() => this.#startTimer(delayMs));
  }

  /** Waits until the job is entered. @internal */
  protected yieldUntilEntered(): Promise<void> {
    return this.#stop(() => undefined);
  }

  // For drains, the error policy and the job's own callbacks.

  /** One more reason to pause; the job stops at its next pause point. @internal */
  drainPause(): void {
    this.#pauseCount += 1;
    if (!this.#paused) this.enter();
  }

  /** One reason less. @internal */
  drainResume(): void {
    assert(this.#pauseCount > 0, "resume without pause");
    this.#pauseCount -= 1;
    // A job that sleeps goes on sleeping.
    if (this.#pauseCount === 0 && !this.#cancelTimer) this.enter();
  }

  /** A pause in the user's name: only the user's resume ends it. @internal */
  userPause(): void {
    if (this.#userPaused) return;
    this.#userPaused = true;
    this.drainPause();
  }

  /** Lets a job that stands at a pause point, sleeps or yields go on. Does nothing to one that is busy. @internal */
  enter(): void {
    if (!this.#started || this.#finished || this.#busy) return;
    if (this.#paused && this.#pauseCount > 0 && !this.#forceCancelled) return;
    this.#stopTimer();
    this.#busy = true;
    const continuation = this.#continuation;
    assert(continuation, "an idle job has a continuation");
    this.#continuation = undefined;
    continuation();
  }

  /** Enters the job if it is in a timed sleep. @internal */
  protected wakeSleep(): void {
    if (this.#cancelTimer) this.enter();
  }

  // The rest is private.

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
    assert(this.#busy && !this.#continuation, "a job waits in one place");
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
    assert(!this.#cancelTimer, "a job has one timer");
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
}

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
    assert(this.jobs.includes(job), "who completes is a member");
    job.updateResult();
    if (job.error) return this.abort(job);
    job.transition("waiting");
    // Another member has failed, and ends this one too; or who heard of the state has ended them all.
    if (this.settling || this.jobs.some((other) => !other.isCompleted)) return;
    for (const other of [...this.jobs]) other.becomePending();
    if (this.jobs.every((other) => other.autoFinalize)) await this.finalize(job);
  }

  /** Ends all members, which are pending: prepares all, then commits them; a failed prepare aborts all. */
  async finalize(job: TransactionMember): Promise<void> {
    if (this.settling) return this.untilSettled();
    await this.#settle(job, async () => {
      for (const other of [...this.jobs]) {
        await other.prepareResult();
        if (other.error) return this.abort(job);
      }
      for (const other of [...this.jobs]) await other.finalizeSingle();
      assert(this.jobs.length === 0, "who has ended leaves");
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
        assert(this.jobs[0] !== other, "who has ended leaves");
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
