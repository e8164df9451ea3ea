/**
 * A job under way: what it is carried out with, and what comes of it.
 */
import type { FleetJob } from "../../fleet/jobs.ts";
import type { JobProgress, ReadCheckpoint } from "../../fleet/queue.ts";
import type { Opener } from "./names.ts";
import type { Pace } from "./pace.ts";

/** What a job is carried out with. */
export interface CopyContext {
  readonly signal: AbortSignal;
  /** How long an owner on another machine is watched, ms. */
  readonly watchMs: number;
  /** Helps whoever has the job with its shards, and does nothing else of it. */
  readonly isHelper: boolean;
  /** What the queue knows of an earlier attempt at a job that writes nothing. */
  readonly checkpoint?: ReadCheckpoint | undefined;
  /** A generation was taken: whoever sees this thread die may release it. */
  claimed(target: string, generation: number): void;
  /** Waits for a place to transfer; resolves when there is one. */
  mayTransfer(): Promise<void>;
  /** The place is free for others. */
  transferred(): void;
  progress(progress: JobProgress): void;
  /** Whether nobody goes on after that failure. */
  isGivenUp(error: unknown): boolean;
}

/** How it came out: bytes that all attempts moved, as far as the target tells. */
export interface CopyResult {
  readonly bytes: number;
}

/** A job, with what carries it out. */
export interface Work extends Opener {
  readonly job: FleetJob;
  readonly context: CopyContext;
  readonly pace: Pace;
}
