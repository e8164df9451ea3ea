/**
 * The jobs of one engine, newest first, with the rules for their ids and the lists that queries answer.
 * Invariant: an id belongs to one job from its creation until it is dismissed.
 *
 * And what the commands that start block jobs have in common: their shared arguments (wire names, already validated), the
 * default id, and looking up nodes. Source: QAPI; words of QEMU 7.2.
 */
import { assert } from "../../base/assert.ts";
import { CommandError } from "../../base/errors.ts";
import { Mutex } from "../../base/signals.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { JobEnvironment, JobHome } from "./environment.ts";
import type { BlockJob } from "./block-job.ts";
import type { Job } from "./job.ts";
import { aboveImplicitFilters } from "../../block/model/chain.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { BlockJobOptions } from "./block-job.ts";
import type { JobCompanion } from "./companion.ts";
import type { JobTransaction } from "./job-core.ts";

/** A job of any kind: `job.isBlockJob` tells which. */
export type AnyJob = BlockJob | (Job & { readonly isBlockJob: false });

/** A class of jobs: MirrorJob, BackupJob, CommitJob, StreamJob. */
type JobKind<T extends Job> = abstract new (...init: never[]) => T;

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

  /** The job of that id, if it is of the class `kind`; none where it never was, or has been dismissed. */
  find(id: string): AnyJob | undefined;
  find<T extends Job>(id: string, kind: JobKind<T>): T | undefined;
  find(id: string, kind?: JobKind<Job>): Job | undefined {
    return this.#jobs.find((job) => job.id === id && (kind === undefined || job instanceof kind));
  }

  /** The job of that id for a job-* command: CommandError `Job not found`. */
  job(id: string): Job {
    const job = this.find(id);
    if (!job) throw new CommandError("Job not found", { code: "ENOENT" });
    return job;
  }

  /** The block job of that id for a block-job-* command: CommandError of class DeviceNotActive. */
  blockJob(id: string): BlockJob {
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
    assert(at >= 0, "a job goes once");
    this.#jobs.splice(at, 1);
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
      // Who sets a job up starts it, or gives it up, before another change comes.
      if (job.status === "created") await this.exclusively(() => job.abandon());
      else await job.cancelAndDismiss();
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

/** Arguments that most block jobs take. */
export interface CommonJobArguments {
  "job-id"?: string | undefined;
  /** Bytes per second; 0 or absent: no limit. */
  speed?: number | undefined;
  "auto-finalize"?: boolean | undefined;
  "auto-dismiss"?: boolean | undefined;
}

/** What a caller inside the program may add. */
export interface StartOptions {
  signal?: AbortSignal | undefined;
  transaction?: JobTransaction | undefined;
  /** A job without an id is called after its type, with the first number that is free, instead of after the device. */
  numbered?: boolean | undefined;
  /** Keeps what is needed to go on in another process. */
  companion?: JobCompanion | undefined;
}

/** Name of the device over a node, jobs' filters between them aside; empty if none, which is no legal job id. */
export function deviceNameOf(graph: BlockGraph, node: BlockNode): string {
  const top = aboveImplicitFilters(node);
  for (const [name, { root }] of graph.backends) if (root?.node === node || root?.node === top) return name;
  return "";
}

/** The id of a job that is about to be made: the wished one, or the default. Throws as checkId() if it is not usable. */
export function jobId(
  graph: BlockGraph,
  node: BlockNode,
  wish: { id: string | undefined; type: string; numbered?: boolean | undefined },
): string {
  const registry = jobsOf(graph);
  const byDefault = (): string => (wish.numbered ? registry.freeId(wish.type) : deviceNameOf(graph, node));
  const id = wish.id ?? byDefault();
  registry.checkId(id);
  return id;
}

/** A job's options out of its command's arguments. Throws as checkId() if the id is not usable. */
export function jobOptions(
  graph: BlockGraph,
  node: BlockNode,
  args: CommonJobArguments,
  more: StartOptions & { type: BlockJobOptions["type"] },
): BlockJobOptions {
  const { numbered, ...rest } = more;
  return {
    ...rest,
    id: jobId(graph, node, { id: args["job-id"], type: more.type, numbered }),
    registry: jobsOf(graph),
    graph,
    autoFinalize: args["auto-finalize"],
    autoDismiss: args["auto-dismiss"],
  };
}

/** The node of that name, in the words of commands that also take devices. */
export function lookupNode(graph: BlockGraph, name: string): BlockNode {
  const node = graph.findNode(name);
  if (node) return node;
  // The command's own lookup of a node name says no device.
  throw new CommandError(`Cannot find device='' nor node-name='${name}'`, { code: "ENOENT" });
}
