/**
 * An engine: one block graph with its jobs, objects and machine. The monitor and the library's API work on it alike.
 */
import { asyncDispose } from "../base/lease.ts";
import { BlockGraph } from "../block/graph/graph.ts";
import type { GraphInit } from "../block/graph/home.ts";
import type { DriverType } from "../block/model/contract.ts";
import { settleAll } from "../base/signals.ts";
import { commitTop } from "../job/commit/top.ts";
import { type JobRegistry, jobsOf } from "../job/core/registry.ts";
import { mirrorTop } from "../job/mirror/top.ts";
import { Machine, type RunState } from "./machine.ts";
import { type ObjectMaker, ObjectRegistry } from "./objects.ts";

/** What an engine is made of; entries give the host and the drivers. */
export interface EngineInit extends GraphInit {
  drivers: readonly DriverType[];
  /** The machine's state at first; default running. */
  state?: RunState;
  /** The kinds of objects; without it object-add refuses all. */
  makeObject?: ObjectMaker;
}

/** Everything that one process or worker runs over one host. */
export class Engine {
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly machine: Machine;
  readonly objects: ObjectRegistry;
  /** What ends before its jobs and images: exports. */
  readonly ending = new Set<() => Promise<void>>();
  #closed: Promise<void> | undefined;

  constructor(init: EngineInit) {
    this.graph = new BlockGraph(init);
    this.graph.register(...init.drivers, mirrorTop, commitTop);
    this.jobs = jobsOf(this.graph);
    this.machine = new Machine({
      graph: this.graph,
      jobs: this.jobs,
      ...(init.state ? { state: init.state } : {}),
    });
    this.objects = new ObjectRegistry(this.graph, init.makeObject);
  }

  /** Ends all exports, cancels all jobs, closes all images. Reports the first failed flush. May be called again. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await settleAll([...this.ending].map((end) => end()));
    await this.graph.drainAll();
    // A job that is cancelled waits for its requests, and they for nobody.
    for (const lift of this.graph.limits) lift();
    await this.jobs.cancelAll();
    for (const device of [...this.machine.devices]) await device.unplug();
    await this.graph.close();
  }

  async [asyncDispose](): Promise<void> {
    await this.close();
  }
}
