/**
 * A backup as an action of a transaction: prepare drains the source and makes the job, commit starts it, clean ends the
 * drain. So every backup shows a paused state at its start. Source: behaviour of QEMU 7.2's blockdev.c.
 */
import { assert } from "../../base/assert.ts";
import { closing, Lease } from "../../base/lease.ts";
import { drainedSection } from "../../block/model/drain.ts";
import type { BlockGraph } from "../../block/graph/graph.ts";
import type { BlockNode } from "../../block/model/node.ts";
import type { BackupJob } from "./job.ts";
import { jobsOf } from "../core/registry.ts";

/** One action of a transaction. clean() always comes last, also when prepare() has thrown. */
export interface TransactionAction {
  /** Does all that can fail. Throws CommandError in QEMU's words; then there is nothing to abort. */
  prepare(): Promise<void>;
  commit(): Promise<void>;
  /** Undoes a prepare() that succeeded. */
  abort(): Promise<void>;
  clean(): Promise<void>;
}

/** An action that makes a backup job; subclasses find or make its nodes. */
export abstract class BackupAction implements TransactionAction {
  readonly graph: BlockGraph;
  #drained = new Lease();
  #job: BackupJob | undefined;

  constructor(graph: BlockGraph) {
    this.graph = graph;
  }

  /** Drains the source by drain() and creates the job, not started. */
  protected abstract create(): Promise<BackupJob>;

  /** The job, from prepare() on. */
  get job(): BackupJob {
    assert(this.#job, "the backup is not prepared");
    return this.#job;
  }

  async prepare(): Promise<void> {
    assert(!this.#job, "prepared once");
    this.#job = await this.create();
  }

  /** Keeps the source drained until clean(). */
  protected async drain(source: BlockNode): Promise<void> {
    assert(!this.#drained.isHeld, "one drain at a time");
    this.#drained = await drainedSection(source);
  }

  /** Starts the job: running, then paused until clean(). */
  commit(): Promise<void> {
    this.job.start();
    return Promise.resolve();
  }

  async abort(): Promise<void> {
    await this.#job?.abandon();
  }

  clean(): Promise<void> {
    return this.#drained.end();
  }

  /**
   * Runs the action as a transaction of its own; like every transaction it drains everything first, but waits for no disk that
   * does not answer: the source's own is drained by drain().
   */
  run(): Promise<BackupJob> {
    return jobsOf(this.graph).exclusively(() => this.#run());
  }

  async #run(): Promise<BackupJob> {
    await this.graph.drainAllPatiently();
    const begin = async (): Promise<BackupJob> => {
      await this.prepare();
      await this.commit();
      return this.job;
    };
    return closing(begin, () => this.clean());
  }
}
