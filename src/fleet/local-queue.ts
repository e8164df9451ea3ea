/**
 * A queue in one process, with no server: what the jobs have come to is told to a journal, from which a later run goes on. Time is the
 * Host's clock, so that it may be virtual.
 *
 * Invariants: of the jobs that may begin, one of the highest priority comes first, and of those the earliest submitted; a job that
 * fails waits for its next attempt without holding a place.
 */
import type { Clock } from "../base/host.ts";
import { type FleetJob, specOf } from "./jobs.ts";
import {
  backoffOf,
  type Delivery,
  type FleetCounts,
  type FleetQueue,
  type Handler,
  type JobProgress,
  type JobRow,
  type JobState,
  type Journal,
  type Outcome,
  type ReadCheckpoint,
  type RetryPolicy,
  type ShardCounts,
  type WorkOptions,
} from "./queue.ts";
import { Heap } from "./heap.ts";
import { Company, isSuspect, lostText, MOST_LOST } from "./lost.ts";
import { type TransferLimits, type TransferPlaces, TransferSlots } from "./slots.ts";

/** How long a job waits that somebody else is at, ms. */
const ELSEWHERE_MS = 1000;
/** How often the journal is told how far a job is that runs, ms. */
const KEEP_MS = 5000;

interface Entry {
  readonly job: FleetJob;
  readonly spec: string;
  /** In which order it was submitted. */
  readonly place: number;
  state: JobState;
  attempts: number;
  bytes: number;
  worker: string;
  error: string;
  kept: number;
  lost: number;
  checkpoint: ReadCheckpoint | undefined;
  /** When the journal was told last how far it is. */
  keptMs: number;
  shards: ShardCounts | undefined;
  /** While it runs. */
  abort: AbortController | undefined;
  /** Ends its wait for the next attempt. */
  wait: (() => void) | undefined;
}

/** The queue. */
export class LocalQueue implements FleetQueue {
  readonly #clock: Clock;
  readonly #journal: Journal;
  readonly #retries: RetryPolicy;
  readonly #entries = new Map<string, Entry>();
  readonly #ready = new Heap<Entry>(
    (a, b) =>
      Number(isSuspect(a.lost)) - Number(isSuspect(b.lost)) ||
      b.job.priority - a.job.priority ||
      a.place - b.place,
  );
  readonly #company = new Company<Entry>();
  readonly #counts: FleetCounts = { queued: 0, running: 0, done: 0, failed: 0 };
  #isDrained = false;
  /** Those who hand out jobs and wait until something has changed. */
  #waiting: (() => void)[] = [];

  constructor(init: { clock: Clock; journal: Journal; retries: RetryPolicy }) {
    this.#clock = init.clock;
    this.#journal = init.journal;
    this.#retries = init.retries;
  }

  submit(jobs: readonly FleetJob[]): Promise<{ added: number; known: number }> {
    let added = 0;
    for (const job of jobs) {
      const spec = specOf(job);
      const other = this.#entries.get(job.id);
      if (other?.spec === spec) continue;
      if (other) this.#forget(other);
      this.#add(job, spec);
      added += 1;
    }
    this.#changed();
    return Promise.resolve({ added, known: jobs.length - added });
  }

  #forget(entry: Entry): void {
    this.#counts[entry.state] -= 1;
    this.#entries.delete(entry.job.id);
    entry.wait?.();
    entry.abort?.abort(new Error("cancelled"));
  }

  #add(job: FleetJob, spec: string): void {
    const said = this.#journal.known.get(job.id);
    const before = said?.spec === spec ? said : undefined;
    // Whoever had it ended without saying how it came out; who starts a run again wants what has failed to be tried again.
    const lost = before?.state === "failed" ? 0 : (before?.lost ?? 0) + Number(before?.state === "running");
    const isLost = lost >= MOST_LOST;
    const entry: Entry = {
      job,
      spec,
      place: this.#entries.size,
      state: before?.state === "done" ? "done" : isLost ? "failed" : "queued",
      attempts: before?.state === "failed" ? 0 : (before?.attempts ?? 0),
      bytes: before?.bytes ?? 0,
      worker: "",
      error: isLost ? lostText : (before?.error ?? ""),
      kept: before?.kept ?? 0,
      lost,
      checkpoint: before?.checkpoint,
      keptMs: -Infinity,
      shards: undefined,
      abort: undefined,
      wait: undefined,
    };
    this.#entries.set(job.id, entry);
    this.#counts[entry.state] += 1;
    if (isLost) this.#write(entry);
    if (entry.state === "queued") this.#ready.push(entry);
  }

  async work(handler: Handler, { name, atOnce, signal }: WorkOptions): Promise<void> {
    const running = new Set<Promise<void>>();
    const changed = (): void => this.#changed();
    signal.addEventListener("abort", changed);
    try {
      while (!signal.aborted) {
        while (running.size < atOnce && !this.#isDrained) {
          const entry = this.#next();
          if (!entry) break;
          if (!this.#company.enter(entry, entry.lost)) {
            this.#ready.push(entry);
            break;
          }
          const run = this.#run(entry, handler, name).finally(() => {
            running.delete(run);
            this.#company.leave(entry);
            changed();
          });
          running.add(run);
        }
        if (running.size === 0 && (this.#counts.queued === 0 || this.#isDrained)) return;
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
      await Promise.all(running);
    } finally {
      signal.removeEventListener("abort", changed);
    }
  }

  #changed(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }

  /** The next that may begin. Those that were cancelled meanwhile are passed over. */
  #next(): Entry | undefined {
    for (;;) {
      const entry = this.#ready.pop();
      if (!entry || (entry.state === "queued" && this.#entries.get(entry.job.id) === entry)) return entry;
    }
  }

  async #run(entry: Entry, handler: Handler, name: string): Promise<void> {
    entry.abort = new AbortController();
    entry.attempts += 1;
    entry.worker = name;
    this.#set(entry, "running");
    const delivery: Delivery = {
      job: entry.job,
      checkpoint: entry.checkpoint,
      signal: entry.abort.signal,
      progress: (progress) => this.#gotOn(entry, progress),
    };
    const outcome = await handler(delivery);
    if ("bytes" in outcome) entry.bytes = Math.max(entry.bytes, outcome.bytes);
    entry.abort = undefined;
    entry.shards = undefined;
    this.#ended(entry, outcome);
  }

  #gotOn(entry: Entry, { bytes, kept, shards, checkpoint }: JobProgress): void {
    entry.bytes = Math.max(entry.bytes, bytes);
    entry.shards = shards;
    entry.checkpoint = checkpoint;
    if (kept > entry.kept) this.#gotFurther(entry, kept);
    else if (!checkpoint) return;
    const now = this.#clock.nowMs();
    if (now - entry.keptMs < KEEP_MS) return;
    entry.keptMs = now;
    this.#write(entry);
  }

  #gotFurther(entry: Entry, kept: number): void {
    entry.kept = kept;
    if (isSuspect(entry.lost)) {
      this.#company.clear(entry);
      this.#changed();
    }
    entry.lost = 0;
  }

  #ended(entry: Entry, outcome: Outcome): void {
    if (this.#entries.get(entry.job.id) !== entry) return;
    if (outcome.state === "done" || outcome.state === "failed") entry.lost = 0;
    if (outcome.state === "done") {
      entry.error = "";
      entry.checkpoint = undefined;
      return this.#set(entry, "done");
    }
    if (outcome.state === "failed") {
      entry.error = outcome.error;
      // Who finds a disk wrong looks at all of it once more when he is asked again.
      if (outcome.isFinal) entry.checkpoint = undefined;
      if (outcome.isFinal || entry.attempts >= this.#retries.attempts) return this.#set(entry, "failed");
    } else entry.attempts -= 1;
    this.#set(entry, "queued");
    if (outcome.state === "given-back") return this.#ready.push(entry);
    const delayMs = outcome.state === "elsewhere" ? ELSEWHERE_MS : backoffOf(this.#retries, entry.attempts);
    entry.wait = this.#clock.timer(delayMs, () => this.#again(entry));
  }

  #again(entry: Entry): void {
    entry.wait = undefined;
    this.#ready.push(entry);
    this.#changed();
  }

  #set(entry: Entry, state: JobState): void {
    this.#counts[entry.state] -= 1;
    this.#counts[state] += 1;
    entry.state = state;
    if (state === "running") entry.keptMs = -Infinity;
    this.#write(entry);
  }

  #write({ job: { id }, spec, state, attempts, bytes, error, kept, lost, checkpoint }: Entry): void {
    this.#journal.write({ id, spec, state, attempts, bytes, error, kept, lost, checkpoint });
  }

  helpable(): Promise<FleetJob[]> {
    if (this.#isDrained) return Promise.resolve([]);
    const entries = [...this.#entries.values()].filter(
      ({ state, shards }) => state === "running" && (shards?.free ?? 0) > 0,
    );
    return Promise.resolve(entries.map(({ job }) => job));
  }

  places(limits: TransferLimits): TransferPlaces {
    return new TransferSlots(limits);
  }

  counts(): Promise<FleetCounts> {
    return Promise.resolve({ ...this.#counts });
  }

  rows(): Promise<JobRow[]> {
    const rows = [...this.#entries.values()].map(
      ({ job, state, attempts, worker, bytes, error, shards }) => ({
        ...{ id: job.id, state, attempts, worker, bytes, lastError: error },
        ...(shards ? { shards } : {}),
      }),
    );
    return Promise.resolve(rows);
  }

  cancel(ids: readonly string[] | undefined): Promise<number> {
    let count = 0;
    for (const id of ids ?? [...this.#entries.keys()]) {
      const entry = this.#entries.get(id);
      if (entry?.state !== "queued" && entry?.state !== "running") continue;
      count += 1;
      if (entry.abort) {
        entry.abort.abort(new Error("cancelled"));
        continue;
      }
      entry.wait?.();
      entry.wait = undefined;
      entry.error = "cancelled";
      this.#set(entry, "failed");
    }
    this.#changed();
    return Promise.resolve(count);
  }

  drain(isDrained: boolean): Promise<void> {
    this.#isDrained = isDrained;
    this.#changed();
    return Promise.resolve();
  }

  isDrained(): Promise<boolean> {
    return Promise.resolve(this.#isDrained);
  }

  retry(ids: readonly string[] | undefined): Promise<number> {
    const wanted = [...this.#entries.values()].filter(({ job: { id }, state }) =>
      ids ? ids.includes(id) && (state === "failed" || state === "done") : state === "failed",
    );
    for (const entry of wanted) {
      [entry.attempts, entry.lost] = [0, 0];
      this.#set(entry, "queued");
      this.#ready.push(entry);
    }
    this.#changed();
    return Promise.resolve(wanted.length);
  }

  close(): Promise<void> {
    for (const { wait } of this.#entries.values()) wait?.();
    return Promise.resolve();
  }
}
