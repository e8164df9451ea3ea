/**
 * A job's progress as an iteration. Invariants: the first report comes at once and the last one when the job is over; between
 * them one comes only when something has changed. Nothing is counted or kept for it, and no timer waits while the job stands
 * still.
 */
import type { Clock } from "../../base/host.ts";
import { type Wakeup, abortable, onAbort } from "../../base/signals.ts";
import type { JobStatus } from "./verbs.ts";

/** How often a job tells of its progress. */
export interface ProgressOptions {
  /** Milliseconds between two reports at least; default 100. */
  intervalMs?: number | undefined;
  /** Ends the iteration with its reason; the job goes on. */
  signal?: AbortSignal | undefined;
}

/** How far a job is. */
export interface ProgressReport {
  status: JobStatus;
  /** What is done, and what there is to do as far as it is known; bytes for jobs that copy. The latter may grow. */
  offset: number;
  length: number;
  /** 0 … 1; 0 while nothing is known of the length. */
  fraction: number;
}

const INTERVAL_MS = 100;

/** A job, as far as its progress is concerned. */
interface Progressing {
  readonly status: JobStatus;
  readonly offset: number;
  readonly length: number;
  readonly paused: boolean;
  readonly ended: Promise<unknown>;
  readonly registry: { readonly environment: { readonly clock: Clock; readonly changes: Wakeup } };
}

function reportOf({ status, offset, length }: Progressing): ProgressReport {
  return { status, offset, length, fraction: length > 0 ? Math.min(1, offset / length) : 0 };
}

function isSame(a: ProgressReport, b: ProgressReport): boolean {
  return a.status === b.status && a.offset === b.offset && a.length === b.length;
}

/** See Job.progress(). */
export async function* progressOf(
  job: Progressing,
  { intervalMs = INTERVAL_MS, signal }: ProgressOptions,
): AsyncGenerator<ProgressReport> {
  const { clock, changes } = job.registry.environment;
  let wake = (): void => undefined;
  const over = (): void => wake();
  job.ended.then(over, over);
  /** A while, or less if the job ends or the signal aborts. */
  const interval = (): Promise<void> =>
    new Promise((resolve) => {
      wake = () => {
        cancel();
        forget();
        resolve();
      };
      const cancel = clock.timer(intervalMs, over);
      const forget = onAbort(signal, over);
    });
  for (let last: ProgressReport | undefined; ;) {
    signal?.throwIfAborted();
    const report = reportOf(job);
    if (!last || !isSame(last, report)) yield report;
    last = report;
    if (report.status === "concluded" || report.status === "null") return;
    signal?.throwIfAborted();
    // While it stands still nothing but a change of its state moves it.
    await (job.paused ? abortable(changes.wait(), signal) : interval());
  }
}
