/**
 * The machine: run state and guest devices. An I/O error whose policy is stop stops it; cont clears every io-status
 * (jobs' too, which stay paused) and retries what waits. Source: behaviour of QEMU 7.2 (`stop`, `cont`, `query-status`).
 *
 * Invariants: while not running, no device issues a request; stopping drains once and flushes; jobs go on.
 */
import { Wakeup } from "../base/signals.ts";
import type { BlockGraph } from "../block/graph/graph.ts";
import { flush } from "../block/io/request-path.ts";
import type { JobRegistry } from "../job/core/registry.ts";
import { BlockJob } from "../job/core/block-job.ts";
import { type IoStatus, type OnError } from "../job/core/error-policy.ts";
import type { Account } from "../block/model/node.ts";
import type { BlockBackend } from "../block/graph/backend.ts";
import type { ByteRange } from "../base/ranges.ts";
import type { Errno } from "../base/errno.ts";

/** QAPI's RunState, as far as storage brings it about. */
export type RunState = "running" | "paused" | "io-error" | "prelaunch" | "restore-vm" | "shutdown";

/** The error that a guest's request met last. */
export interface GuestFailure extends ByteRange {
  operation: "read" | "write";
  code: Errno;
  /** The cause in words, as the node told it. */
  message: string;
}

/** A disk that is plugged in, as the machine and those who list its devices see it (device.ts). */
export interface PluggedDevice {
  /** Name of its block backend; empty: it has none. */
  readonly name: string;
  readonly rerror: OnError;
  readonly werror: OnError;
  readonly backend: BlockBackend;
  readonly ioStatus: IoStatus;
  /** What its guest has asked of it. */
  readonly account: Account;
  /** The device keeps a status and one of its policies may stop the machine. */
  readonly iostatusEnabled: boolean;
  /** The last request that failed, whatever the policy made of it. */
  readonly lastFailure: GuestFailure | undefined;
  /** The machine goes on: errors are forgotten. */
  resetIoStatus(): void;
  /** Takes the disk out. */
  unplug(): Promise<void>;
}

/** What is plugged in, in that order. Each counts for itself: several may have no name. */
class PluggedDevices extends Set<PluggedDevice> {
  /** The device of that name. One without a name is not found by it. */
  get(name: string): PluggedDevice | undefined {
    return name === "" ? undefined : [...this].find((device) => device.name === name);
  }
}

/** Run state, and the devices that depend on it. */
export class Machine {
  readonly graph: BlockGraph;
  readonly jobs: JobRegistry;
  readonly devices = new PluggedDevices();
  readonly #resumed = new Wakeup();
  #state: RunState;
  #stopRequested = false;
  #stopping: Promise<void> | undefined;

  constructor(init: { graph: BlockGraph; jobs: JobRegistry; state?: RunState }) {
    this.graph = init.graph;
    this.jobs = init.jobs;
    this.#state = init.state ?? "running";
  }

  get state(): RunState {
    return this.#state;
  }

  get isRunning(): boolean {
    return this.#state === "running" && !this.#stopRequested;
  }

  /** The answer of query-status. */
  query(): { status: RunState; running: boolean; singlestep: boolean } {
    return { running: this.#state === "running", singlestep: false, status: this.#state };
  }

  /** Before anything runs: the machine waits for `cont` from the start. */
  holdAtStart(): void {
    this.#state = "prelaunch";
  }

  /** Resolves when the machine runs. */
  async untilRunning(): Promise<void> {
    while (!this.isRunning) await this.#resumed.wait();
  }

  /** Stops the machine: STOP, then all requests finish and images are flushed. One that does not run keeps its state. */
  async stop(state: RunState = "paused"): Promise<void> {
    this.#stopRequested = false;
    if (this.#state !== "running") {
      await this.#stopping;
      return;
    }
    this.#state = state;
    this.graph.events.emit("STOP");
    this.#stopping = this.#quiet();
    await this.#stopping;
  }

  /** A device met an error whose policy is stop: the machine stops as soon as the present work lets it. */
  requestStop(): void {
    if (this.#stopRequested || this.#state !== "running") return;
    this.#stopRequested = true;
    void this.graph.host.clock.turn().then(() => (this.#stopRequested ? this.stop("io-error") : undefined));
  }

  /** Runs again: every io-status is reset, RESUME is sent, requests that waited are issued again. */
  async cont(): Promise<void> {
    await this.#stopping;
    for (const device of this.devices) device.resetIoStatus();
    for (const job of this.jobs.jobs) if (job instanceof BlockJob) job.resetIoStatus();
    if (this.#state === "running") {
      // A stop was asked for and not carried out yet: clients see the pair.
      if (this.#stopRequested) {
        this.#stopRequested = false;
        this.graph.events.emit("STOP");
        this.graph.events.emit("RESUME");
        this.#wakeDevices();
      }
      return;
    }
    this.#state = "running";
    this.graph.events.emit("RESUME");
    this.#wakeDevices();
  }

  /** Tells of every STOP (false) and RESUME (true), as they happen, until the returned function is called. */
  watch(listener: (running: boolean) => void): () => void {
    return this.graph.events.subscribe(({ event }) => {
      if (event === "STOP" || event === "RESUME") listener(event === "RESUME");
    });
  }

  /** Requests wait here, and in their backends when they came during a drain. */
  #wakeDevices(): void {
    this.#resumed.wake();
    this.graph.changes.wake();
  }

  /** Drains once and flushes; a flush that fails is reported by the next one that the guest asks for. */
  async #quiet(): Promise<void> {
    await this.graph.drainAll();
    for (const node of this.graph.nodes) {
      if (node.isOpen && node.parents.size > 0) await flush(node).catch(() => undefined);
    }
  }
}
