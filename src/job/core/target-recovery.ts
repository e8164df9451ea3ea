/**
 * What a job does about its target after an error there: if a flush had failed below, the storage is opened anew, and all
 * that the job has written there is to be written again, since the system may have lost it.
 *
 * Invariant: what was written is noted before anything can be reported of it. It is never taken back: what a good flush has
 * made durable is written once more, too.
 */
import { recoverStorage } from "../../block/graph/recover.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";

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
