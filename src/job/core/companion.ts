/**
 * What goes along with a job that can go on after its process: told how the job gets on, it keeps a checkpoint, which says what is still
 * to be copied. The job knows nothing of files.
 */
import type { Child } from "../../block/model/node.ts";
import type { Bitmap } from "../../kernels/bitmap.ts";

/** A job as its companion sees it. */
export interface Accompanied {
  /** What is not copied for good: to be copied, or under way. The caller frees it. Undefined: not known yet. */
  outstanding(): Bitmap | undefined;
  /** The edge to what is written, which may read there too. */
  readonly written: Child | undefined;
  /** Bytes copied so far. */
  readonly offset: number;
  /** It has failed, or was cancelled. */
  readonly hasFailed: boolean;
  /** The work is another process's, or its target has gone: it must stop, with that error. */
  giveUp(error: Error): void;
}

/** The companion. None of its calls rejects. */
export interface JobCompanion {
  /** What an earlier process has left to be copied; undefined: all that the job's options say. */
  readonly resume: Bitmap | undefined;
  /** Bytes that a job should have under way at most, so that not much is lost with its process. */
  readonly underWayBytes: number;
  /**
   * Asked before more is copied: resolves when no more would be lost with the process than may be. Undefined: it is so now. Not asked
   * for what a guest waits for.
   */
  room(job: Accompanied): Promise<void> | undefined;
  /** Something was copied. */
  progressed(job: Accompanied): void;
  /** The work is over, well or not; what the job holds is still there. */
  workEnded(job: Accompanied): Promise<void>;
  /** The job has ended. */
  jobEnded(job: Accompanied): Promise<void>;
}
