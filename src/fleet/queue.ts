/**
 * What a queue of jobs is to the fleet: somebody who hands out jobs, perhaps twice, perhaps after having forgotten everything.
 *
 * Invariant: nothing here is relied on for a disk's content; that is the business of the fence beside each target (cli/fleet/place.ts).
 */
import type { FleetJob } from "./jobs.ts";
import type { TransferLimits, TransferPlaces } from "./slots.ts";

/** Where a job stands. */
export type JobState = "queued" | "running" | "done" | "failed";

/** How many jobs stand where. */
export type FleetCounts = Record<JobState, number>;

/** How the shards of a job stand whose disk many workers copy. */
export interface ShardCounts {
  readonly total: number;
  readonly done: number;
  /** That nobody is at, or nobody who lives. */
  readonly free: number;
}

/** What is known of a job. */
export interface JobRow {
  readonly id: string;
  readonly state: JobState;
  /** How often it was begun. */
  readonly attempts: number;
  /** Who has it, or had it last; empty: nobody yet. */
  readonly worker: string;
  /** Bytes that were copied or compared, all attempts together. */
  readonly bytes: number;
  /** Why the last attempt failed; empty: it did not. */
  readonly lastError: string;
  /** Absent: its disk is not copied in shards, or is done. */
  readonly shards?: ShardCounts;
}

/** How an attempt came out; bytes: what all attempts moved. */
export type Outcome =
  | { readonly state: "done"; readonly bytes: number }
  /** `isFinal`: another attempt would fail alike. */
  | { readonly state: "failed"; readonly bytes: number; readonly error: string; readonly isFinal: boolean }
  /** Somebody else is at it: no attempt, to be asked for again later. */
  | { readonly state: "elsewhere" }
  /** The worker ends: no attempt, to be given to another one at once. */
  | { readonly state: "given-back"; readonly bytes: number };

/** How far a job is that writes nothing, and so has no target that could say so. */
export interface ReadCheckpoint {
  /** What was read, as it was then. */
  readonly of: string;
  /** Bytes of the disk before which all was found right, and bytes that all attempts have read. */
  readonly position: number;
  readonly bytes: number;
}

/** How far a job is. */
export interface JobProgress {
  /** That all attempts have moved. */
  readonly bytes: number;
  /** Bytes of the disk that another attempt can go on behind. */
  readonly kept: number;
  readonly shards?: ShardCounts | undefined;
  readonly checkpoint?: ReadCheckpoint | undefined;
}

/** A job that is handed to a worker. */
export interface Delivery {
  readonly job: FleetJob;
  /** What an earlier attempt has told. */
  readonly checkpoint?: ReadCheckpoint | undefined;
  /** Aborts when the job is cancelled, with the reason. */
  readonly signal: AbortSignal;
  /** Tells how far it is, which the queue may forget. */
  readonly progress: (progress: JobProgress) => void;
}

/** Carries a job out. It never rejects. */
export type Handler = (delivery: Delivery) => Promise<Outcome>;

/** How a worker takes jobs. */
export interface WorkOptions {
  /** Who it is. */
  readonly name: string;
  /** Jobs at once. */
  readonly atOnce: number;
  /** Aborts when the worker shall end: jobs under way are given back by the handler. */
  readonly signal: AbortSignal;
  /** What is worth saying of the queue: it is not there, it is back. */
  readonly note: (text: string) => void;
}

/** How often jobs are tried. */
export interface RetryPolicy {
  /** Attempts in all, >= 1. */
  readonly attempts: number;
  /** Before the second attempt; doubled for each further one, up to `mostBackoffMs`. */
  readonly backoffMs: number;
}

/** How a queue is used. */
export interface QueueOptions {
  readonly retries: RetryPolicy;
  /** A job of a worker that is silent for so long is given to another, ms. */
  readonly leaseMs: number;
  /** A worker ends when nothing is left to do. */
  readonly exitsIdle: boolean;
}

/** The longest wait between two attempts, ms. */
export const mostBackoffMs = 300_000;

/** The wait after attempt number `attempt` (1 …), ms. */
export function backoffOf({ backoffMs }: RetryPolicy, attempt: number): number {
  return Math.min(backoffMs * 2 ** (attempt - 1), mostBackoffMs);
}

/** What is told of a queue that is drained, whose jobs wait for no worker. */
export const drainedText = "the queue is drained: it hands out no jobs until 'fleet drain --resume'";

/** A queue. Errors of its server are FleetErrors that name no password. */
export interface FleetQueue {
  /** Adds what it does not have; a job that says something else than the one of its id takes its place. */
  submit(jobs: readonly FleetJob[]): Promise<{ added: number; known: number }>;
  /** Hands jobs to the handler until the signal aborts, or, with no server, nothing is left to do. */
  work(handler: Handler, options: WorkOptions): Promise<void>;
  /** Jobs that run and have shards that nobody is at: whoever has nothing else to do may help. What is not known is not there. */
  helpable(): Promise<FleetJob[]>;
  /** Places for transfers, which count for all workers of the queue that have limits. */
  places(limits: TransferLimits): TransferPlaces;
  counts(): Promise<FleetCounts>;
  rows(): Promise<JobRow[]>;
  /** Takes jobs out that wait, and ends those that run (they fail, "cancelled"). Undefined: all. Answers how many. */
  cancel(ids: readonly string[] | undefined): Promise<number>;
  /** Hands out no more jobs, or (false) goes on. */
  drain(isDrained: boolean): Promise<void>;
  isDrained(): Promise<boolean>;
  /**
   * Lets jobs that failed run again, with all their attempts. Undefined: all of those; by their ids also those that are done, of which it is
   * looked again whether they are. Answers how many.
   */
  retry(ids: readonly string[] | undefined): Promise<number>;
  close(): Promise<void>;
}

/** A line of the journal: what a job has come to. */
export interface JournalEntry {
  readonly id: string;
  readonly spec: string;
  readonly state: JobState;
  readonly attempts: number;
  readonly bytes: number;
  readonly error: string;
  /** The furthest that another attempt can go on behind, bytes of the disk; and runs that ended in it without a word since it got there. */
  readonly kept?: number;
  readonly lost?: number;
  readonly checkpoint?: ReadCheckpoint | undefined;
}

/** Where it is written. */
export interface Journal {
  /** What an earlier run wrote, the latest of each job. */
  readonly known: ReadonlyMap<string, JournalEntry>;
  write(entry: JournalEntry): void;
}
