/**
 * The backup job: copies what its copy-before-write filter has not copied yet. The filter and the job share one
 * BlockCopy, so a guest write in between moves the job's progress on.
 *
 * Invariants: the job only starts passes and decides what follows an error; pausing and cancelling end the running pass,
 * and what it left dirty is taken up by the next. A failed copy of the filter never reaches the job. The job ends well
 * only after the target was flushed; a failed flush is an error of the target.
 * Source: behaviour of QEMU 7.2's block/backup.c.
 */
import { assert } from "../../base/assert.ts";
import { closing } from "../../base/lease.ts";
import { blockError } from "../../base/errors.ts";
import type { FilterLease } from "../../block/graph/edges.ts";
import type { BlockCopy, CopyError, CopyPass } from "../../block/copy/block-copy.ts";
import { Bitmap } from "../../kernels/bitmap.ts";
import { CopyBeforeWrite } from "../../drivers/filter/copy-before-write.ts";
import type { DirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import { BlockJob, type BlockJobOptions, TargetRecovery } from "../core/block-job.ts";
import type { OnError } from "../core/error-policy.ts";
import { type PointInTime, lostMoment } from "./point-in-time.ts";
import type { Child } from "../../block/model/node.ts";
import type { TypeOf } from "../../wire/qapi/index.ts";

/** What is copied: QAPI's MirrorSyncMode without incremental, which is bitmap with on-success. */
export type BackupSync = Exclude<TypeOf<"MirrorSyncMode">, "incremental">;

/** QAPI's BitmapSyncMode. */
export type BitmapMode = TypeOf<"BitmapSyncMode">;

/** How a backup works; all of it checked. */
export interface BackupPlan {
  sync: BackupSync;
  onSourceError: OnError;
  onTargetError: OnError;
  /** Copies at once. */
  maxWorkers: number;
  /** Largest request, bytes; 0 = no limit. */
  maxChunk: number;
  compress: boolean;
  /** What was copied is given up at the source. */
  discardSource: boolean;
}

/** What a BackupJob is made of. */
export interface BackupJobOptions extends BlockJobOptions {
  plan: BackupPlan;
  /** The copy-before-write filter; the job removes it at its end. */
  filter: FilterLease;
  /** The filter's copy state. */
  copy: BlockCopy;
  /** The moment that is read instead of the disk itself (fleecing); the job lets it go at its end. */
  moment?: PointInTime | undefined;
  /** A bitmap with a successor, and what becomes of it at the end. */
  bitmap?: { bitmap: DirtyBitmap; mode: BitmapMode } | undefined;
}

/** How soon it is looked again whether a checkpoint was written, ms. */
const KEEPING_MS = 5;

/** A running backup. */
export class BackupJob extends BlockJob {
  readonly #plan: BackupPlan;
  readonly #filter: FilterLease;
  readonly #moment: PointInTime | undefined;
  readonly #copy: BlockCopy;
  readonly #bitmap: { bitmap: DirtyBitmap; mode: BitmapMode } | undefined;
  readonly #recovery: TargetRecovery;
  readonly #overwritten: Bitmap;
  #pass: CopyPass | undefined;
  /** What is to be copied is known. */
  #isMarked = false;

  constructor(options: BackupJobOptions) {
    super(options);
    this.#plan = options.plan;
    this.#filter = options.filter;
    this.#moment = options.moment;
    this.#copy = options.copy;
    this.#bitmap = options.bitmap;
    const { length, clusterSize } = options.copy;
    const written = new Bitmap(length, clusterSize, this.graph.kernels);
    this.#overwritten = written.clone();
    this.#copy.history = { written, overwritten: this.#overwritten };
    this.#recovery = new TargetRecovery(() => this.#target()!.node, written);
    this.#copy.rateLimit = {
      isActive: () => this.speed > 0,
      delayMs: (bytes) => {
        const delayMs = this.rateDelayMs(bytes);
        // What was copied is kept first: it is looked again, or the next piece that ends wakes it.
        return this.companion?.room(this) ? Math.max(delayMs, KEEPING_MS) : delayMs;
      },
    };
    const onLost = (): void => {
      this.#pass?.cancelUnlessFinished();
      this.enter();
    };
    options.filter.driver(CopyBeforeWrite).onBroken = onLost;
    if (this.#moment) this.#readsMoment(this.#moment, onLost);
    this.#copy.progress = {
      done: (bytes) => {
        this.backoff.progress();
        this.counter.done(bytes);
      },
      remaining: (bytes) => this.counter.setRemaining(bytes),
    };
  }

  /** What was copied needs no room at the scratch disk any more, and can't be copied again. */
  #readsMoment(moment: PointInTime, onLost: () => void): void {
    moment.onLost(onLost);
    this.#copy.onCopied = async (range) => {
      this.#overwritten.set(range.offset, range.bytes);
      await moment.forget(range);
    };
  }

  /** @internal */
  override outstanding(): Bitmap | undefined {
    if (!this.#isMarked || this.#plan.sync === "none") return undefined;
    return this.leftOf(this.#copy.bitmap, this.#copy.inFlight.ranges);
  }

  /** Throws when the guest was let go on at the cost of the moment that is backed up. */
  #checkMoment(): void {
    const lost = this.#filter.driver(CopyBeforeWrite).snapshotError ?? this.#moment?.lost;
    if (lost !== undefined) throw lostMoment(lost, "backup");
  }

  /** @internal */
  protected override async run(): Promise<void> {
    const left = this.companion?.resume;
    if (left) this.#copy.restrictTo(left);
    else if (this.#plan.sync === "bitmap") this.#copy.restrictTo(this.#inputBitmap());
    this.#copy.skipUnallocated = this.#plan.sync === "top" && !left;
    this.counter.setRemaining(this.#copy.remaining);
    if (this.#copy.skipUnallocated) await this.#leaveOutBacking();
    this.#isMarked = true;
    if (this.#plan.sync === "none") {
      while (!this.isCancelled) {
        this.#checkMoment();
        await this.yieldUntilEntered();
      }
    } else await this.#copyAll();
  }

  #inputBitmap(): Bitmap {
    assert(this.#bitmap, "the mode has a bitmap");
    return this.#bitmap.bitmap.bitmap;
  }

  /** Takes off the bitmap what the source's own layer does not hold. An error here bypasses the policy. */
  async #leaveOutBacking(): Promise<void> {
    const copy = this.#copy;
    for (let at = 0; at < copy.length;) {
      await this.pausePoint();
      this.signal.throwIfAborted();
      try {
        const decided = await copy.resetUnallocated(at);
        assert(decided > 0, "a look finds something");
        at += decided;
      } catch (error) {
        throw this.failure(error);
      }
    }
    copy.skipUnallocated = false;
  }

  /** Pass after pass until one succeeds, the job is cancelled, or the policy says report. */
  async #copyAll(): Promise<void> {
    while (!this.isCancelled) {
      const pass = await this.#onePass();
      if (pass.broken) throw pass.broken;
      if (this.isCancelled) return;
      this.#checkMoment();
      // Cancelled without the job: it was paused, and goes on with a new pass.
      if (pass.cancelled) continue;
      // A backup that is reported complete is on stable storage (QEMU's may be in its caches still).
      const error = pass.error ?? (await this.#copy.flush());
      if (!error) return;
      const isRead = error.operation === "read";
      if (!isRead) this.#recovery.failed();
      const policy = this.#policyFor(error);
      const action = this.errorAction({ policy, isRead, error });
      if (action === "report") throw this.failure(error);
      if (action === "stop") await this.pausePoint();
      else await this.#beforeRetry();
      if (!this.isCancelled) await this.#recover();
    }
  }

  /** @internal */
  override get errorPolicies(): { readonly source: OnError; readonly target: OnError } {
    return { source: this.#plan.onSourceError, target: this.#plan.onTargetError };
  }

  #policyFor({ operation }: CopyError): OnError {
    return operation === "read" ? this.#plan.onSourceError : this.#plan.onTargetError;
  }

  #target(): Child | undefined {
    return this.nodes.find(({ name }) => name === "target");
  }

  /**
   * What a failed flush may have lost is copied again. Throws where the guest has overwritten it meanwhile: the source has no
   * longer what it was at the backup's point in time. A target that fails again is met by the next pass.
   */
  async #recover(): Promise<void> {
    if (!(await this.#recovery.recover().catch(() => false))) return;
    const { written } = this.#recovery;
    for (const { offset, bytes } of written.extents(0, this.#copy.length, Number.MAX_SAFE_INTEGER)) {
      if (this.#overwritten.nextDirty(offset, offset + bytes) >= 0) throw this.failure(lostPointInTime());
      this.#copy.markDirty({ offset, bytes });
    }
  }

  async #onePass(): Promise<CopyPass> {
    const { maxWorkers, maxChunk } = this.#plan;
    const isFatal = (error: CopyError): boolean => this.isFatal(this.#policyFor(error), error);
    const whole = { offset: 0, bytes: this.#copy.length };
    assert(!this.#pass || this.#pass.finished, "one pass at a time");
    const pass = this.#copy.start(whole, { maxWorkers, maxChunk, isFatal });
    this.#pass = pass;
    void pass.done.then(() => this.enter());
    while (!pass.finished && !this.isCancelled) await this.yieldUntilEntered();
    pass.cancelUnlessFinished();
    await pass.done;
    return pass;
  }

  async #beforeRetry(): Promise<void> {
    const delayMs = this.backoff.failed();
    if (delayMs > 0) await this.sleep(delayMs);
  }

  /** @internal */
  protected override pauseHook(): Promise<void> | void {
    const pass = this.#pass;
    if (!pass || pass.finished) return undefined;
    pass.cancel();
    return pass.done;
  }

  /** @internal */
  protected override setSpeedHook(): void {
    this.#copy.kick();
  }

  /** @internal */
  protected override commit(): void {
    this.#settleBitmap(true);
  }

  /** @internal */
  protected override abort(): void {
    this.#settleBitmap(false);
  }

  /** @internal */
  protected override async release(): Promise<void> {
    await super.release();
    this.#copy.history = undefined;
    this.#copy.onCopied = undefined;
    this.#recovery.free();
    this.#overwritten.free();
  }

  /** The copy is whole only when its image has been closed well; whether the source can be flushed is no matter of the job. @internal */
  protected override async clean(): Promise<void> {
    const target = this.#target();
    const held = target && this.graph.hold(target.node);
    await closing(
      () => this.removeAllNodes(),
      () => this.aside(() => this.#filter.end()),
      () => this.aside(async () => this.#moment?.end()),
      async () => held?.end(),
    );
  }

  /** Gives the bitmap back: with what the guest wrote meanwhile, and what was not copied if that is still wanted. */
  #settleBitmap(success: boolean): void {
    if (!this.#bitmap) return;
    const { bitmap, mode } = this.#bitmap;
    assert(bitmap.busy, "a bitmap is settled once");
    const consumed = mode !== "never" && (success || mode === "always");
    if (consumed) bitmap.abdicate();
    else bitmap.reclaim();
    if (!success && mode === "always") bitmap.bitmap.merge(this.#copy.bitmap);
  }
}

function lostPointInTime(): Error {
  return blockError("EIO", "backup", "what the target has lost was overwritten at the source meanwhile");
}
