/**
 * A fleet's queue on BullMQ, over Redis or over PostgreSQL: the same code, the engine that keeps the jobs differs.
 *
 * Invariants: a job's id in the queue follows from its own, so that submitting again adds nothing; a job that stalls is handed out
 * again as often as it stalls, since what it does twice costs nothing but time; no password is ever printed.
 */
import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import type { Job, Queue } from "bullmq";
import { messageOf } from "../../base/errors.ts";
import { settleAll } from "../../base/signals.ts";
import { FleetError, type FleetJob, MAX_PRIORITY, readJob, specOf } from "../../fleet/jobs.ts";
import { Company, lostText, MOST_LOST } from "../../fleet/lost.ts";
import { drainedText, type FleetCounts, type FleetQueue, type Handler } from "../../fleet/queue.ts";
import type { JobProgress, ReadCheckpoint, ShardCounts } from "../../fleet/queue.ts";
import type { JobRow, JobState, QueueOptions, WorkOptions } from "../../fleet/queue.ts";
import type { TransferLimits } from "../../fleet/slots.ts";
import { type Backend, type Held, type OpenedQueue, queueReason } from "./backend.ts";
import { inBatches } from "./batches.ts";
import { SharedPlaces } from "./shared-places.ts";
import { answered, goodbye } from "./silence.ts";

interface Progress {
  readonly worker: string;
  readonly bytes: number;
  readonly shards?: ShardCounts;
  /** How far it has come that another attempt can go on behind, bytes of the disk, and how often it had stalled when it came there. */
  readonly kept?: number;
  readonly stalls?: number;
  readonly checkpoint?: ReadCheckpoint | undefined;
}

const states: Readonly<Record<JobState, readonly string[]>> = {
  queued: ["waiting", "wait", "prioritized", "delayed", "paused", "waiting-children"],
  running: ["active"],
  done: ["completed"],
  failed: ["failed"],
};

const BATCH = 200;
/** Running jobs among which one to help is looked for. */
const MOST_LOOKED_AT = 1000;
const ELSEWHERE_MS = 1000;
const LOOK_MS = 500;
/** How often a worker sees that its server is there. */
const PROBE_MS = 5000;
/** How long a server may take to answer a worker that ends. */
const ANSWER_MS = 5000;
/** A job may stall as often as workers are killed. */
const ANY_NUMBER = 1_000_000;

function keyOf(id: string): string {
  return `j${createHash("sha256").update(id).digest("hex").slice(0, 40)}`;
}

/** Resolves after so long, or when the signal aborts. */
function wait(delayMs: number, signal: AbortSignal): Promise<void> {
  return setTimeout(delayMs, undefined, { signal }).catch(() => undefined);
}

function progressOf(job: Job<Held>): Progress {
  const progress = job.progress as Partial<Progress> | number;
  return { worker: "", bytes: 0, ...(typeof progress === "object" ? progress : {}) };
}

/** How often a job has stalled in all, since somebody wanted it to be tried again. */
function stallsOf({ stalledCounter, data }: Job<Held>): number {
  return stalledCounter - (data.stalls ?? 0);
}

/** How often a job has stalled in a row, with nothing kept between. */
function lostOf(job: Job<Held>): number {
  return Math.min(stallsOf(job), job.stalledCounter - (progressOf(job).stalls ?? 0));
}

/** What carries jobs out, and those that are under way here. */
interface Carrying {
  readonly handler: Handler;
  readonly active: Map<string, AbortController>;
  readonly company: Company<string>;
  readonly name: string;
}

/** The queue. */
export class BullQueue implements FleetQueue {
  readonly #backend: Backend;
  readonly #name: string;
  readonly #options: QueueOptions;
  #opened: OpenedQueue;
  /** That it may be asked; undefined: not known, or something has failed since. */
  #reached: Promise<unknown> | undefined;
  readonly #places: SharedPlaces[] = [];

  constructor(backend: Backend, name: string, options: QueueOptions) {
    this.#backend = backend;
    this.#name = name;
    this.#options = options;
    this.#opened = this.#open();
  }

  #open(): OpenedQueue {
    const opened = this.#backend.queue(this.#name);
    // Each call tells its own failure.
    opened.queue.on("error", () => undefined);
    return opened;
  }

  get #queue(): Queue<Held> {
    return this.#opened.queue;
  }

  /** Asks the server; one that says nothing is given up. */
  async #ask<T>(question: () => Promise<T>): Promise<T> {
    const { reach, heard } = this.#opened;
    this.#reached ??= reach();
    try {
      return await answered(this.#reached.then(question), heard);
    } catch (error) {
      this.#reached = undefined;
      throw error;
    }
  }

  submit(jobs: readonly FleetJob[]): Promise<{ added: number; known: number }> {
    return this.#ask(() => this.#submit(jobs));
  }

  async #submit(jobs: readonly FleetJob[]): Promise<{ added: number; known: number }> {
    const wanted = await inBatches(BATCH, jobs, async (job) => {
      const spec = specOf(job);
      const other = await this.#queue.getJob(keyOf(job.id));
      if (other?.data.spec === spec) return undefined;
      if (other) await this.#remove(other as Job<Held>);
      return { job, spec };
    });
    const added = wanted.filter((one) => one !== undefined);
    const { attempts, backoffMs } = this.#options.retries;
    for (let at = 0; at < added.length; at += BATCH)
      await this.#queue.addBulk(
        added.slice(at, at + BATCH).map(({ job, spec }) => ({
          name: job.kind,
          data: { job, spec },
          opts: {
            jobId: keyOf(job.id),
            attempts,
            backoff: { type: "exponential", delay: backoffMs },
            priority: MAX_PRIORITY - job.priority + 1,
          },
        })),
      );
    return { added: added.length, known: jobs.length - added.length };
  }

  async #remove(job: Job<Held>): Promise<void> {
    const { id } = job.data.job;
    try {
      await job.remove();
    } catch {
      throw new FleetError(
        `job '${id}' says something else than the one of its id, which runs: cancel that first`,
      );
    }
  }

  async work(handler: Handler, options: WorkOptions): Promise<void> {
    const { name, atOnce, signal, note } = options;
    const { leaseMs, exitsIdle } = this.#options;
    await this.#untilThere(signal, note);
    if (signal.aborted) return;
    if (await this.isDrained().catch(() => false)) note(drainedText);
    const active = new Map<string, AbortController>();
    const handling = new Set<Promise<unknown>>();
    const tracked: Handler = (delivery) => {
      const handled = handler(delivery).finally(() => handling.delete(handled));
      handling.add(handled);
      return handled;
    };
    const carrying = { handler: tracked, active, company: new Company<string>(), name };
    const run = (job: Job<Held>, token = ""): Promise<unknown> => this.#carry(job, token, carrying);
    const worker = this.#backend.worker(this.#name, run, {
      name,
      concurrency: atOnce,
      lockDuration: leaseMs,
      stalledInterval: Math.max(leaseMs / 2, 500),
      maxStalledCount: ANY_NUMBER,
      runRetryDelay: 1000,
      drainDelay: 2,
    });
    let said = "";
    worker.on("error", (error) => {
      const text = messageOf(error) || (error as NodeJS.ErrnoException).code || "no answer";
      if (text !== said) note(`the queue: ${text}`);
      said = text;
    });
    const looking = setInterval(() => void this.#lookForCancelled(active), LOOK_MS * 2);
    try {
      await this.#untilIdle(exitsIdle, signal, note);
    } finally {
      clearInterval(looking);
      await settleAll([...handling]);
      // A server that is away is not waited for: it hands out again what was not given back.
      await ((await this.#isThere()) ? worker.close() : goodbye(worker.close(true)));
    }
  }

  #isThere(): Promise<boolean> {
    const answered = this.#queue.getJobCounts().then(
      () => true,
      () => false,
    );
    return Promise.race([answered, setTimeout(ANSWER_MS, false, { ref: false })]);
  }

  /** Until the server answers. */
  async #untilThere(signal: AbortSignal, note: (text: string) => void): Promise<void> {
    let said = "";
    while (!signal.aborted) {
      try {
        await this.counts();
        return;
      } catch (error) {
        if (error instanceof FleetError) throw error;
        const text = queueReason(error);
        if (text !== said) note(`the queue does not answer: ${text}`);
        said = text;
        await wait(LOOK_MS * 2, signal);
        // Its connection was given up.
        await this.#opened.close().catch(() => undefined);
        [this.#opened, this.#reached] = [this.#open(), undefined];
      }
    }
  }

  /** Until the signal aborts, or nothing is left to do if that is asked for. A server that is away is told of. */
  async #untilIdle(exitsIdle: boolean, signal: AbortSignal, note: (text: string) => void): Promise<void> {
    const ended = new Promise<boolean>((resolve) => {
      signal.addEventListener("abort", () => resolve(true), { once: true });
    });
    let said = "";
    while (!signal.aborted) {
      await wait(exitsIdle ? LOOK_MS : PROBE_MS, signal);
      if (signal.aborted) return;
      const idle = this.#isIdle().catch((error: unknown) => messageOf(error));
      const told = await Promise.race([idle, ended]);
      if (told === true && exitsIdle) return;
      const text = typeof told === "string" ? told : "";
      if (text !== said && text !== "") note(`the queue does not answer: ${text}`);
      said = text;
    }
  }

  async #isIdle(): Promise<boolean> {
    const { queued, running } = await this.counts();
    return running === 0 && (queued === 0 || (await this.isDrained()));
  }

  /** Jobs that run here and were cancelled elsewhere. What the queue does not answer is asked again. */
  async #lookForCancelled(active: ReadonlyMap<string, AbortController>): Promise<void> {
    for (const [key, abort] of active) {
      const job = await this.#queue.getJob(key).catch(() => undefined);
      if (job?.data.isCancelled) abort.abort(new Error("cancelled"));
    }
  }

  async #carry(
    job: Job<Held>,
    token: string,
    { handler, active, company, name }: Carrying,
  ): Promise<unknown> {
    const { UnrecoverableError, WaitingError } = this.#backend.package;
    const key = job.id ?? "";
    const lost = lostOf(job);
    if (lost >= MOST_LOST) throw new UnrecoverableError(lostText);
    if (!company.enter(key, lost)) return this.#later(job, token);
    const abort = new AbortController();
    active.set(key, abort);
    const { shards: _old, ...before } = progressOf(job);
    let told: Progress = { ...before, worker: name };
    const keep = (): Promise<void> => job.updateProgress(told).catch(() => undefined);
    const progress = ({ bytes, kept, shards, checkpoint }: JobProgress): void => {
      const isFurther = kept > (told.kept ?? 0);
      if (isFurther) company.clear(key);
      const further = isFurther ? { kept, stalls: job.stalledCounter } : {};
      const now = { ...further, ...(shards ? { shards } : {}), checkpoint };
      told = { ...told, ...now, bytes: Math.max(before.bytes, bytes) };
    };
    await keep();
    const telling = setInterval(() => void keep(), LOOK_MS * 2);
    try {
      if (job.data.isCancelled) throw new UnrecoverableError("cancelled");
      const { checkpoint } = before;
      const outcome = await handler({ job: this.#jobOf(job), checkpoint, signal: abort.signal, progress });
      const { shards: _done, checkpoint: last, ...others } = told;
      // Who has looked at all of a disk, or finds it wrong, looks at all of it once more when he is asked again.
      const isOver = outcome.state === "done" || (outcome.state === "failed" && outcome.isFinal);
      const rest = isOver ? others : { ...others, checkpoint: last };
      told = "bytes" in outcome ? { ...rest, bytes: Math.max(before.bytes, outcome.bytes) } : rest;
      if ("bytes" in outcome) await keep();
      if (outcome.state === "done") return { bytes: outcome.bytes };
      if (outcome.state === "failed")
        throw outcome.isFinal ? new UnrecoverableError(outcome.error) : new Error(outcome.error);
      if (outcome.state === "elsewhere") return await this.#later(job, token);
      await job.moveToWait(token);
      throw new WaitingError();
    } finally {
      clearInterval(telling);
      active.delete(key);
      company.leave(key);
    }
  }

  /** What is to be done: others may put jobs into the queue too, also those of another version, of which nothing is guessed. */
  #jobOf({ data }: Job<Held>): FleetJob {
    try {
      return readJob(data.job, 0);
    } catch (error) {
      throw new this.#backend.package.UnrecoverableError(`the queue holds no such job: ${messageOf(error)}`);
    }
  }

  /** It is asked for again a little later, which is no attempt. */
  async #later(job: Job<Held>, token: string): Promise<never> {
    await job.moveToDelayed(Date.now() + ELSEWHERE_MS, token);
    throw new this.#backend.package.DelayedError();
  }

  async helpable(): Promise<FleetJob[]> {
    if (await this.isDrained()) return [];
    const jobs = (await this.#ask(() => this.#queue.getJobs(["active"], 0, MOST_LOOKED_AT))) as Job<Held>[];
    const isFree = (job: Job<Held> | undefined): boolean =>
      job?.data?.job !== undefined && !job.data.isCancelled && (progressOf(job).shards?.free ?? 0) > 0;
    return jobs.filter(isFree).map(({ data }) => data.job);
  }

  places(limits: TransferLimits): SharedPlaces {
    const counter = this.#backend.places(this.#name);
    const places = new SharedPlaces({ limits, counter, leaseMs: this.#options.leaseMs });
    this.#places.push(places);
    return places;
  }

  async counts(): Promise<FleetCounts> {
    const found = await this.#ask(() => this.#queue.getJobCounts());
    const sum = (state: JobState): number =>
      states[state].reduce((total, name) => total + (found[name] ?? 0), 0);
    return { queued: sum("queued"), running: sum("running"), done: sum("done"), failed: sum("failed") };
  }

  async rows(): Promise<JobRow[]> {
    const rows: JobRow[] = [];
    for (const [state, jobs] of await this.#ask(() => this.#all())) {
      for (const job of jobs) {
        const { worker, bytes, shards } = progressOf(job);
        const lastError = state === "done" ? "" : (job.failedReason ?? "");
        const attempts = job.attemptsMade + stallsOf(job) + (state === "running" ? 1 : 0);
        const told = state === "running" && shards ? { shards } : {};
        rows.push({ id: job.data.job.id, state, attempts, worker, bytes, lastError, ...told });
      }
    }
    return rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** All jobs by their states. */
  async #all(): Promise<[JobState, Job<Held>[]][]> {
    const all: [JobState, Job<Held>[]][] = [];
    for (const state of Object.keys(states) as JobState[]) {
      const types = states[state].filter((name) => name !== "waiting") as Parameters<Queue["getJobs"]>[0];
      const jobs = await this.#queue.getJobs(types, 0, -1);
      all.push([state, jobs.filter((job) => job?.data?.job !== undefined) as Job<Held>[]]);
    }
    return all;
  }

  async #some(ids: readonly string[]): Promise<[JobState, Job<Held>[]][]> {
    const jobs = await inBatches(BATCH, ids, async (id) => {
      const job = await this.#queue.getJob(keyOf(id));
      if (!job) throw new FleetError(`there is no job '${id}'`);
      const told = await job.getState();
      const state = (Object.keys(states) as JobState[]).find((name) => states[name].includes(told));
      return [state ?? "queued", [job as Job<Held>]] as [JobState, Job<Held>[]];
    });
    return jobs;
  }

  cancel(ids: readonly string[] | undefined): Promise<number> {
    return this.#ask(() => this.#cancel(ids));
  }

  async #cancel(ids: readonly string[] | undefined): Promise<number> {
    let count = 0;
    for (const [state, jobs] of ids ? await this.#some(ids) : await this.#all()) {
      if (state !== "queued" && state !== "running") continue;
      await inBatches(BATCH, jobs, (job) => this.#cancelOne(job));
      count += jobs.length;
    }
    return count;
  }

  /** One that waits is removed; one that runs, or has just begun to, is told. */
  async #cancelOne(job: Job<Held>): Promise<void> {
    await job.remove().catch(() => job.updateData({ ...job.data, isCancelled: true }));
  }

  async drain(isDrained: boolean): Promise<void> {
    await this.#ask(() => (isDrained ? this.#queue.pause() : this.#queue.resume()));
  }

  isDrained(): Promise<boolean> {
    return this.#ask(() => this.#queue.isPaused());
  }

  retry(ids: readonly string[] | undefined): Promise<number> {
    return this.#ask(() => this.#retry(ids));
  }

  async #retry(ids: readonly string[] | undefined): Promise<number> {
    let count = 0;
    for (const [state, jobs] of ids ? await this.#some(ids) : await this.#all()) {
      if (state !== "failed" && !(ids && state === "done")) continue;
      await inBatches(BATCH, jobs, async (job) => {
        const { job: what, spec } = job.data;
        await job.updateData({ job: what, spec, stalls: job.stalledCounter });
        await job.retry(state === "done" ? "completed" : "failed", { resetAttemptsMade: true });
      });
      count += jobs.length;
    }
    return count;
  }

  async close(): Promise<void> {
    await settleAll(this.#places.map((places) => places.close()));
    await this.#opened.close();
  }
}
