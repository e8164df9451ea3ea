/**
 * The guest's writes that a mirror brings to its target as they happen (copy-mode=write-blocking), or marks dirty (background).
 *
 * Invariants: no copy of the job overlaps a write that goes to both sides; what the target did not take is dirty before the policy
 * is asked; a write never fails the guest's. Source: behaviour of QEMU 7.2's block/mirror.c.
 */
import type { Answer } from "../../base/answer.ts";
import { assert } from "../../base/assert.ts";
import { type ByteRange, alignDown, alignUp } from "../../base/ranges.ts";
import { bytesOf, failedGranules } from "../../block/copy/granules.ts";
import type { RangeLock } from "../../base/range-lock.ts";
import type { DirtyBitmap } from "../../block/model/dirty-bitmap.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";
import type { JobProgress } from "../core/pace.ts";
import type { MirrorInit } from "./init.ts";
import type { GuestChange, MirrorSink } from "./top.ts";

/** What the writes need of the mirror (job.ts). */
export interface ActiveWritesInit {
  readonly init: Pick<MirrorInit, "granularity" | "target" | "writeBlocking">;
  readonly bitmap: DirtyBitmap;
  /** What the job has written to its target. */
  readonly written: Bitmap;
  readonly progress: JobProgress;
  /** What is being copied. */
  readonly ranges: RangeLock;
  /** Length of the source, bytes. */
  diskLength(): number;
  /** The job goes on in spite of an error of its target. */
  goesOnAfter(error: unknown): boolean;
  /** The job has failed, or is cancelled. */
  isEnding(): boolean;
  /** A write to the target failed: the policy is to be asked. */
  failed(error: unknown): void;
  /** Something may be dirty, or the job has failed. */
  wake(): void;
}

/** The sink of a mirror's filter. */
export class ActiveWrites implements MirrorSink {
  readonly #job: ActiveWritesInit;
  /** Bytes on their way to the target. */
  bytes = 0;

  constructor(job: ActiveWritesInit) {
    this.#job = job;
  }

  get copiesActively(): boolean {
    return this.#job.init.writeBlocking && !this.#job.isEnding();
  }

  async beginActiveWrite(offset: number, bytes: number): Promise<() => void> {
    const unit = this.#job.init.granularity;
    const start = alignDown(offset, unit);
    const held = await this.#job.ranges.exclusive(start, alignUp(offset + bytes, unit) - start);
    return () => this.#job.ranges.end(held);
  }

  async writeToTarget(change: GuestChange): Promise<void> {
    const { progress } = this.#job;
    const { bytes } = change;
    this.#markClean(change);
    progress.increaseRemaining(bytes);
    this.bytes += bytes;
    try {
      await this.#applyToTarget(change);
      progress.done(bytes);
    } catch (error) {
      await this.#split(change, error);
    } finally {
      this.bytes -= bytes;
      assert(this.bytes >= 0, "more active bytes ended than began");
      this.#job.wake();
    }
  }

  /** Whole granules only: of others the rest may be dirty for reasons of its own. */
  #markClean({ offset, bytes }: GuestChange): void {
    const { init, bitmap } = this.#job;
    const { granularity: unit } = init;
    const inner = alignUp(offset, unit);
    const end = offset + bytes === this.#job.diskLength() ? offset + bytes : alignDown(offset + bytes, unit);
    if (end > inner) bitmap.bitmap.reset(inner, end - inner);
  }

  async #applyToTarget(change: GuestChange): Promise<void> {
    await this.#request(change);
    this.#job.written.set(change.offset, change.bytes);
  }

  /** Brings all of a failed change to the target but the granules that fail again. Never rejects. */
  async #split(change: GuestChange, first: unknown): Promise<void> {
    try {
      const failed = await failedGranules(change, first, {
        granule: this.#job.init.granularity,
        copy: (part) => this.#applyToTarget(partOf(change, part)),
        goesOn: (last) => this.#job.goesOnAfter(last),
      });
      for (const { offset, bytes } of failed) this.markDirty(offset, bytes);
      this.#job.progress.done(change.bytes - bytesOf(failed));
      this.#job.failed(failed[0]!.error);
    } catch (error) {
      this.markDirty(change.offset, change.bytes);
      this.#job.failed(error);
    }
  }

  #request({ kind, offset, bytes, data, flags }: GuestChange): Answer<void> {
    const { edge: target } = this.#job.init.target;
    if (kind === "write" && data) return target.pwrite(offset, data, flags);
    return kind === "zeroes" ? target.pwriteZeroes(offset, bytes, flags) : target.pdiscard(offset, bytes);
  }

  markDirty(offset: number, bytes: number): void {
    this.#job.bitmap.bitmap.set(offset, bytes);
  }
}

function partOf(change: GuestChange, { offset, bytes }: ByteRange): GuestChange {
  const at = offset - change.offset;
  const part = { ...change, offset, bytes };
  return change.data ? { ...part, data: change.data.subarray(at, at + bytes) } : part;
}
