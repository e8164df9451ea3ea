// A machine with scripted guests over memory nodes: what the guests do, what they get, and every event in order.
import type { Errno } from "../../../src/base/errno.ts";
import { errnoOf } from "../../../src/base/errors.ts";
import { jobsOf } from "../../../src/job/core/registry.ts";
import { GuestDevice, type GuestDeviceOptions } from "../../../src/machine/device.ts";
import { Machine, type RunState } from "../../../src/machine/machine.ts";
import { TestGraph } from "./graph.ts";

/** One request of a guest. */
export interface GuestStep {
  op: "read" | "write" | "zero" | "discard" | "flush";
  offset?: number;
  bytes?: number;
  /** What a write writes. */
  value?: number;
}

/** How a request ended: still waiting, well, or with an errno. */
export type GuestResult = "waits" | "ok" | Errno;

/** A guest that issues requests and notes how they end. */
export class Guest {
  readonly device: GuestDevice;

  constructor(device: GuestDevice) {
    this.device = device;
  }

  /** Issues one request. `result` changes when it ends. */
  issue(step: GuestStep): { result: GuestResult; done: Promise<GuestResult>; data: Uint8Array } {
    const { offset = 0, bytes = 512, value = 0 } = step;
    const data = new Uint8Array(bytes).fill(value);
    const { device } = this;
    const run = async (): Promise<void> => {
      if (step.op === "read") return device.read(offset, data);
      if (step.op === "write") return device.write(offset, data);
      if (step.op === "zero") return device.writeZeroes(offset, bytes);
      return step.op === "discard" ? device.discard(offset, bytes) : device.flush();
    };
    const issued = { result: "waits" as GuestResult, done: Promise.resolve("ok" as GuestResult), data };
    issued.done = run().then(
      () => (issued.result = "ok"),
      (error: unknown) => (issued.result = errnoOf(error)),
    );
    return issued;
  }

  /** Runs a script, one request after the other, and returns how each ended. */
  async script(steps: readonly GuestStep[]): Promise<GuestResult[]> {
    const results: GuestResult[] = [];
    for (const step of steps) results.push(await this.issue(step).done);
    return results;
  }
}

/** A graph with a machine over it. */
export class TestMachine {
  readonly test: TestGraph;
  readonly machine: Machine;
  readonly events: { event: string; data: Record<string, unknown> }[] = [];

  constructor(options: { state?: RunState; strict?: boolean } = {}) {
    this.test = new TestGraph(undefined, { strictErrorPolicy: options.strict ?? false });
    const { graph } = this.test;
    this.machine = new Machine({
      graph,
      jobs: jobsOf(graph),
      ...(options.state ? { state: options.state } : {}),
    });
    graph.events.subscribe(({ event, data }) => this.events.push({ event, data }));
  }

  /** Plugs a disk of 1 MiB in, or the node named. */
  async guest(
    name: string,
    options: Partial<Omit<GuestDeviceOptions, "machine" | "name" | "node">> & {
      node?: string;
      size?: number;
      faults?: readonly Record<string, unknown>[];
    } = {},
  ): Promise<Guest> {
    const { node = `${name}-disk`, size = 1 << 20, faults, ...policy } = options;
    const root = this.test.graph.findNode(node) ?? (await this.test.disk(node, size, faults));
    return new Guest(await GuestDevice.plug({ machine: this.machine, name, node: root, ...policy }));
  }

  /** The names of the events so far, statuses and errors with what tells them apart; forgets them. */
  take(): string[] {
    return this.events.splice(0).map(({ event, data }) => {
      const { device, operation, action, status, error } = data as Record<string, string | undefined>;
      if (event === "JOB_STATUS_CHANGE") return status ?? "";
      if (event.endsWith("_ERROR")) return `${event} ${device} ${operation} ${action}`;
      return error === undefined ? event : `${event} ${error}`;
    });
  }

  idle(): Promise<void> {
    return this.test.host.clock.idle();
  }

  settle<T>(promise: T | Promise<T>): Promise<T> {
    return this.test.host.clock.settle(promise);
  }
}
