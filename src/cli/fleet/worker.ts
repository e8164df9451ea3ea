/**
 * A worker: takes jobs from a queue and has threads carry them out, within the limits on transfers.
 */
import { hostname } from "node:os";
import { dirname } from "node:path";
import type { FleetJob } from "../../fleet/jobs.ts";
import type { Delivery, FleetQueue, Outcome } from "../../fleet/queue.ts";
import type { TransferKeys, TransferLimits, TransferPlaces } from "../../fleet/slots.ts";
import { isPath } from "./names.ts";
import { EngineThread, type ThreadCalls, type ThreadResult } from "./thread.ts";

/** How often whoever has room looks for something to help with. */
const HELP_MS = 500;
/** How long a job is left alone whose shards failed here. */
const LEAVE_MS = 5000;

/** How a worker works. */
export interface WorkerOptions {
  readonly queue: FleetQueue;
  /** Jobs at once. */
  readonly atOnce: number;
  readonly limits: TransferLimits;
  /** How long an owner of a target on another machine is watched, ms. */
  readonly watchMs: number;
  /** Aborts when the worker shall end: jobs under way keep their checkpoints and go back to the queue. */
  readonly signal: AbortSignal;
  readonly note: (text: string) => void;
}

/** What counts as one store: the host of a URL, the folder of a file. */
function storeOf(name: string | undefined): string {
  if (name === undefined) return "";
  if (isPath(name)) return dirname(name);
  return URL.canParse(name) ? new URL(name).host || name.slice(0, name.indexOf(":")) : name;
}

function keysOf({ source, target }: FleetJob): TransferKeys {
  return { host: hostname(), store: storeOf(target), source: storeOf(source) };
}

/** The name by which a worker is known: host, process. */
export function workerName(): string {
  return `${hostname()}-${process.pid}`;
}

/** Works until the queue says that nothing is left, or the signal aborts. */
export async function work(options: WorkerOptions): Promise<void> {
  const { queue, atOnce, signal, note } = options;
  const desk = new Desk(options);
  desk.warm();
  // Whoever comes to a disk that is being copied in shards waits for no job.
  void desk.help();
  const looking = setInterval(() => void desk.help(), HELP_MS);
  try {
    await queue.work((delivery) => desk.handle(delivery), { name: workerName(), atOnce, signal, note });
  } finally {
    clearInterval(looking);
    await desk.close();
  }
}

/** What a worker has in hand: its jobs, and, where there is room beside them, shards of others' jobs. */
class Desk {
  readonly #options: WorkerOptions;
  readonly #places: TransferPlaces;
  readonly #idle: EngineThread[] = [];
  readonly #threads = new Set<EngineThread>();
  /** Helpers, and how each is told to make room. */
  readonly #helpers = new Map<Promise<unknown>, AbortController>();
  /** Jobs that could not be helped with, until when. */
  readonly #left = new Map<string, number>();
  #jobs = 0;
  #isLooking = false;
  #isClosed = false;

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#places = options.queue.places(options.limits);
  }

  /** Starts a thread, beside the look at the queue. */
  warm(): void {
    const thread = this.#thread();
    thread.start();
    this.#idle.push(thread);
  }

  /** One that has nothing to do. */
  #thread(): EngineThread {
    const thread = this.#idle.pop() ?? new EngineThread();
    this.#threads.add(thread);
    return thread;
  }

  /** Carries out a job of the queue. */
  async handle({ job, checkpoint, signal, progress }: Delivery): Promise<Outcome> {
    this.#jobs += 1;
    try {
      await this.#makeRoom();
      const given = AbortSignal.any([signal, this.#options.signal]);
      const result = await this.#run(job, {
        ...{ signal: given, isHelper: false, checkpoint, progress },
        isCancelled: () => signal.aborted,
      });
      const { state, bytes, error, isFinal } = result;
      if (state === "done") return { state, bytes };
      if (signal.aborted) return { state: "failed", bytes, error: "cancelled", isFinal: true };
      if (this.#options.signal.aborted) return { state: "given-back", bytes };
      return state === "elsewhere" ? { state } : { state, bytes, error, isFinal };
    } finally {
      this.#jobs -= 1;
    }
  }

  /** Jobs come before helping. */
  async #makeRoom(): Promise<void> {
    while (this.#helpers.size > 0 && this.#jobs + this.#helpers.size > this.#options.atOnce) {
      const [helper, abort] = [...this.#helpers].at(-1)!;
      abort.abort(new Error("a job has come"));
      await helper;
    }
  }

  async #run(job: FleetJob, calls: Omit<ThreadCalls, "watchMs" | "takePlace">): Promise<ThreadResult> {
    const thread = this.#thread();
    try {
      return await thread.run(job, {
        ...calls,
        watchMs: this.#options.watchMs,
        takePlace: (given) => this.#places.take(keysOf(job), given),
      });
    } finally {
      this.#idle.push(thread);
    }
  }

  /** Looks for shards that nobody is at, if there is room. What the queue does not answer is asked again. */
  async help(): Promise<void> {
    const hasRoom = (): boolean => !this.#isClosed && this.#jobs + this.#helpers.size < this.#options.atOnce;
    if (this.#isLooking || !hasRoom()) return;
    this.#isLooking = true;
    try {
      const now = performance.now();
      const jobs = await this.#options.queue.helpable();
      for (const job of jobs) if (hasRoom() && now >= (this.#left.get(job.id) ?? 0)) this.#begin(job);
    } catch {
      // The queue says so to whoever asks it for jobs.
    } finally {
      this.#isLooking = false;
    }
  }

  #begin(job: FleetJob): void {
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, this.#options.signal]);
    const calls = { signal, isHelper: true, isCancelled: () => false, progress: () => undefined };
    const helper = this.#run(job, calls).then(({ state, error }) => {
      this.#helpers.delete(helper);
      if (state !== "failed" || signal.aborted) return;
      this.#left.set(job.id, performance.now() + LEAVE_MS);
      this.#options.note(`a shard of job '${job.id}': ${error}`);
    });
    this.#helpers.set(helper, abort);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const abort of this.#helpers.values()) abort.abort(new Error("the worker ends"));
    await Promise.all(this.#helpers.keys());
    for (const thread of this.#threads) await thread.close();
  }
}
