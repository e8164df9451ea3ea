/**
 * A job over block nodes: what it holds of the graph, its speed, its io-status and its events.
 * Source: behaviour of QEMU 7.2's block jobs.
 *
 * Invariants: the job is paused while one of its nodes is drained; its nodes refuse all other operations on behalf of
 * `blockReason` until the job lets them go.
 *
 * After an error of its target a job recovers it: if a flush had failed below, the storage is opened anew, and all
 * that the job has written there is to be written again, since the system may have lost it.
 *
 * What was written is noted before anything can be reported of it. It is never taken back: what a good flush has
 * made durable is written once more, too.
 */
import { assert } from "../../base/assert.ts";
import type { ByteRange } from "../../base/ranges.ts";
import type { Errno } from "../../base/errno.ts";
import { BlockError, CommandError, errnoOf, messageOf } from "../../base/errors.ts";
import type { Child, BlockNode } from "../../block/model/node.ts";
import { CopyError } from "../../block/copy/range-copy.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { Permissions } from "../../block/model/contract.ts";
import type { JobCompanion } from "./companion.ts";
import { Backoff, RateLimit } from "./pace.ts";
import {
  type BlockErrorAction,
  type IoStatus,
  type OnError,
  decideErrorAction,
  ioStatusFor,
} from "./error-policy.ts";
import { type JobAnnouncement, Job, type JobOptions } from "./job.ts";
import { recoverStorage } from "../../block/graph/recover.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";

/** Options of every block job. */
export interface BlockJobOptions extends JobOptions {
  graph: BlockGraph;
  /** Keeps what is needed to go on in another process. */
  companion?: JobCompanion | undefined;
  /** Bytes per second, 0 = no limit; checked by setSpeed() after creation. */
}

/** An I/O error as errorAction() takes it. */
export interface JobIoError {
  policy: OnError;
  /** Whether reading the source failed, rather than writing the target. */
  isRead: boolean;
  error: unknown;
}

/** The I/O error that a block job met last. */
export interface JobFailure {
  operation: "read" | "write";
  code: Errno;
  /** The node that failed, if known, and the range of it, bytes. */
  node: string | undefined;
  offset: number | undefined;
  bytes: number | undefined;
  /** What was decided. */
  action: BlockErrorAction;
  error: Error;
}

/** Any block job. */
export abstract class BlockJob extends Job {
  override readonly isBlockJob = true as const;
  /** @internal */
  readonly graph: BlockGraph;
  /** @internal */
  protected readonly companion: JobCompanion | undefined;
  /** Why the job's nodes are busy, in QEMU's words. @internal */
  readonly blockReason: string;
  /** The job's edges do not move when a node is replaced in the graph. @internal */
  readonly stayAtNode = true;
  /** Edges to the nodes of the job, newest first. @internal */
  readonly nodes: Child[] = [];
  /** The edge that the job writes through, where it is not one of its nodes. @internal */
  protected writes: Child | undefined;
  /** Delays retries that get nowhere. @internal */
  protected readonly backoff = new Backoff();
  /** The range that the job works on, for errors that do not tell theirs, bytes. @internal */
  protected failingRange: { node?: string; offset: number; bytes: number } | undefined;
  readonly #rateLimit: RateLimit;
  #lastFailure: JobFailure | undefined;
  #speed = 0;
  #ioStatus: IoStatus = "ok";
  #isPausedByError = false;

  constructor(options: BlockJobOptions) {
    super(options);
    this.graph = options.graph;
    const { companion } = options;
    this.companion = companion;
    if (companion) this.counter.onDone = () => companion.progressed(this);
    this.blockReason = `block device is in use by block job: ${options.type}`;
    this.#rateLimit = new RateLimit(this.registry.environment.clock);
  }

  /** Whether the job still works while it is busy in a drain; absent: yes. @internal */
  protected drainedPollHook?(): boolean;
  /** The speed changed. @internal */
  protected setSpeedHook?(bytesPerSecond: number): void;

  /** See Accompanied. @internal */
  outstanding(): Bitmap | undefined {
    return undefined;
  }

  /** See Accompanied. @internal */
  get written(): Child | undefined {
    return this.writes ?? this.nodes.find(({ name }) => name === "target");
  }

  /** What a bitmap says is to be copied, and what is under way: a bitmap of the caller's. @internal */
  protected leftOf(bitmap: Bitmap, ranges: readonly ByteRange[]): Bitmap {
    const left = bitmap.clone();
    for (const { offset, bytes } of ranges) left.set(offset, Math.min(bytes, left.length - offset));
    return left;
  }

  /** See Accompanied. @internal */
  giveUp(error: Error): void {
    this.failWith(error);
    void this.cancel({ force: true }).catch(() => undefined);
  }

  /** @internal */
  get hasFailed(): boolean {
    return this.error !== undefined || this.isCancelled;
  }

  /** @internal */
  protected override afterRun(): Promise<void> | undefined {
    return this.companion?.workEnded(this);
  }

  /** @internal */
  protected override afterEnd(): Promise<void> | undefined {
    return this.companion?.jobEnded(this);
  }

  /** Bytes per second, 0 = no limit. */
  get speed(): number {
    return this.#speed;
  }

  /** `failed` or `nospace` once an error stopped the job; `ok` again when it is resumed. */
  get ioStatus(): IoStatus {
    return this.#ioStatus;
  }

  /** Sets the speed limit, bytes per second; 0 is none. A higher limit takes effect at once. */
  setSpeed(bytesPerSecond: number): void {
    this.applyVerb("set-speed");
    if (!(bytesPerSecond >= 0)) throw new CommandError("Parameter 'speed' expects a non-negative value");
    const old = this.#speed;
    this.#rateLimit.setSpeed(bytesPerSecond);
    this.#speed = bytesPerSecond;
    this.setSpeedHook?.(bytesPerSecond);
    if (bytesPerSecond === 0 || bytesPerSecond > old) this.wakeSleep();
  }

  /** What its creator chose for errors of its source and its target; absent: it has no choice there. @internal */
  get errorPolicies(): { readonly source?: OnError; readonly target?: OnError } {
    return {};
  }

  /** The I/O error that the job met last, whatever the policy made of it. */
  get lastFailure(): JobFailure | undefined {
    return this.#lastFailure;
  }

  /** An error has paused the job, and its user has not resumed it since. Unlike `ioStatus`, the machine's `cont` leaves it. */
  get isPausedByError(): boolean {
    return this.#isPausedByError;
  }

  /** Clears the io-status and leaves the job as it is (the machine's `cont`). @internal */
  resetIoStatus(): void {
    this.#ioStatus = "ok";
  }

  /** block-job-cancel: refuses a job that the user (or an error) paused, unless forced. @internal */
  async blockJobCancel(force: boolean): Promise<void> {
    if (this.userPaused && !force) {
      throw new CommandError(`The block job for device '${this.id}' is currently paused`);
    }
    this.applyVerb("cancel");
    await this.cancel({ force });
  }

  /** @internal */
  override queryBlock(): Record<string, unknown> {
    return {
      "auto-finalize": this.autoFinalize,
      "io-status": this.#ioStatus,
      device: this.id,
      "auto-dismiss": this.autoDismiss,
      busy: this.busy,
      len: this.length,
      offset: this.offset,
      status: this.status,
      paused: this.pauseCount > 0,
      speed: this.#speed,
      ready: this.isReady,
      type: this.type,
      ...(this.error ? { error: messageOf(this.error) } : {}),
    };
  }

  // For the job's own code.

  /**
   * Takes a node: an edge with these permissions, and a block on every other operation of the node.
   * Throws CommandError if permissions conflict.
   * @internal
   */
  async addNode(node: BlockNode, name: string, permissions: Permissions): Promise<Child> {
    assert(!this.isStarted, "nodes are taken before the start");
    const child = await this.graph.attach(this, node, { name, role: 0, ...permissions });
    this.nodes.unshift(child);
    node.block(this.blockReason);
    return child;
  }

  /** Lets one node go. @internal */
  async removeNode(child: Child): Promise<void> {
    const at = this.nodes.indexOf(child);
    assert(at >= 0, "the job does not hold this edge");
    this.nodes.splice(at, 1);
    child.node.unblock(this.blockReason);
    await this.graph.detach(child);
  }

  /** Lets all nodes go. @internal */
  async removeAllNodes(): Promise<void> {
    for (let child = this.nodes[0]; child; child = this.nodes[0]) await this.removeNode(child);
  }

  /** Decides on an I/O error, says so by BLOCK_JOB_ERROR and, for stop, pauses the job in the user's name. @internal */
  errorAction({ policy, isRead, error }: JobIoError): BlockErrorAction {
    const code = errnoOf(error);
    const action = decideErrorAction(policy, code);
    const range = rangeOf(error) ?? this.failingRange;
    this.#lastFailure = {
      operation: isRead ? "read" : "write",
      code,
      node: range?.node,
      offset: range?.offset,
      bytes: range?.bytes,
      action,
      error: error instanceof Error ? error : this.failure(error),
    };
    this.publish("BLOCK_JOB_ERROR", { device: this.id, operation: isRead ? "read" : "write", action });
    if (action === "stop") this.#stopFor(code);
    return action;
  }

  /** Whether an error ends the job under this policy. Then it does so at once: nothing of the failed piece is tried again. @internal */
  protected isFatal(policy: OnError, error: unknown): boolean {
    return decideErrorAction(policy, errnoOf(error)) === "report";
  }

  /** The error that a failed I/O ends the job with: errno and its plain text. @internal */
  protected failure(error: unknown): BlockError {
    return new BlockError({ code: errnoOf(error), op: this.type, cause: error });
  }

  /** Charges `bytes` to the speed limit; returns the delay before the next piece of work, milliseconds. @internal */
  protected rateDelayMs(bytes: number): number {
    return this.#rateLimit.delayMs(bytes);
  }

  /** @internal */
  protected override userResumeHook(): void {
    this.#ioStatus = "ok";
    this.#isPausedByError = false;
  }

  /** @internal */
  protected override async release(): Promise<void> {
    await this.removeAllNodes();
  }

  /** @internal */
  protected override announce(what: JobAnnouncement): void {
    if (what === "pending") return this.publish("BLOCK_JOB_PENDING", { type: this.type, id: this.id });
    const data = {
      device: this.id,
      len: this.length,
      offset: this.offset,
      speed: this.#speed,
      type: this.type,
    };
    if (what === "completed") {
      this.publish("BLOCK_JOB_COMPLETED", this.error ? { ...data, error: messageOf(this.error) } : data);
    } else this.publish(what === "ready" ? "BLOCK_JOB_READY" : "BLOCK_JOB_CANCELLED", data);
  }

  // What the graph asks of whoever holds its nodes: a ChildParent, which is no part of the face that callers see.

  /** @internal */
  describe(): string {
    return `${this.type} job '${this.id}'`;
  }

  /** @internal */
  drainedBegin(): void {
    this.drainPause();
  }

  /** @internal */
  drainedEnd(): void {
    this.drainResume();
  }

  /** @internal */
  drainedBusy(): boolean {
    if (!this.busy || this.isCompleted) return false;
    return this.drainedPollHook?.() ?? true;
  }

  #stopFor(code: Errno): void {
    if (!this.userPaused) this.#isPausedByError = true;
    this.userPause();
    assert(this.userPaused, "stop pauses");
    if (this.#ioStatus === "ok") this.#ioStatus = ioStatusFor(code);
  }
}

/** Where a failed request lies, if its error says. */
function rangeOf(error: unknown): { node: string | undefined; offset: number; bytes: number } | undefined {
  if (error instanceof CopyError) return error.range;
  if (!(error instanceof BlockError) || error.offset === undefined || error.bytes === undefined)
    return undefined;
  return { node: error.node, offset: error.offset, bytes: error.bytes };
}

/** The target's side of one job. Free it at the end. */
export class TargetRecovery {
  /** What the job has written, in the granules of its bitmap. */
  readonly written: Bitmap;
  readonly #target: () => BlockNode;
  #failed = false;

  /** `written` is an empty bitmap, which is freed here. */
  constructor(target: () => BlockNode, written: Bitmap) {
    this.#target = target;
    this.written = written;
  }

  /** There was an error since the last recover(). */
  get isDue(): boolean {
    return this.#failed;
  }

  /** An error of the target came: it may be that of a flush. */
  failed(): void {
    this.#failed = true;
  }

  /**
   * Before the job goes on after an error; no write of it is under way. Returns whether `written` is to be written again.
   * Rejects with the error of a target that fails again; the next call tries again.
   */
  async recover(): Promise<boolean> {
    if (!this.#failed) return false;
    const recovered = await recoverStorage(this.#target());
    this.#failed = false;
    return recovered;
  }

  /** Gives its memory back. */
  free(): void {
    this.written.free();
  }
}
