/**
 * The mirror job: copies what is dirty until source and target are the same, then keeps them so until it is completed
 * or cancelled. An active commit is a mirror into the node's own backing chain.
 *
 * Invariants: a range is dirty, in flight or equal on both sides; a failed copy makes the granules that fail dirty again before
 * the policy is asked; the offset moves only on success; once the loop has ended well, the source stays drained until the
 * graph was changed. Source: behaviour of QEMU 7.2's block/mirror.c.
 */
import { AssertionError, assert } from "../../base/assert.ts";
import { blockError } from "../../base/errors.ts";
import { type ByteRange, RangeLock } from "../../base/ranges.ts";
import { Lease } from "../../base/lease.ts";
import { type DirtyBitmap, createDirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import { drainedSection } from "../../block/model/drain.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import { type CopyError, type CopyExtent, RangeCopier, sideOf } from "../../block/copy/range-copy.ts";
import { Window, type Work } from "../../block/copy/window.ts";
import { isAllocatedAbove } from "../../block/io/status.ts";
import { TargetRecovery, BlockJob } from "../core/block-job.ts";
import type { OnError } from "../core/error-policy.ts";
import {
  type Cutting,
  MAX_IN_FLIGHT,
  MAX_ZERO_BYTES,
  type FailedRange,
  bytesOf,
  dirtyRun,
  failedGranules,
  mostPerPiece,
  pieceBytes,
} from "../../block/copy/pieces.ts";
import { ActiveWrites } from "./top.ts";
import { MirrorExit } from "./exit.ts";
import type { MirrorInit } from "./init.ts";
import { sliceMs } from "../core/pace.ts";

type Piece = ByteRange & Pick<CopyExtent, "kind">;

/** A running mirror or active commit. */
export class MirrorJob extends BlockJob {
  /** @internal */
  readonly init: MirrorInit;
  /** @internal */
  readonly bitmap: DirtyBitmap;
  /** complete() was called: take the source's place at the end. @internal */
  shouldComplete = false;
  /** The backing links that are frozen below an active commit. @internal */
  frozen = new Lease();
  /** The source is being drained by the job itself, or is for its end. @internal */
  inDrain = false;
  /** That drained section. @internal */
  drain = new Lease();
  readonly #recovery: TargetRecovery;
  readonly #exit: MirrorExit;
  /** The guest's writes as they happen: the sink of the filter. @internal */
  readonly active: ActiveWrites;
  readonly #copier: RangeCopier;
  readonly #ranges = new RangeLock();
  readonly #window: Window<Work>;
  #failure: Error | undefined;
  #cursor = 0;
  #zeroing = false;
  #length = 0;
  #lastYield = 0;
  /** How long to wait before what failed is tried again. */
  #retryMs = 0;

  constructor(init: MirrorInit) {
    super(init);
    this.init = init;
    this.writes = init.target.edge;
    const source = init.top.source;
    this.#window = new Window({ works: MAX_IN_FLIGHT, onEmpty: () => this.graph.changes.wake() });
    this.bitmap = createDirtyBitmap(source, { granularity: init.granularity });
    this.bitmap.isJobs = true;
    this.#recovery = new TargetRecovery(() => init.target.edge.node, this.bitmap.bitmap.clone());
    // From the first moment on, so that a job that fails early has copied nothing of it.
    const start = init.companion?.resume ?? init.syncBitmap?.bitmap.bitmap;
    if (start) this.bitmap.bitmap.merge(start);
    const below = init.filter.node.filtered;
    if (!below) throw blockError("ENOMEDIUM", "mirror");
    this.#copier = new RangeCopier({
      source: below,
      target: init.target.edge,
      arena: this.graph.arena,
      kernels: this.graph.kernels,
      unmap: init.unmap,
      discardUnknown: true,
      maxTransfer: mostPerPiece(init.bufBytes),
    });
    this.#exit = new MirrorExit(this);
    this.active = new ActiveWrites({
      init,
      bitmap: this.bitmap,
      written: this.#recovery.written,
      progress: this.counter,
      ranges: this.#ranges,
      diskLength: () => this.#length,
      goesOnAfter: (error) => this.#goesOnAfter(error),
      isEnding: () => this.#failure !== undefined || this.isCancelled,
      failed: (error) => this.#decide("write", error),
      wake: () => this.#wakeForWork(),
    });
  }

  /** @internal */
  get source(): BlockNode {
    return this.init.top.source;
  }

  /** The ranges that are being copied now, bytes of the source. They may overlap. @internal */
  get rangesInFlight(): ByteRange[] {
    return this.#ranges.ranges;
  }

  /** @internal */
  override outstanding(): Bitmap | undefined {
    return this.init.top.sink ? this.leftOf(this.bitmap.bitmap, this.#ranges.ranges) : undefined;
  }

  /** Copies under way. @internal */
  get copiesInFlight(): number {
    return this.#window.size;
  }

  /** What was written to the target and may be lost there; undefined: nothing. @internal */
  async unsafeAtTarget(): Promise<Bitmap | undefined> {
    const { written, isDue } = this.#recovery;
    if (isDue) return written;
    try {
      await this.init.target.edge.flush();
      return undefined;
    } catch {
      // The job has failed of something else already; whoever reads the bitmap copies again what this may concern.
      return written;
    }
  }

  /** @internal */
  protected override completeHook(): void {
    this.#exit.blockReplaced();
    this.shouldComplete = true;
    // A paused job acts when it is resumed.
    if (!this.paused) this.enter();
  }

  /** Before READY every cancel is a hard one. @internal */
  protected override cancelHook(force: boolean): boolean {
    return force || !this.isReady;
  }

  /** @internal */
  protected override async pauseHook(): Promise<void> {
    await this.#window.empty();
  }

  /** @internal */
  protected override drainedPollHook(): boolean {
    if (!this.paused && !this.isCancelled && !this.inDrain) return true;
    return this.#window.size > 0;
  }

  /** @internal */
  protected override async prepare(): Promise<void> {
    await this.#exit.run(false);
  }

  /** @internal */
  protected override async abort(): Promise<void> {
    await this.#exit.run(true);
  }

  /** @internal */
  protected override async release(): Promise<void> {
    await this.#exit.abandon();
    await super.release();
    this.#recovery.free();
  }

  /** @internal */
  protected override async run(): Promise<void> {
    let drainHeld = false;
    try {
      await this.#matchSizes();
      if (this.#length === 0) await this.#waitEmpty();
      else {
        if (!this.init.syncNone) await this.#markInitial();
        if (!this.isCancelled) {
          this.init.top.sink = this.active;
          // In write-blocking mode the filter says what is dirty, now that it has somebody to say it to.
          if (this.init.writeBlocking) this.bitmap.enabled = false;
          drainHeld = await this.#loop();
        }
      }
    } finally {
      await this.#window.empty();
      if (!drainHeld) await this.#drainSource();
    }
  }

  async #matchSizes(): Promise<void> {
    const { source, init } = this;
    const { activeCommit } = init;
    const target = init.target.edge;
    this.#length = source.length;
    if (activeCommit && target.length < source.length) {
      await target.truncate(source.length, { exact: false, preallocation: "off" });
    } else if (!activeCommit && target.length !== source.length) {
      throw blockError("EINVAL", "mirror", "Source and target image have different sizes");
    }
  }

  /** Nothing to copy: ready at once, then wait for a verb. */
  async #waitEmpty(): Promise<void> {
    this.transitionToReady();
    while (!this.isCancelled && !this.shouldComplete && !this.cancelRequested) await this.yieldUntilEntered();
  }

  /** Fills the bitmap: everything, or what is allocated above the base. One to go by has filled it already. */
  async #markInitial(): Promise<void> {
    if (this.init.syncBitmap || this.companion?.resume) return;
    if (this.init.zeroTarget) {
      if (!this.#canZeroTarget()) return this.bitmap.bitmap.set(0, this.#length);
      await this.#zeroTarget();
    }
    for (let at = 0; at < this.#length && !this.isCancelled;) {
      await this.#throttle();
      const options = this.init.base ? { base: this.init.base } : {};
      const part = await isAllocatedAbove(this.source, at, this.#length - at, options);
      if (part.allocated) this.bitmap.bitmap.set(at, part.bytes);
      at += part.bytes;
    }
  }

  #canZeroTarget(): boolean {
    const { node } = this.init.target.edge;
    return node.options.discard === "unmap" && node.driver.pwriteZeroes !== undefined;
  }

  async #zeroTarget(): Promise<void> {
    this.#zeroing = true;
    for (let at = 0; at < this.#length && !this.isCancelled && !this.#failure; at += MAX_ZERO_BYTES) {
      await this.#throttle();
      await this.#window.room();
      this.#start({ offset: at, bytes: Math.min(MAX_ZERO_BYTES, this.#length - at), kind: "zero" });
    }
    await this.#window.empty();
    this.#zeroing = false;
    this.#checkFailure();
  }

  /** Lets others run once a slice. */
  async #throttle(): Promise<void> {
    if (this.graph.host.clock.nowMs() - this.#lastYield < sliceMs) return this.pausePoint();
    this.#lastYield = this.graph.host.clock.nowMs();
    await this.sleep(0);
    await this.pausePoint();
  }

  /** Copies until told to end. Returns true when it ended in sync, with the source drained. */
  async #loop(): Promise<boolean> {
    this.#lastYield = this.graph.host.clock.nowMs();
    for (;;) {
      this.#checkFailure();
      await this.pausePoint();
      if (this.isCancelled) return false;
      this.#checkFailure();
      if (this.#recovery.isDue && !(await this.#recover())) continue;
      const dirty = this.#updateRemaining();
      let delay = 0;
      if (this.#mayCopy()) {
        if (!this.#window.hasRoom() || (dirty === 0 && this.#window.size > 0)) {
          await this.#window.wait();
          continue;
        }
        if (dirty > 0) delay = await this.#iteration();
      }
      const inSync = this.#window.size === 0 && this.bitmap.dirtyBytes === 0 && dirty === 0;
      if (inSync && !(await this.#becomeReady())) {
        await this.#waitToRetry();
        continue;
      }
      const finish = inSync && (this.shouldComplete || this.cancelRequested);
      if (finish && this.bitmap.dirtyBytes === 0) {
        if (await this.#finish()) return true;
        await this.#waitToRetry();
        continue;
      }
      if (this.isReady && !finish && this.#window.size === 0 && this.bitmap.dirtyBytes === 0) delay = sliceMs;
      await this.sleep(Math.max(delay, this.#retryMs));
      this.#lastYield = this.graph.host.clock.nowMs();
    }
  }

  /** What a failed flush may have lost is dirty again. False: the target failed again. */
  async #recover(): Promise<boolean> {
    try {
      if (await this.#recovery.recover()) this.bitmap.bitmap.merge(this.#recovery.written);
      return true;
    } catch (error) {
      this.#decide("write", error);
      await this.#waitToRetry();
      return false;
    }
  }

  #checkFailure(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Copying goes on for a slice, and not after an error that stopped the job. */
  #mayCopy(): boolean {
    return this.graph.host.clock.nowMs() - this.#lastYield < sliceMs && this.ioStatus === "ok";
  }

  #updateRemaining(): number {
    const dirty = this.bitmap.dirtyBytes;
    this.counter.setRemaining(dirty + this.#window.bytes + this.active.bytes);
    return dirty;
  }

  /** READY the first time that source and target are in sync. False: look again. */
  async #becomeReady(): Promise<boolean> {
    if (this.isReady) return true;
    if (!(await this.#flushTarget())) return false;
    this.transitionToReady();
    return true;
  }

  /** Drains the source; true if it is still in sync then, and the drain is held on to. */
  async #finish(): Promise<boolean> {
    await this.#drainSource();
    if (this.bitmap.dirtyBytes === 0 && (await this.#flushTarget())) return true;
    await this.drain.end();
    this.inDrain = false;
    return false;
  }

  async #drainSource(): Promise<void> {
    assert(!this.drain.isHeld, "one drain at a time");
    this.inDrain = true;
    this.drain = await drainedSection(this.source);
  }

  async #flushTarget(): Promise<boolean> {
    try {
      await this.init.target.edge.flush();
      this.#succeeded();
      return true;
    } catch (error) {
      this.#decide("write", error);
      return false;
    }
  }

  /** Starts copies for one run of dirty bytes. Returns how long to sleep for the rate limit, ms. */
  async #iteration(): Promise<number> {
    const { bitmap } = this.bitmap;
    const unit = this.init.granularity;
    let first = bitmap.nextDirty(this.#cursor);
    if (first < 0) first = bitmap.nextDirty(0);
    if (first < 0) return 0;
    await this.#ranges.waitOverlap({ offset: first, bytes: Math.min(unit, this.#length - first) });
    await this.pausePoint();
    if (this.isCancelled || !bitmap.get(first)) return 0;
    const run = dirtyRun(bitmap, this.#ranges, { first, ...this.#cutting });
    if (run.bytes === 0) return 0;
    assert(!this.#ranges.overlaps(run), "no range is copied twice at once");
    bitmap.reset(run.offset, run.bytes);
    this.#cursor = run.offset + run.bytes < this.#length ? run.offset + run.bytes : 0;
    const held = this.#ranges.add(run);
    try {
      return await this.#startPieces(run);
    } finally {
      this.#ranges.end(held);
    }
  }

  /** What was begun is finished, cancelled or not, as in QEMU: at most a buffer's worth. */
  async #startPieces(run: { offset: number; bytes: number }): Promise<number> {
    const end = run.offset + run.bytes;
    let delay = 0;
    for (let at = run.offset; at < end;) {
      if (this.companion) await this.companion.room(this);
      await this.#window.room();
      const extent = this.#failure ? undefined : await this.#copier.status(at, end - at);
      if (!extent || this.#failure) {
        this.bitmap.bitmap.set(at, end - at);
        break;
      }
      const bytes = pieceBytes(extent, end - at, this.#cutting);
      this.#start({ offset: at, bytes, kind: extent.kind });
      const isFree = extent.kind !== "data" && this.#copier.zeroesAreFree && this.#canZeroTarget();
      delay = this.rateDelayMs(isFree ? 0 : bytes);
      at += bytes;
    }
    return delay;
  }

  get #cutting(): Cutting {
    return { granularity: this.init.granularity, bufBytes: this.init.bufBytes, diskBytes: this.#length };
  }

  #start(piece: Piece): void {
    assert(piece.offset + piece.bytes <= this.#length, "piece within the disk");
    const held = this.#ranges.add(piece);
    const result = this.#perform(piece)
      .then(
        () => this.#copied(piece.bytes),
        (error: unknown) => this.#split(piece, error),
      )
      .catch((error: unknown) => this.#failed([{ ...piece, error }]));
    this.#window.run({ bytes: piece.bytes, result }, () => this.#ranges.end(held));
  }

  async #perform(piece: Piece): Promise<void> {
    await this.#copyPiece(piece);
    this.#recovery.written.set(piece.offset, piece.bytes);
  }

  #copied(bytes: number): void {
    if (!this.#zeroing) this.counter.done(bytes);
    this.#succeeded();
  }

  /** Copies all of a failed piece but the granules that fail again. */
  async #split(piece: Piece, error: unknown): Promise<void> {
    const failed = await failedGranules(piece, error, {
      granule: this.init.granularity,
      copy: (part) => this.#perform({ ...part, kind: piece.kind }),
      // A pause waits for no search: what was not tried is dirty, and comes again.
      goesOn: (last) => this.pauseCount === 0 && this.#goesOnAfter(last),
    });
    const copied = piece.bytes - bytesOf(failed);
    if (copied > 0) this.#copied(copied);
    this.#failed(failed);
  }

  #goesOnAfter(error: unknown): boolean {
    return !this.isCancelled && !this.#failure && !this.isFatal(this.#policyOf(sideOf(error)), error);
  }

  /** @internal */
  override get errorPolicies(): { readonly source: OnError; readonly target: OnError } {
    return { source: this.init.onSourceError, target: this.init.onTargetError };
  }

  #policyOf(operation: CopyError["operation"]): OnError {
    return operation === "read" ? this.init.onSourceError : this.init.onTargetError;
  }

  /** What failed of a piece is dirty again. The policy is asked once: the others are met again, unless it ends the job. */
  #failed(failed: readonly FailedRange[]): void {
    for (const { offset, bytes } of failed) this.bitmap.bitmap.set(offset, bytes);
    const { error } = failed[0]!;
    this.#decide(sideOf(error), error);
  }

  /** A piece may be larger than its extent where the extent ends inside a granule. */
  async #copyPiece({ offset, bytes, kind }: Piece): Promise<void> {
    if (kind === "data") return this.#copier.copyData(offset, bytes);
    if (this.#zeroing) return this.#copier.writeZeroes(offset, bytes);
    await this.#copier.copy(offset, bytes);
  }

  /** The policy: remembers the failure when it ends the job. */
  #decide(operation: CopyError["operation"], error: unknown): void {
    if (error instanceof AssertionError) {
      this.#failure ??= error;
      return;
    }
    const isRead = operation === "read";
    if (!isRead) this.#recovery.failed();
    const policy = this.#policyOf(operation);
    const action = this.errorAction({ policy, isRead, error });
    if (action === "report") this.#failure ??= this.failure(error);
    else if (action === "ignore") this.#retryMs = this.backoff.failed();
  }

  /** What fails next is tried again at once. */
  #succeeded(): void {
    this.backoff.progress();
    this.#retryMs = 0;
  }

  /** Before the same is tried again that failed and was passed over. Any verb ends the wait. */
  async #waitToRetry(): Promise<void> {
    if (this.#retryMs > 0) await this.sleep(this.#retryMs);
    this.#lastYield = this.graph.host.clock.nowMs();
  }

  /** There is something to do for the sleeping loop: a failure ends the job, and what is dirty is copied. */
  #wakeForWork(): void {
    if (this.#failure || this.bitmap.dirtyBytes > 0) this.enter();
  }
}
