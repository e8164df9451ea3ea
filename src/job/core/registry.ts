/**
 * The jobs of one engine, newest first, with the rules for their ids and the lists that queries answer.
 * Invariant: an id belongs to one job from its creation until it is dismissed.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import { Mutex } from "../../base/signals.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { JobEnvironment, JobHome } from "./environment.ts";
import type { Job } from "./job.ts";

const wellFormedId = /^[A-Za-z][A-Za-z0-9\-._]*$/;

/** All jobs of an engine. */
export class JobRegistry implements JobHome {
  readonly environment: JobEnvironment;
  readonly #jobs: Job[] = [];
  readonly #changes = new Mutex();

  constructor(environment: JobEnvironment) {
    this.environment = environment;
  }

  /** All jobs, newest first. */
  get jobs(): readonly Job[] {
    return this.#jobs;
  }

  /** Throws CommandError unless `id` is well formed and free. */
  checkId(id: string): void {
    if (!wellFormedId.test(id)) throw new CommandError(`Invalid job ID '${id}'`);
    if (this.find(id)) throw new CommandError(`Job ID '${id}' already in use`, { code: "EEXIST" });
  }

  /** The type and the first number that no job has: `mirror0`. It is free until something is waited for. */
  freeId(type: string): string {
    for (let number = 0; ; number++) {
      const id = `${type}${number}`;
      if (!this.find(id)) return id;
    }
  }

  /** The job of that id. */
  find(id: string): Job | undefined {
    return this.#jobs.find((job) => job.id === id);
  }

  /** The job of that id for a job-* command: CommandError `Job not found`. */
  job(id: string): Job {
    const job = this.find(id);
    if (!job) throw new CommandError("Job not found", { code: "ENOENT" });
    return job;
  }

  /** The block job of that id for a block-job-* command: CommandError of class DeviceNotActive. */
  blockJob(id: string): Job {
    const job = this.find(id);
    if (!job?.isBlockJob) {
      throw new CommandError(`Block job '${id}' not found`, { qmpClass: "DeviceNotActive" });
    }
    return job;
  }

  /** query-jobs: wire names. */
  queryJobs(): Record<string, unknown>[] {
    return this.#jobs.map((job) => job.query());
  }

  /** query-block-jobs: wire names. */
  queryBlockJobs(): Record<string, unknown>[] {
    return this.#jobs.map((job) => job.queryBlock()).filter((row) => row !== undefined);
  }

  /** Adds a new job; Job's constructor calls it. */
  add(job: Job): void {
    assert(!this.#jobs.includes(job), "a job was made twice");
    this.#jobs.unshift(job);
  }

  /** Drops a dismissed job; Job calls it. */
  remove(job: Job): void {
    const at = this.#jobs.indexOf(job);
    if (at >= 0) this.#jobs.splice(at, 1);
  }

  /**
   * Resolves when no job's end is being carried out. Monitors call it before a job command, since QEMU takes no command
   * in that stretch.
   */
  async settled(): Promise<void> {
    for (let job = this.#settling(); job; job = this.#settling()) await job.transaction.untilSettled();
  }

  /**
   * Runs a job's start or end, or another change of the graph that finds its nodes first and takes them later: one at a time, as
   * if nothing could happen between finding and taking. Not re-entrant.
   */
  exclusively<T>(body: () => Promise<T>): Promise<T> {
    return this.#changes.run(body);
  }

  #settling(): Job | undefined {
    return this.#jobs.find((job) => job.transaction.settling);
  }

  /** Force-cancels and dismisses every job; resolves when none is left. The caller drains the graph before. */
  async cancelAll(): Promise<void> {
    for (;;) {
      await this.settled();
      const job = this.#jobs[0];
      if (!job) return;
      await job.cancelAndDismiss();
    }
  }
}

const registries = new WeakMap<BlockGraph, JobRegistry>();

/** The jobs over a graph; made when first asked for. */
export function jobsOf(graph: BlockGraph): JobRegistry {
  let registry = registries.get(graph);
  if (!registry) {
    registry = new JobRegistry({ clock: graph.host.clock, events: graph.events, changes: graph.changes });
    registries.set(graph, registry);
  }
  return registry;
}
